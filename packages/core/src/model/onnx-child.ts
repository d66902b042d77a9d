import { isMainThread, parentPort, SHARE_ENV, Worker, workerData } from 'node:worker_threads';
import type { InferenceSession } from 'onnxruntime-node';

/**
 * The inference process, forked by `onnx-engine.ts`, and the only file that loads ONNX Runtime.
 *
 * `session.run()` blocks its thread, so the session lives in a worker thread and the main thread keeps receiving: the next batch
 * is already here when a run ends, and the death of the parent is noticed during a run. A worker cannot be stopped in a run
 * without aborting the process (`Napi::Error`), so this process has one way to end: it kills itself when the channel closes.
 */

/** First message to the child. */
export interface LoadRequest {
  readonly graph: string;
  /** `auto`, `cpu`, `cuda:0`, `webgpu`. */
  readonly device: string;
  readonly threads: number;
  readonly inputPx: number;
}

export interface RunRequest {
  /** uint8 [count, inputPx, inputPx, 3] */
  readonly tiles: Uint8Array<ArrayBuffer>;
  readonly count: number;
  /** Outputs of the graph that are wanted; others are not computed. */
  readonly outputs: readonly string[];
}

/** One reply to the load, then one to each run, in order. */
export type Reply =
  | { readonly type: 'loaded'; readonly device: string }
  | { readonly type: 'done'; readonly outputs: readonly Float32Array[]; readonly seconds: number }
  | { readonly type: 'failed'; readonly message: string; readonly outOfMemory: boolean };

if (isMainThread) relay();
else void serve(workerData as LoadRequest);

function relay(): void {
  // The terminal sends Ctrl-C to the whole process group; when to stop is the parent's decision.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => {});
  process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
  process.env.ORT_DISABLE_TELEMETRY = '1';
  process.once('message', (load: LoadRequest) => {
    const worker = new Worker(import.meta.filename, { workerData: load, env: SHARE_ENV });
    worker.on('message', (reply: Reply) => process.send?.(reply));
    worker.on('error', (error) => {
      process.stderr.write(`${error.stack}\n`, () => process.kill(process.pid, 'SIGKILL'));
    });
    process.on('message', (run: RunRequest) => {
      // The view may share its buffer with other messages of the channel, which cannot be given away.
      const tiles = run.tiles.slice();
      worker.postMessage({ ...run, tiles } satisfies RunRequest, [tiles.buffer]);
    });
  });
}

async function serve(load: LoadRequest): Promise<void> {
  const port = parentPort!;
  const reply = (message: Reply, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);
  const { InferenceSession, Tensor } = await import('onnxruntime-node');

  const open = async (): Promise<{ session: InferenceSession; device: string }> => {
    const devices = load.device === 'auto' ? ['cuda:0', 'cpu'] : [load.device];
    for (const device of devices.slice(0, -1)) {
      try {
        return { device, session: await InferenceSession.create(load.graph, sessionOptions(device, load.threads)) };
      } catch {
        // The provider is not installed here, or has no device: ONNX Runtime throws and does not fall back by itself.
      }
    }
    const device = devices.at(-1)!;
    return { device, session: await InferenceSession.create(load.graph, sessionOptions(device, load.threads)) };
  };

  let session: InferenceSession;
  try {
    const opened = await open();
    session = opened.session;
    reply({ type: 'loaded', device: opened.device });
  } catch (error) {
    reply(failure(error));
    return;
  }

  let queue = Promise.resolve();
  port.on('message', ({ tiles, count, outputs }: RunRequest) => {
    queue = queue.then(async () => {
      try {
        const input = new Tensor('uint8', tiles, [count, load.inputPx, load.inputPx, 3]);
        const started = performance.now();
        const results = await session.run({ tiles: input }, [...outputs]);
        const seconds = (performance.now() - started) / 1000;
        const values = outputs.map((name) => results[name]!.data as Float32Array);
        reply({ type: 'done', outputs: values, seconds });
      } catch (error) {
        reply(failure(error));
      }
    });
  });
}

function sessionOptions(device: string, threads: number): InferenceSession.SessionOptions {
  const [name, index] = device.split(':') as [string, string | undefined];
  return {
    executionProviders: index === undefined ? [name] : [{ name, deviceId: Number(index) } as { name: string }],
    graphOptimizationLevel: 'all',
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Batches vary in size, which the memory pattern cache does not suit.
    enableMemPattern: false,
    logSeverityLevel: 3,
    // Spinning threads win 1-3 % on an idle machine and lose up to half where decoders share the cores.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  };
}

function failure(error: unknown): Reply {
  const message = error instanceof Error ? error.message : String(error);
  const outOfMemory = /out of memory|bad_alloc|failed to allocate|memory allocation|ALLOC_FAILED/i.test(message);
  return { type: 'failed', message, outOfMemory };
}
