import type { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { NightshiftError } from '../errors.ts';
import { hedged } from './hedge.ts';
import { type S3Config, type S3Location, s3Uri } from './s3-config.ts';
import { classify, isForeign, type RetryReason, type StatusClass, toS3Error, transportError } from './s3-errors.ts';
import { throttle } from './throttle.ts';

export type S3Operation = 'head' | 'get' | 'list' | 'put' | 'delete' | 'multipart';

/** Told of every request as it ends; what it counts is the observer's matter. */
export interface S3Observer {
  request(operation: S3Operation, statusClass: StatusClass): void;
  /** Bytes of object content that were received, whatever became of them. */
  bytes(count: number): void;
  retry(reason: RetryReason): void;
}

/** Silence that is waited for, and how often a request is made. Tests set it shorter. */
export interface S3Patience {
  readonly connectMs: number;
  /** From the request to the first byte of the answer. */
  readonly firstByteMs: number;
  /** A read without an answer after this long is asked for once more, on another connection. */
  readonly hedgeMs: number;
  /** An answer that brings less than `PROGRESS_BYTES` in this time is given up. */
  readonly stallMs: number;
  readonly tries: number;
  /** The n-th pause is random, up to `backoffMs * 2^(n-1)` and never above the cap (full jitter). */
  readonly backoffMs: number;
  readonly backoffCapMs: number;
}

const PATIENCE: S3Patience = {
  connectMs: 3_000,
  firstByteMs: 5_000,
  hedgeMs: 2_000,
  stallMs: 10_000,
  tries: 8,
  backoffMs: 250,
  backoffCapMs: 20_000,
};
const PROGRESS_BYTES = 16_384;
/** A slower line than this is taken for a broken one while it sends. */
const SLOWEST_UPLOAD = 256 * 1024;
/** The store joins the parts of an upload before it answers. */
const JOIN_MS = 60_000;
/** A store that ignores `Range` sends from the start; up to here that is read and dropped. */
const SKIP_LIMIT = 16 * 1024 * 1024;

export interface S3Options {
  readonly observer?: S3Observer;
  readonly patience?: Partial<S3Patience>;
}

export interface S3Object {
  readonly key: string;
  readonly size: number;
  /** As the store writes it, quotes and all. */
  readonly etag: string;
}

export interface S3Part {
  readonly number: number;
  readonly etag: string;
}

/**
 * An S3 store. Every request is bounded in time, made again where that may help, and counted; how many run at once is found out
 * by trying, one limit for all that use the client. Answers that a caller plans for are values; the rest are errors of the
 * `s3-` family: `s3-unavailable` when patience is at its end, and the permanent ones at once.
 */
export interface S3 {
  readonly config: S3Config;
  /** null: there is none. */
  head(at: S3Location, signal?: AbortSignal): Promise<S3Object | null>;
  /** The whole content; null: there is none. */
  get(at: S3Location, signal?: AbortSignal): Promise<Uint8Array | null>;
  /** Fills `target` with the bytes from `offset`, of the version `etag` and of no other. */
  read(
    at: S3Location,
    range: { readonly offset: number; readonly target: Uint8Array; readonly etag: string },
    signal?: AbortSignal,
  ): Promise<'read' | 'absent' | 'changed'>;
  /** With `ifAbsent`, a second `exists` may also be one's own write whose answer was lost. */
  put(at: S3Location, body: Uint8Array, options?: { readonly ifAbsent?: boolean }): Promise<'written' | 'exists'>;
  delete(at: S3Location): Promise<void>;
  /** One page of the keys under a prefix, in the order of their bytes. */
  list(
    at: S3Location,
    after?: string,
    signal?: AbortSignal,
  ): Promise<{ readonly objects: readonly S3Object[]; readonly next: string | undefined }>;
  readonly uploads: {
    begin(at: S3Location): Promise<string>;
    part(at: S3Location, upload: string, number: number, body: Uint8Array): Promise<S3Part>;
    /** `absent`: there is no such upload any more: it was completed or aborted. */
    complete(at: S3Location, upload: string, parts: readonly S3Part[]): Promise<'written' | 'absent'>;
    abort(at: S3Location, upload: string): Promise<void>;
    /** Uploads under a prefix that nobody completed: the first page. */
    open(at: S3Location): Promise<readonly { readonly key: string; readonly upload: string; readonly begun: Date }[]>;
  };
  close(): void;
}

interface Call<A> {
  readonly operation: S3Operation;
  readonly at: S3Location;
  /** Statuses that are answers here, by what they mean. */
  readonly answers?: Readonly<Record<number, A>>;
  readonly signal?: AbortSignal | undefined;
}

export function connectS3(config: S3Config, options: S3Options = {}): S3 {
  const patience = { ...PATIENCE, ...options.patience };
  const { observer } = options;
  const lanes = throttle();
  const sdk = new S3Client({
    ...(config.endpoint !== null && { endpoint: config.endpoint }),
    ...(config.region !== null && { region: config.region }),
    forcePathStyle: config.pathStyle,
    requestChecksumCalculation: config.requestChecksums,
    responseChecksumValidation: config.responseChecksums,
    // Retried here: where the SDK did it too, eight tries would be twenty-four.
    maxAttempts: 1,
    requestHandler: {
      connectionTimeout: patience.connectMs,
      // More than ever run at once: what waits, waits in the throttle, where no deadline counts.
      httpAgent: { keepAlive: true, maxSockets: 256 },
      httpsAgent: { keepAlive: true, maxSockets: 256 },
    },
    ...(config.noSignRequest && {
      credentials: { accessKeyId: '', secretAccessKey: '' },
      signer: { sign: async (request) => request },
    }),
  });
  const payer = config.requesterPays ? { RequestPayer: 'requester' as const } : {};
  const place = ({ bucket, key }: S3Location) => ({ Bucket: bucket, Key: key, ...payer });

  /** Runs `once` until it ends well, in an answer, in an error that stays, or without patience. */
  async function call<T, A = never>(
    { operation, at, answers, signal }: Call<A>,
    once: () => Promise<T>,
  ): Promise<T | A> {
    const doing = `${operation} ${s3Uri(at)}`;
    for (let tried = 1; ; tried++) {
      const leave = await lanes.enter(signal);
      let wait: number;
      try {
        // Outside of every deadline: the chain may ask a service, once in a while. The SDK keeps what it finds.
        if (!config.noSignRequest) await sdk.config.credentials();
        const result = await once();
        leave('good');
        observer?.request(operation, '2xx');
        return result;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof NightshiftError) throw error;
        const failure = classify(error);
        leave(failure.slow ? 'slow' : 'other');
        if (isForeign(failure)) throw error;
        observer?.request(operation, failure.statusClass);
        const answer = failure.code === 'NoSuchBucket' ? undefined : answers?.[failure.status];
        if (answer !== undefined) return answer;
        if (failure.retry === null || tried >= patience.tries) throw toS3Error(failure, doing, error);
        observer?.retry(failure.retry);
        const most = Math.min(patience.backoffCapMs, patience.backoffMs * 2 ** (tried - 1));
        wait = Math.max(Math.random() * most, Math.min(failure.retryAfterMs, patience.backoffCapMs));
      } finally {
        leave('other');
      }
      await pause(wait, undefined, signal ? { signal } : undefined).catch(() => signal?.throwIfAborted());
    }
  }

  /** A read: asked for twice where the answer is late. */
  const ask = <T>(
    send: (abortSignal: AbortSignal) => Promise<T>,
    discard: (answer: T) => void,
    signal?: AbortSignal,
  ) => {
    let leaveSecond: ((outcome: 'other') => void) | null = null;
    return hedged(send, discard, {
      deadlineMs: patience.firstByteMs,
      hedgeMs: patience.hedgeMs,
      signal,
      mayHedge: () => {
        leaveSecond = lanes.tryEnter();
        return leaveSecond !== null;
      },
      late: () => transportError('timeout', `no answer within ${patience.firstByteMs} ms`),
    }).finally(() => leaveSecond?.('other'));
  };

  /** A write: one request, given the time that its bytes need on a slow line. */
  async function send<T>(
    run: (abortSignal: AbortSignal) => Promise<T>,
    size = 0,
    least = patience.firstByteMs,
  ): Promise<T> {
    const ms = least + patience.stallMs + (size / SLOWEST_UPLOAD) * 1000;
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), ms);
    try {
      return await run(controller.signal);
    } catch (error) {
      throw controller.signal.aborted ? transportError('timeout', `no answer within ${Math.round(ms)} ms`) : error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Reads a body into `target`, from `done` on, and says how far it came: also where it breaks off. */
  async function drain(
    body: Readable,
    target: Uint8Array,
    done: number,
    skip: number,
    signal?: AbortSignal,
  ): Promise<{ readonly done: number; readonly broken: unknown }> {
    let received = 0;
    let seen = 0;
    const watch = setInterval(() => {
      if (received - seen < PROGRESS_BYTES) {
        body.destroy(transportError('stall', `${received - seen} bytes within ${patience.stallMs} ms`));
      }
      seen = received;
    }, patience.stallMs);
    const abort = () => body.destroy(transportError('connection', 'aborted'));
    signal?.addEventListener('abort', abort, { once: true });
    try {
      if (signal?.aborted) abort();
      for await (const chunk of body as AsyncIterable<Uint8Array>) {
        received += chunk.length;
        observer?.bytes(chunk.length);
        const from = Math.min(skip, chunk.length);
        skip -= from;
        const part = chunk.subarray(from, from + target.length - done);
        target.set(part, done);
        done += part.length;
        if (done === target.length) break;
      }
      const broken =
        done < target.length ? transportError('short-body', `ends ${target.length - done} bytes early`) : null;
      return { done, broken };
    } catch (broken) {
      return { done, broken };
    } finally {
      clearInterval(watch);
      signal?.removeEventListener('abort', abort);
      body.destroy();
    }
  }

  const discard = ({ Body }: { readonly Body?: unknown }) => (Body as Readable | undefined)?.destroy();

  /** The region of an error that came without a body, read from the answer to the same question asked with GET. */
  async function explain(at: S3Location, signal?: AbortSignal): Promise<void> {
    await call({ operation: 'get', at, signal }, () =>
      ask(
        (abortSignal) => sdk.send(new GetObjectCommand({ ...place(at), Range: 'bytes=0-0' }), { abortSignal }),
        discard,
        signal,
      ).then(discard),
    );
  }

  const store: S3 = {
    config,

    async head(at, signal) {
      try {
        return await call({ operation: 'head', at, signal, answers: { 404: null } }, async () => {
          const found = await ask(
            (abortSignal) => sdk.send(new HeadObjectCommand(place(at)), { abortSignal }),
            () => {},
            signal,
          );
          return { key: at.key, size: found.ContentLength ?? 0, etag: found.ETag ?? '' };
        });
      } catch (error) {
        if (error instanceof NightshiftError && error.data.s3Code === '' && !error.retry) await explain(at, signal);
        throw error;
      }
    },

    async get(at, signal) {
      let target: Uint8Array | null = null;
      let done = 0;
      let etag = '';
      return call({ operation: 'get', at, signal, answers: { 404: null } }, async () => {
        // What a broken answer brought is kept: the next one goes on from there, if it is still the same object.
        const resume = target !== null && done > 0 ? { Range: `bytes=${done}-`, IfMatch: etag } : {};
        const answer = await ask(
          (abortSignal) => sdk.send(new GetObjectCommand({ ...place(at), ...resume }), { abortSignal }),
          discard,
          signal,
        ).catch((error) => {
          if (classify(error).status === 412 || classify(error).status === 416) {
            target = null;
            throw transportError('conflict', 'replaced while it was read');
          }
          throw error;
        });
        if (target === null || answer.$metadata.httpStatusCode !== 206) {
          target = new Uint8Array(answer.ContentLength ?? 0);
          done = 0;
          etag = answer.ETag ?? '';
        }
        const end = await drain(answer.Body as Readable, target, done, 0, signal);
        done = end.done;
        if (end.broken) throw end.broken;
        return target;
      });
    },

    async read(at, { offset, target, etag }, signal) {
      if (target.length === 0) return 'read';
      let done = 0;
      const answers = { 404: 'absent', 412: 'changed', 416: 'changed' } as const;
      return call<'read' | 'changed', 'absent' | 'changed'>({ operation: 'get', at, signal, answers }, async () => {
        const from = offset + done;
        const Range = `bytes=${from}-${offset + target.length - 1}`;
        const answer = await ask(
          (abortSignal) => sdk.send(new GetObjectCommand({ ...place(at), Range, IfMatch: etag }), { abortSignal }),
          discard,
          signal,
        );
        if (answer.ETag !== undefined && answer.ETag !== etag) {
          discard(answer);
          return 'changed';
        }
        const whole = answer.$metadata.httpStatusCode === 200;
        const starts = /^bytes (\d+)-/.exec(answer.ContentRange ?? '')?.[1];
        if (whole ? from > SKIP_LIMIT : starts !== undefined && Number(starts) !== from) {
          discard(answer);
          throw transportError('wrong-range', `asked for ${Range}, got ${answer.ContentRange ?? 'the whole object'}`);
        }
        const end = await drain(answer.Body as Readable, target, done, whole ? from : 0, signal);
        done = end.done;
        if (end.broken) throw end.broken;
        return 'read';
      });
    },

    put(at, body, { ifAbsent = false } = {}) {
      const condition = ifAbsent ? { IfNoneMatch: '*' } : {};
      return call<'written', 'exists'>(
        { operation: 'put', at, answers: ifAbsent ? { 412: 'exists' } : {} },
        async () => {
          const input = { ...place(at), ...condition, Body: body, ContentLength: body.length };
          await send((abortSignal) => sdk.send(new PutObjectCommand(input), { abortSignal }), body.length);
          return 'written';
        },
      );
    },

    async delete(at) {
      await call({ operation: 'delete', at, answers: { 404: null } }, () =>
        send((abortSignal) => sdk.send(new DeleteObjectCommand(place(at)), { abortSignal })),
      );
    },

    list(at, after, signal) {
      return call({ operation: 'list', at, signal }, async () => {
        const page = await ask(
          (abortSignal) =>
            sdk.send(
              new ListObjectsV2Command({
                ...{ Bucket: at.bucket, Prefix: at.key, ContinuationToken: after, ...payer },
                // Keys may hold characters that XML cannot.
                EncodingType: 'url',
              }),
              { abortSignal },
            ),
          () => {},
          signal,
        );
        const decode = (key: string) =>
          page.EncodingType === 'url' ? decodeURIComponent(key.replaceAll('+', ' ')) : key;
        return {
          objects: (page.Contents ?? []).map(({ Key, Size, ETag }) => ({
            key: decode(Key ?? ''),
            size: Size ?? 0,
            etag: ETag ?? '',
          })),
          next: page.IsTruncated ? page.NextContinuationToken : undefined,
        };
      });
    },

    uploads: {
      begin: (at) =>
        call({ operation: 'multipart', at }, async () => {
          const begun = await send((abortSignal) =>
            sdk.send(new CreateMultipartUploadCommand(place(at)), { abortSignal }),
          );
          return begun.UploadId ?? '';
        }),
      part: (at, upload, number, body) =>
        call({ operation: 'multipart', at }, async () => {
          const input = { ...place(at), UploadId: upload, PartNumber: number, Body: body, ContentLength: body.length };
          const sent = await send(
            (abortSignal) => sdk.send(new UploadPartCommand(input), { abortSignal }),
            body.length,
          );
          return { number, etag: sent.ETag ?? '' };
        }),
      complete: (at, upload, parts) =>
        call<'written', 'absent'>({ operation: 'multipart', at, answers: { 404: 'absent' } }, async () => {
          const Parts = parts.map(({ number, etag }) => ({ PartNumber: number, ETag: etag }));
          const input = { ...place(at), UploadId: upload, MultipartUpload: { Parts } };
          await send((abortSignal) => sdk.send(new CompleteMultipartUploadCommand(input), { abortSignal }), 0, JOIN_MS);
          return 'written';
        }),
      async abort(at, upload) {
        await call({ operation: 'multipart', at, answers: { 404: null } }, () =>
          send((abortSignal) =>
            sdk.send(new AbortMultipartUploadCommand({ ...place(at), UploadId: upload }), { abortSignal }),
          ),
        );
      },
      open: (at) =>
        call({ operation: 'list', at }, async () => {
          const input = { Bucket: at.bucket, Prefix: at.key, ...payer };
          const page = await send((abortSignal) => sdk.send(new ListMultipartUploadsCommand(input), { abortSignal }));
          return (page.Uploads ?? []).map(({ Key, UploadId, Initiated }) => ({
            key: Key ?? '',
            upload: UploadId ?? '',
            begun: Initiated ?? new Date(),
          }));
        }),
    },

    close: () => sdk.destroy(),
  };
  return store;
}
