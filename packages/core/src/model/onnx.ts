import { fork } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { extname, join, resolve } from 'node:path';
import { NightshiftError } from '../errors.ts';
import { createCalls, type Engine, type EngineEvents } from './calls.ts';
import type { Encoder } from './encoder.ts';
import { checkModelFiles, verifyModelFile } from './info.ts';
import type { LoadRequest, Reply, RunRequest } from './onnx-child.ts';

export interface OpenEncoderOptions {
  /** Model directory. */
  readonly dir: string;
  /** `auto` (CUDA where it works, else the CPU), `cpu`, `cuda:0`, `webgpu`. */
  readonly device?: string;
  /** CPU threads of the engine. Default: all cores. */
  readonly threads?: number;
  readonly maxBatch?: number;
  /** Batches that may be with the engine, the running one included. */
  readonly lookAhead?: number;
  /** Also give the output `patch`. */
  readonly patch?: boolean;
}

/** Measured on a ViT-g on CPU: 2 to 8 tiles are within noise, above 16 the caches lose. A GPU wants more. */
const MAX_BATCH = { cpu: 4, other: 64 };

const STDERR_TAIL = 2000;

/** An encoder whose engine is a child process. */
export interface OnnxEncoder extends Encoder {
  /** Process id of the engine; null while it is being started again. */
  readonly pid: number | null;
}

/**
 * Opens a model directory with ONNX Runtime, in a forked process (`onnx-child.ts`). The files are checked against model.json each
 * time, by size and sha256: the graph before it is loaded, the data (gigabytes) while the engine loads it.
 *
 * @throws NightshiftError `model-not-found`, `model-invalid`, `model-digest`, `device-unavailable`, `encoder-failed`; from
 * `embed`: `encoder-failed`, `encoder-out-of-memory`
 */
export async function openEncoder(options: OpenEncoderOptions): Promise<OnnxEncoder> {
  const dir = resolve(options.dir);
  const { device = 'auto', threads = availableParallelism(), lookAhead = 2, patch = false } = options;
  if (!/^(auto|cpu|webgpu|cuda(:\d+)?)$/.test(device)) {
    throw new NightshiftError('usage', `--device ${device}`, { next: 'Give auto, cpu, cuda:0 or webgpu.' });
  }
  const model = await checkModelFiles(dir);
  if (patch && model.patchGrid === null) {
    throw new NightshiftError('model-mismatch', `${dir} has no patch grid`, {
      next: 'Convert the model again with --patch-grid.',
    });
  }
  await verifyModelFile(dir, model.files.graph);

  const load: LoadRequest = {
    graph: join(dir, model.files.graph.name),
    device,
    threads,
    outputs: patch ? ['embedding', 'patch'] : ['embedding'],
    inputPx: model.inputPx,
  };
  let used = device;
  const calls = createCalls(async (events) => {
    const engine = await startEngine({ ...load, device: used }, events);
    used = engine.device;
    return engine;
  }, lookAhead);
  const verified = verifyModelFile(dir, model.files.data);
  await Promise.allSettled([calls, verified]);
  const opened = await calls;
  await verified.catch(async (error) => {
    await opened.close();
    throw error;
  });

  const maxBatch = options.maxBatch ?? (used === 'cpu' ? MAX_BATCH.cpu : MAX_BATCH.other);
  const tileBytes = model.inputPx * model.inputPx * 3;
  return {
    model,
    device: used,
    maxBatch,
    lookAhead,
    get pid() {
      return opened.engine?.pid ?? null;
    },
    get busySeconds() {
      return opened.busySeconds;
    },
    embed: async (tiles, count) => {
      if (count < 1 || count > maxBatch || tiles.length !== count * tileBytes) {
        const message = `a batch of ${count} tiles in ${tiles.length} bytes, for at most ${maxBatch} tiles of ${tileBytes} bytes`;
        throw new NightshiftError('internal', message);
      }
      const [embedding, grid] = await opened.run({ tiles, count });
      return grid === undefined ? { embedding: embedding! } : { embedding: embedding!, patch: grid };
    },
    close: () => opened.close(),
  };
}

/** Forks the engine and waits until it has loaded the model. */
async function startEngine(load: LoadRequest, { onOutcome, onDeath }: EngineEvents): Promise<Engine> {
  const child = fork(join(import.meta.dirname, `onnx-child${extname(import.meta.filename)}`), {
    serialization: 'advanced',
    // A parent under a test runner or a debugger has flags that are not for the child.
    execArgv: [],
    env: childEnvironment(process.env),
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let stderr = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-STDERR_TAIL);
  });
  const { promise: exited, resolve: tellExit } = Promise.withResolvers<string>();
  child.once('exit', (code, signal) => {
    const how = signal ? `killed by ${signal}` : `exit code ${code}`;
    tellExit(stderr.trim() ? `${how}: ${stderr.trim()}` : how);
  });
  // A process that cannot be started gives no exit.
  child.once('error', (error) => tellExit(error.message));
  const stop = async () => {
    if (child.connected) child.disconnect();
    await exited;
  };

  child.send(load, () => {});
  const { promise: replied, resolve: tellReply } = Promise.withResolvers<Reply>();
  child.once('message', tellReply);
  const first = await Promise.race([replied, exited]);
  if (typeof first === 'string') {
    throw new NightshiftError('encoder-failed', `the inference process ended while it loaded ${load.graph} (${first})`);
  }
  if (first.type !== 'loaded') {
    await stop();
    throw loadError(load, first);
  }
  // 'dead' from the moment of the exit: a reply that is still in the channel must not be taken for the next engine's.
  let state: 'alive' | 'stopping' | 'dead' = 'alive';
  child.on('message', (reply: Reply) => {
    if (state !== 'dead' && reply.type !== 'loaded') onOutcome(reply);
  });
  void exited.then((why) => {
    const expected = state === 'stopping';
    state = 'dead';
    if (!expected) onDeath(why);
  });
  return {
    pid: child.pid ?? null,
    device: first.device,
    // A send that fails means that the child is gone, which `exited` tells.
    post: ({ tiles, count }) => child.send({ tiles, count } as RunRequest, () => {}),
    stop: () => {
      state = 'stopping';
      return stop();
    },
  };
}

function loadError({ graph, device }: LoadRequest, reply: Reply): NightshiftError {
  const { message, outOfMemory } = reply as Extract<Reply, { type: 'failed' }>;
  const code = outOfMemory
    ? 'encoder-out-of-memory'
    : /^(auto|cpu)$/.test(device)
      ? 'encoder-failed'
      : 'device-unavailable';
  return new NightshiftError(code, `${graph} cannot be loaded on ${device}: ${message}`);
}

const SECRET = /^(AWS|REDIS|AZURE|GOOGLE|HF|NIGHTSHIFT)_|TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY/i;

/** What the child inherits: no credentials, no flags of the parent's Node, and ONNX Runtime's telemetry off. */
export function childEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(([name]) => !SECRET.test(name) && name !== 'NODE_OPTIONS');
  return { ...Object.fromEntries(kept), ORT_DISABLE_TELEMETRY: '1' };
}
