import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { NightshiftError } from '../../../errors.ts';

const CHUNK_BYTES = 4 << 20;

/** A checkpoint file, read by position: its length may exceed what one buffer holds. */
export interface CheckpointFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Bytes [position, position + length) in an ArrayBuffer of their own, so that they can be viewed as any element type.
   *
   * @throws NightshiftError `weights-invalid` where the file ends before; `what` names the thing that is read
   */
  read(position: number, length: number, what: string): Promise<Buffer<ArrayBuffer>>;
  /** sha256 (hex) of all bytes; `onBytes` is told of every chunk read. */
  digest(onBytes: (bytes: number) => void): Promise<string>;
  close(): Promise<void>;
}

/** @throws NightshiftError `weights-not-found` */
export async function openFile(path: string): Promise<CheckpointFile> {
  const handle = await open(path).catch((cause: NodeJS.ErrnoException) => {
    const what = cause.code === 'ENOENT' ? 'does not exist' : `cannot be opened (${cause.code})`;
    throw new NightshiftError('weights-not-found', `${path} ${what}`, { cause });
  });
  const stats = await handle.stat();
  if (!stats.isFile()) {
    await handle.close();
    throw new NightshiftError('weights-not-found', `${path} is no file`);
  }
  return {
    path,
    size: stats.size,
    read: (position, length, what) => readExactly(handle, path, position, length, what),
    digest: (onBytes) => sha256(handle, onBytes),
    close: () => handle.close(),
  };
}

async function readExactly(handle: FileHandle, path: string, position: number, length: number, what: string) {
  const buffer = Buffer.from(new ArrayBuffer(length));
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, position + done);
    if (bytesRead === 0) {
      throw new NightshiftError('weights-invalid', `${path}: the file ended while ${what} was read`);
    }
    done += bytesRead;
  }
  return buffer;
}

async function sha256(handle: FileHandle, onBytes: (bytes: number) => void): Promise<string> {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
  for (let position = 0; ; ) {
    const { bytesRead } = await handle.read(buffer, 0, CHUNK_BYTES, position);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
    onBytes(bytesRead);
  }
}
