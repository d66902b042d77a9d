import { createHash, randomBytes } from 'node:crypto';
import { isNightshiftError, NightshiftError } from '../errors.ts';
import { type ObjectErrors, objectSource } from '../source/s3.ts';
import type { S3, S3Part } from '../source/s3-client.ts';
import { parseS3Uri, type S3Location, s3Uri } from '../source/s3-config.ts';
import { type Blobs, type Body, checkKey } from './blobs.ts';

/** A body of up to this many bytes is one request; a longer one goes in parts of this size. S3 takes 5 MiB to 5 GiB, 10,000 of them. */
const PART_BYTES = 8 << 20;
/** Parts on their way at once; with the two that are being filled, what a body of any length takes of memory. */
const PARTS_AT_ONCE = 3;
/** Where claims lie. Listed only when asked for by this prefix. */
const CLAIMS = '.claims/';
/** What a process left that died while it wrote is removed after this long: nothing tells the dead from the slow. */
const LEFTOVER_LIFE_MS = 24 * 3600 * 1000;

/** The parts of one complete upload: whoever reads it can publish them. */
interface Claim {
  readonly upload: string;
  readonly parts: readonly S3Part[];
  /** ISO time. */
  readonly made: string;
}

/**
 * Blobs under a prefix of a bucket. Promised, as on disk: a name shows nothing or all of a body, and the first writer wins.
 *
 * - A body of one request is put with `If-None-Match: *`: 412 is `exists`, 409 (a race) is asked again. An answer that is lost
 *   after the write landed is asked again too, and then reads `exists`: the content is there once, whoever is told that it won.
 * - A longer body is uploaded in parts, which nobody sees. Stores differ in whether completing an upload heeds a condition
 *   (Ceph's radosgw 16 does not), so none is asked of them: the parts of one writer are chosen by a claim, a small object put
 *   with `If-None-Match: *`, and every writer that meets a claim publishes the claimed parts, not its own. So one killed between
 *   its claim and its upload's completion stops nobody, and nobody overwrites. A claim whose upload is gone and has published
 *   nothing is dead, for ever and for all: the next one up is claimed instead.
 *
 * Not promised: that a `delete` and a `putIfAbsent` of the same name at the same time come out in any order. A record writes
 * no name again that it has deleted, but where two workers make the same shard twice.
 */
export async function s3Blobs(uri: string, client: S3): Promise<Blobs> {
  const { bucket, key: folder } = parseS3Uri(uri.replace(/\/+$/, ''));
  const prefix = folder === '' ? '' : `${folder}/`;
  const root = `s3://${bucket}/${prefix}`.replace(/\/$/, '');
  const raw = (key: string): S3Location => ({ bucket, key: prefix + key });
  const placeOf = (key: string): S3Location => raw(checkKey(key, CLAIMS));
  let swept: Promise<void> | null = null;

  async function publish(at: S3Location, body: Body, ifAbsent: boolean): Promise<'written' | 'exists'> {
    const parts = partsOf(body);
    const first = (await parts.next()).value;
    if (first === undefined || first.last) {
      return client.put(at, first?.bytes ?? new Uint8Array(0), { ifAbsent }).catch((error) => {
        throw writeError(error, at);
      });
    }
    if (ifAbsent && (await client.head(at)) !== null) return 'exists';
    swept ??= sweep().catch(() => undefined);
    await swept;
    const upload = await client.uploads.begin(at);
    try {
      const sent = await sendParts(at, upload, first.bytes, parts);
      const result = ifAbsent ? await publishClaimed(at, upload, sent) : await complete(at, upload, sent);
      if (result === 'written') return result;
    } catch (error) {
      await client.uploads.abort(at, upload).catch(() => undefined);
      throw writeError(error, at);
    }
    await client.uploads.abort(at, upload);
    return 'exists';
  }

  async function sendParts(
    at: S3Location,
    upload: string,
    first: Uint8Array,
    rest: AsyncIterable<{ readonly bytes: Uint8Array }>,
  ): Promise<S3Part[]> {
    const sent: Promise<S3Part>[] = [];
    const flying = new Set<Promise<unknown>>();
    const send = async (bytes: Uint8Array): Promise<void> => {
      const part = client.uploads.part(at, upload, sent.length + 1, bytes);
      sent.push(part);
      const landed = part.finally(() => flying.delete(landed));
      landed.catch(() => undefined);
      flying.add(landed);
      if (flying.size >= PARTS_AT_ONCE) await Promise.race(flying);
    };
    try {
      await send(first);
      for await (const { bytes } of rest) await send(bytes);
      return await Promise.all(sent);
    } catch (error) {
      // An upload is aborted once nothing is on its way any more: a part that lands later would stay, and be paid for.
      await Promise.allSettled(sent);
      throw error;
    }
  }

  async function complete(at: S3Location, upload: string, parts: readonly S3Part[]): Promise<'written'> {
    const done = await client.uploads.complete(at, upload, parts);
    // Gone: a first request completed it and its answer was lost.
    if (done === 'absent' && (await client.head(at)) === null) throw lost(at);
    return 'written';
  }

  async function publishClaimed(
    at: S3Location,
    upload: string,
    parts: readonly S3Part[],
  ): Promise<'written' | 'exists'> {
    const mine: Claim = { upload, parts, made: new Date().toISOString() };
    const name = createHash('sha256').update(at.key).digest('hex').slice(0, 32);
    for (let turn = 0; ; turn++) {
      const claim = raw(`${CLAIMS}${name}-${turn}`);
      await client.put(claim, Buffer.from(JSON.stringify(mine)), { ifAbsent: true });
      const held = await client.get(claim);
      // Whoever removed it had seen the name published.
      const chosen = held && (JSON.parse(Buffer.from(held).toString()) as Claim);
      // Asked after the claim: one that was published and unclaimed before is seen here.
      const published = (await client.head(at)) !== null;
      if (!published) {
        if (chosen === null) throw lost(at);
        const done = await client.uploads.complete(at, chosen.upload, chosen.parts);
        if (done === 'absent' && (await client.head(at)) === null) {
          if (chosen.upload === upload) throw lost(at);
          continue;
        }
      }
      for (let old = 0; old <= turn; old++) await client.delete(raw(`${CLAIMS}${name}-${old}`));
      return !published && chosen?.upload === upload ? 'written' : 'exists';
    }
  }

  /** Removes what processes left that died while writing. */
  async function sweep(): Promise<void> {
    const old = (date: Date) => Date.now() - date.getTime() > LEFTOVER_LIFE_MS;
    for (const { key, upload, begun } of await client.uploads.open(raw(''))) {
      if (old(begun)) await client.uploads.abort({ bucket, key }, upload);
    }
    for await (const { key } of pages(CLAIMS)) {
      const held = await client.get(raw(key));
      if (held && old(new Date((JSON.parse(Buffer.from(held).toString()) as Claim).made)))
        await client.delete(raw(key));
    }
  }

  async function* pages(under: string): AsyncGenerator<{ readonly key: string; readonly size: number }> {
    let after: string | undefined;
    do {
      const { objects, next } = await client.list(raw(under), after);
      for (const { key, size } of objects) yield { key: key.slice(prefix.length), size };
      after = next;
    } while (after !== undefined);
  }

  const blobs: Blobs = {
    uri: root,
    get: async (key) => client.get(placeOf(key)),

    async open(key) {
      const at = placeOf(key);
      const found = await client.head(at);
      return found && objectSource(client, at, s3Uri(at), found, RECORD_ERRORS);
    },

    putIfAbsent: async (key, body) => publish(placeOf(key), body, true),

    async put(key, body) {
      await publish(placeOf(key), body, false);
    },

    async *list(under) {
      for await (const entry of pages(under)) {
        // A console makes objects that end in a slash, to show an empty folder.
        if (!entry.key.startsWith(CLAIMS) && !entry.key.endsWith('/')) yield entry;
      }
    },

    async delete(key) {
      const at = placeOf(key);
      await client.delete(at).catch((error) => {
        throw writeError(error, at);
      });
    },

    async probe() {
      const key = `probe-${randomBytes(8).toString('hex')}`;
      const content = Buffer.from(key);
      try {
        await blobs.putIfAbsent(key, content);
        if ((await blobs.putIfAbsent(key, Buffer.from('a second writer'))) !== 'exists') {
          throw new NightshiftError('out-no-put-if-absent', `${root}: a second PUT with If-None-Match: * was taken`);
        }
        const back = await blobs.get(key);
        if (!back || Buffer.compare(back, content) !== 0) {
          throw new NightshiftError('out-not-writable', `${root}: an object written there did not read back`);
        }
      } finally {
        await client.delete(raw(key)).catch(() => undefined);
      }
    },
  };
  return blobs;
}

/** A body in pieces of `PART_BYTES`, the last one shorter and marked: known as such before it is handed out. */
async function* partsOf(body: Body): AsyncGenerator<{ readonly bytes: Uint8Array; readonly last: boolean }> {
  if (body instanceof Uint8Array) {
    let at = 0;
    for (; body.length - at > PART_BYTES; at += PART_BYTES) {
      yield { bytes: body.subarray(at, at + PART_BYTES), last: false };
    }
    yield { bytes: body.subarray(at), last: true };
    return;
  }
  let part = new Uint8Array(PART_BYTES);
  let filled = 0;
  for await (const chunk of body) {
    for (let from = 0; from < chunk.length; ) {
      if (filled === PART_BYTES) {
        yield { bytes: part, last: false };
        part = new Uint8Array(PART_BYTES);
        filled = 0;
      }
      const piece = chunk.subarray(from, from + PART_BYTES - filled);
      part.set(piece, filled);
      filled += piece.length;
      from += piece.length;
    }
  }
  yield { bytes: part.subarray(0, filled), last: true };
}

const RECORD_ERRORS: ObjectErrors = {
  outside: (uri, { offset, length }, size) =>
    new NightshiftError('record-corrupt', `${uri}: ends at byte ${size}, before ${offset + length}`),
  gone: (uri) => new NightshiftError('record-unreadable', `${uri} was removed while it was read`),
  changed: (uri) => new NightshiftError('record-unreadable', `${uri} was replaced while it was read`),
};

const lost = (at: S3Location): NightshiftError =>
  new NightshiftError('s3-unavailable', `put ${s3Uri(at)}: its upload was removed before it was complete`);

function writeError(error: unknown, at: S3Location): unknown {
  if (!(error instanceof NightshiftError)) return error;
  const { status, s3Code } = error.data;
  if (error.code === 's3-refused' && (status === 501 || s3Code === 'NotImplemented')) {
    return new NightshiftError(
      'out-no-put-if-absent',
      `${s3Uri(at)}: PUT with If-None-Match is not implemented there`,
      {
        cause: error,
      },
    );
  }
  if (!isNightshiftError(error, 's3-forbidden')) return error;
  return new NightshiftError('out-not-writable', `cannot write ${s3Uri(at)} (${status} ${s3Code})`, {
    cause: error,
    next: 'Ask for s3:PutObject and s3:DeleteObject on it.',
  });
}
