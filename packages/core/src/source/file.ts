import { constants, type FileHandle, open, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { NightshiftError } from '../errors.ts';
import { type Bytes, bytes } from '../units.ts';
import type { ByteRange, ByteSource } from './source.ts';

/**
 * A file as a `ByteSource`: positional reads on one handle, so a file renamed over it is read on as it was. A file that
 * is written to while it is open changes its mtime or size, which every read checks after the bytes are in.
 * Fails with `slide-not-found`, `slide-not-a-slide` (a directory, a pipe) or `slide-unreadable`.
 */
export async function openFile(path: string): Promise<ByteSource> {
  const uri = resolve(path);
  let handle: FileHandle | undefined;
  try {
    // Before `open`, which would wait for a writer where the path is a pipe.
    const kind = await stat(uri);
    if (!kind.isFile()) {
      throw new NightshiftError('slide-not-a-slide', `${uri} is ${kind.isDirectory() ? 'a directory' : 'no file'}`);
    }
    handle = await open(uri, constants.O_RDONLY);
    const stats = await handle.stat({ bigint: true });
    return new FileSource(uri, handle, bytes(Number(stats.size)), fileContentId(stats));
  } catch (error) {
    await handle?.close();
    throw asSlideError(error, uri);
  }
}

export const fileContentId = ({ size, mtimeNs }: { readonly size: bigint; readonly mtimeNs: bigint }): string =>
  `${size}-${mtimeNs}`;

class FileSource implements ByteSource {
  readonly uri: string;
  readonly size: Bytes;
  readonly contentId: string;
  readonly #handle: FileHandle;

  constructor(uri: string, handle: FileHandle, size: Bytes, contentId: string) {
    this.uri = uri;
    this.size = size;
    this.contentId = contentId;
    this.#handle = handle;
  }

  async read(ranges: readonly ByteRange[], signal?: AbortSignal): Promise<Uint8Array[]> {
    for (const { offset, length } of ranges) {
      if (offset < 0 || length < 0 || offset + length > this.size) {
        throw new NightshiftError(
          'slide-truncated',
          `${this.uri} has ${this.size} bytes; ${length} bytes from ${offset} were asked for`,
          { data: { offset, length, size: this.size } },
        );
      }
    }
    signal?.throwIfAborted();
    try {
      const parts = await Promise.all(ranges.map((range) => this.#readOne(range, signal)));
      await this.#checkUnchanged();
      return parts;
    } catch (error) {
      signal?.throwIfAborted();
      throw asSlideError(error, this.uri);
    }
  }

  async #readOne({ offset, length }: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    const out = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      signal?.throwIfAborted();
      const { bytesRead } = await this.#handle.read(out, done, length - done, offset + done);
      if (bytesRead === 0) {
        await this.#checkUnchanged();
        throw new NightshiftError('slide-truncated', `${this.uri} ends at byte ${offset + done}`);
      }
      done += bytesRead;
    }
    return out;
  }

  async #checkUnchanged(): Promise<void> {
    const now = fileContentId(await this.#handle.stat({ bigint: true }));
    if (now === this.contentId) return;
    throw new NightshiftError('slide-changed', `${this.uri} changed while it was read`, {
      data: { opened: this.contentId, now },
    });
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

function asSlideError(error: unknown, uri: string): NightshiftError {
  if (error instanceof NightshiftError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new NightshiftError('slide-not-found', `${uri} does not exist`, { cause: error });
  }
  return new NightshiftError('slide-unreadable', `${uri} cannot be read (${code || String(error)})`, { cause: error });
}
