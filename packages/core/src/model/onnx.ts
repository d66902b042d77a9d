import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { NightshiftError } from '../errors.ts';
import type { Encoder } from './encoder.ts';
import { checkModelFiles, verifyModelFile } from './info.ts';
import { loadGraph } from './onnx-engine.ts';
import { readTuned } from './tuned.ts';

export interface OpenEncoderOptions {
  /** Model directory. */
  readonly dir: string;
  /** `auto` (CUDA where it works, else the CPU), `cpu`, `cuda:0`, `webgpu`. */
  readonly device?: string;
  /** CPU threads of the engine. Default: all cores. */
  readonly threads?: number;
  /** Default: what `nightshift model bench` found best here, else what suits the device. */
  readonly maxBatch?: number;
  /** Batches that may be with the engine, the running one included. */
  readonly lookAhead?: number;
}

/** Measured on a ViT-g on CPU: 2 to 8 tiles are within noise, above 16 the caches lose. A GPU wants more. */
const MAX_BATCH = { cpu: 4, other: 64 };

/** An encoder whose engine is a child process. */
export interface OnnxEncoder extends Encoder {
  /** Process id of the engine; null while it is being started again. */
  readonly pid: number | null;
}

/**
 * Opens a model directory with ONNX Runtime, in a process of its own. The files are checked against model.json each
 * time, by size and sha256: the graph before it is loaded, the data (gigabytes) while the engine loads it.
 *
 * @throws NightshiftError `model-not-found`, `model-invalid`, `model-digest`, `device-unavailable`, `encoder-failed`; from
 * `embed`: `encoder-failed`, `encoder-out-of-memory`
 */
export async function openEncoder(options: OpenEncoderOptions): Promise<OnnxEncoder> {
  const dir = resolve(options.dir);
  const { device = 'auto', threads = availableParallelism(), lookAhead = 2 } = options;
  if (!/^(auto|cpu|webgpu|cuda(:\d+)?)$/.test(device)) {
    throw new NightshiftError('usage', `--device ${device}`, { next: 'Give auto, cpu, cuda:0 or webgpu.' });
  }
  const model = await checkModelFiles(dir);
  await verifyModelFile(dir, model.files.graph);

  const graph = join(dir, model.files.graph.name);
  const loading = loadGraph({ graph, device, threads, inputPx: model.inputPx }, lookAhead);
  const verified = verifyModelFile(dir, model.files.data);
  await Promise.allSettled([loading, verified]);
  const opened = await loading;
  await verified.catch(async (error) => {
    await opened.close();
    throw error;
  });

  const usual = opened.device === 'cpu' ? MAX_BATCH.cpu : MAX_BATCH.other;
  const maxBatch = options.maxBatch ?? (await readTuned(model.digest, opened.device))?.batch ?? usual;
  const tileBytes = model.inputPx * model.inputPx * 3;
  return {
    model,
    device: opened.device,
    maxBatch,
    lookAhead,
    get pid() {
      return opened.engine?.pid ?? null;
    },
    get busySeconds() {
      return opened.busySeconds;
    },
    embed: async (tiles, count, { patch = false } = {}) => {
      if (count < 1 || count > maxBatch || tiles.length !== count * tileBytes) {
        const message = `a batch of ${count} tiles in ${tiles.length} bytes, for at most ${maxBatch} tiles of ${tileBytes} bytes`;
        throw new NightshiftError('internal', message);
      }
      if (patch && model.patchGrid === null) {
        throw new NightshiftError('model-mismatch', `${dir} has no patch grid`, {
          next: 'Convert the model again with --patch-grid.',
        });
      }
      const outputs = patch ? ['embedding', 'patch'] : ['embedding'];
      const [embedding, grid] = await opened.run({ tiles, count, outputs });
      return grid === undefined ? { embedding: embedding! } : { embedding: embedding!, patch: grid };
    },
    close: () => opened.close(),
  };
}
