import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NightshiftError } from '../../../errors.ts';
import { openSafetensors } from './safetensors.ts';

/** A range of rows of a tensor: its first axis, [from, to). */
export interface Rows {
  readonly from: number;
  readonly to: number;
}

export interface TensorEntry {
  readonly shape: readonly number[];
  /** As the file names it: `F32`, `BF16`, ... */
  readonly dtype: string;
}

/** The tensors of a checkpoint, by the names of its file. Nothing is read before it is asked for. */
export interface Weights {
  /** File that was opened. */
  readonly file: string;
  /** Bytes on disk: what `digest` reads. */
  readonly size: number;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Values of a tensor (or of some of its rows), row-major, widened to float32. */
  read(name: string, rows?: Rows): Promise<Float32Array>;
  /** sha256 (hex) of the file; `onBytes` is told of every chunk read. */
  digest(onBytes: (bytes: number) => void): Promise<string>;
  close(): Promise<void>;
}

/**
 * Opens a checkpoint: a `.safetensors` file, or a directory that holds `model.safetensors`.
 *
 * @throws NightshiftError `weights-not-found`, `weights-invalid`, `weights-unsupported`
 */
export async function openWeights(path: string): Promise<Weights> {
  const file = (await isDirectory(path)) ? join(path, 'model.safetensors') : path;
  if (!file.endsWith('.safetensors')) {
    throw new NightshiftError('weights-unsupported', `${file}: only .safetensors files can be read`);
  }
  return openSafetensors(file);
}

export async function isDirectory(path: string): Promise<boolean> {
  const stats = await stat(path).catch(() => null);
  if (stats === null) throw new NightshiftError('weights-not-found', `${path} does not exist`);
  return stats.isDirectory();
}
