import { NightshiftError } from '../../../errors.ts';

/** A range of rows of a tensor: its first axis, [from, to). */
export interface Rows {
  readonly from: number;
  readonly to: number;
}

export interface TensorEntry {
  readonly shape: readonly number[];
  /** As safetensors names it: `F32`, `BF16`, ... */
  readonly dtype: string;
}

/** The tensors of a checkpoint, by the names of its file. Nothing is read before it is asked for. */
export interface Weights {
  /** File that was opened; the index where the checkpoint is several files. */
  readonly file: string;
  /** Bytes on disk: what `digest` reads. */
  readonly size: number;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Values of a tensor (or of some of its rows), row-major, widened to float32. */
  read(name: string, rows?: Rows): Promise<Float32Array>;
  /**
   * sha256 (hex) of the file; of several files, over the lines of their sha256, the index first, then by name. `onBytes` is
   * told of every chunk read.
   */
  digest(onBytes: (bytes: number) => void): Promise<string>;
  close(): Promise<void>;
}

const MAX_NAME = 500;

/**
 * Names come from files and go to terminals: a control character in one is no accident.
 *
 * @throws NightshiftError `weights-invalid`
 */
export function checkTensorName(file: string, name: string): void {
  if (name.length <= MAX_NAME && !/\p{Cc}/u.test(name)) return;
  throw new NightshiftError('weights-invalid', `${file}: ${JSON.stringify(name.slice(0, 60))} is no name of a tensor`);
}
