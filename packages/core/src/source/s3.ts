import { isNightshiftError, NightshiftError } from '../errors.ts';
import { bytes } from '../units.ts';
import { coalesce } from './ranges.ts';
import type { S3, S3Object } from './s3-client.ts';
import { parseS3Uri, type S3Location } from './s3-config.ts';
import type { ByteRange, ByteSource } from './source.ts';

/** Neighbouring ranges are one request: each costs the client about a millisecond of CPU and the store a round trip. */
const JOIN = { maxGap: 65_536, maxLength: 1 << 20 } as const;
/** A longer range is read in pieces side by side. */
const PIECE_BYTES = 8 << 20;

/** What a source says for each thing that can be wrong with its object. */
export interface ObjectErrors {
  /** A range leaves the object. */
  outside(uri: string, range: ByteRange, size: number): NightshiftError;
  gone(uri: string): NightshiftError;
  changed(uri: string): NightshiftError;
}

const SLIDE_ERRORS: ObjectErrors = {
  outside: (uri, { offset, length }, size) =>
    new NightshiftError('slide-truncated', `${uri} has ${size} bytes; ${length} bytes from ${offset} were asked for`, {
      data: { offset, length, size },
    }),
  gone: (uri) => new NightshiftError('slide-changed', `${uri} was removed while it was read`),
  changed: (uri) => new NightshiftError('slide-changed', `${uri} was replaced while it was read`),
};

/**
 * An object as a `ByteSource`. Every request names the ETag that the object had when it was opened, so that bytes of two versions
 * never mix: an object that is replaced makes `read` fail with `slide-changed`.
 * Fails with `slide-not-found`, `slide-forbidden`, `slide-archived`, and the `s3-` errors, which are no matter of one slide.
 */
export async function openS3(uri: string, client: S3): Promise<ByteSource> {
  const at = parseS3Uri(uri);
  if (at.key === '' || at.key.endsWith('/')) {
    throw new NightshiftError('slide-unsupported', `${uri} is a folder: slides of many files cannot be read yet`);
  }
  const found = await client.head(at).catch((error) => {
    throw slideError(error, uri);
  });
  if (found === null) throw new NightshiftError('slide-not-found', `there is no ${uri}`);
  if (found.etag === '') {
    throw new NightshiftError(
      'slide-unsupported',
      `${uri} has no ETag, so that no version of it could be told from another`,
      {
        next: 'Put the object there through S3, not into the folder behind it.',
      },
    );
  }
  const source = objectSource(client, at, uri, found, SLIDE_ERRORS);
  return {
    ...source,
    read: (ranges, signal) =>
      source.read(ranges, signal).catch((error) => {
        throw slideError(error, uri);
      }),
  };
}

/** Of an object's version: what a listing says of it too, so that nobody has to ask again. */
export const contentIdOf = ({ etag, size }: S3Object): string => `${etag.replaceAll('"', '')}-${size}`;

/** The bytes of one version of an object. */
export function objectSource(
  client: S3,
  at: S3Location,
  uri: string,
  object: S3Object,
  errors: ObjectErrors,
): ByteSource {
  const { size, etag } = object;

  async function readInto(offset: number, target: Uint8Array, signal: AbortSignal): Promise<void> {
    const answer = await client.read(at, { offset, target, etag }, signal);
    if (answer === 'absent') throw errors.gone(uri);
    if (answer === 'changed') throw errors.changed(uri);
  }

  return {
    uri,
    size: bytes(size),
    contentId: contentIdOf(object),
    async read(ranges, signal) {
      for (const range of ranges) {
        const { offset, length } = range;
        if (offset < 0 || length < 0 || offset + length > size) throw errors.outside(uri, range, size);
      }
      signal?.throwIfAborted();
      const joined = coalesce(ranges, JOIN);
      const buffers = joined.reads.map(({ length }) => new Uint8Array(length));
      // The first failure ends the rest: their bytes are wanted by nobody.
      const failed = new AbortController();
      const stop = signal ? AbortSignal.any([signal, failed.signal]) : failed.signal;
      const pieces = joined.reads.flatMap(({ offset }, i) =>
        piecesOf(buffers[i]!).map((target) => readInto(offset + target.byteOffset, target, stop)),
      );
      try {
        await Promise.all(pieces);
      } catch (error) {
        failed.abort();
        await Promise.allSettled(pieces);
        throw error;
      }
      return ranges.map(({ length }, i) => {
        const buffer = buffers[joined.read[i]!]!;
        const from = joined.offset[i]!;
        const shared = ranges.length > joined.reads.length || buffer.length !== length;
        return shared ? buffer.slice(from, from + length) : buffer;
      });
    },
    close: async () => {},
  };
}

const piecesOf = (buffer: Uint8Array): Uint8Array[] =>
  Array.from({ length: Math.ceil(buffer.length / PIECE_BYTES) }, (_, i) =>
    buffer.subarray(i * PIECE_BYTES, (i + 1) * PIECE_BYTES),
  );

/** A refusal of one object is that slide's matter; the rest of the slides may be open. */
function slideError(error: unknown, uri: string): unknown {
  if (!isNightshiftError(error, 's3-forbidden')) return error;
  const archived = error.data.s3Code === 'InvalidObjectState';
  return new NightshiftError(
    archived ? 'slide-archived' : 'slide-forbidden',
    archived ? `${uri} lies in an archive class` : `${uri} may not be read (${error.data.status} ${error.data.s3Code})`,
    { cause: error, data: error.data },
  );
}
