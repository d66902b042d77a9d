import type { Readable } from 'node:stream';
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
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { isNightshiftError } from '../errors.ts';
import type { S3Config, S3Location } from './s3-config.ts';
import { classify, transportError } from './s3-errors.ts';
import { PATIENCE, requests, type S3Observer, type S3Patience, type Sink } from './s3-requests.ts';
import { s3Sdk } from './s3-sdk.ts';

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

export function connectS3(config: S3Config, options: S3Options = {}): S3 {
  const patience = { ...PATIENCE, ...options.patience };
  const sdk = s3Sdk(config, patience);
  const { call, ask, send, drain } = requests({
    patience,
    observer: options.observer,
    // The chain asks a service once in a while; the SDK keeps what it finds.
    prepare: (at) => sdk.of(at).config.credentials(),
    move: sdk.move,
  });
  const payer = config.requesterPays ? { RequestPayer: 'requester' as const } : {};
  const place = ({ bucket, key }: S3Location) => ({ Bucket: bucket, Key: key, ...payer });

  const discard = ({ Body }: { readonly Body?: unknown }) => (Body as Readable | undefined)?.destroy();
  const ignore = () => {};
  const getObject = (at: S3Location, range: { Range?: string; IfMatch?: string }, signal?: AbortSignal) =>
    ask(
      (abortSignal) => sdk.of(at).send(new GetObjectCommand({ ...place(at), ...range }), { abortSignal }),
      discard,
      signal,
    );

  return {
    config,

    async head(at, signal) {
      try {
        return await call({ operation: 'head', at, signal, answers: { 404: null } }, async () => {
          const command = new HeadObjectCommand(place(at));
          const found = await ask((abortSignal) => sdk.of(at).send(command, { abortSignal }), ignore, signal);
          return { key: at.key, size: found.ContentLength ?? 0, etag: found.ETag ?? '' };
        });
      } catch (error) {
        // An answer to HEAD has no body to say why: the same question with GET brings the reason.
        if (isNightshiftError(error, 's3-forbidden', 's3-refused') && error.data.s3Code === '') {
          await call({ operation: 'get', at, signal, answers: { 404: null, 416: null } }, async () =>
            discard(await getObject(at, { Range: 'bytes=0-0' }, signal)),
          );
        }
        throw error;
      }
    },

    get(at, signal) {
      let sink: Sink | null = null;
      let etag = '';
      // An empty object has no byte to ask for.
      const answers = { 404: null, 416: new Uint8Array(0) };
      return call<Uint8Array, Uint8Array | null>({ operation: 'get', at, signal, answers }, async () => {
        // As a range, so that the answer says the whole length apart from its own. What a broken answer brought is kept: the next
        // one goes on from there, if it is still the same object.
        const range = { Range: `bytes=${sink?.done ?? 0}-`, ...(sink && { IfMatch: etag }) };
        const answer = await getObject(at, range, signal).catch((error) => {
          if (sink === null || ![412, 416].includes(classify(error).status)) throw error;
          sink = null;
          throw transportError('conflict', 'it was replaced while it was read');
        });
        const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(answer.ContentRange ?? '') ?? [];
        if (start === undefined || sink === null) {
          sink = { target: new Uint8Array(Number(total ?? answer.ContentLength ?? 0)), done: 0 };
          etag = answer.ETag ?? '';
        }
        if (start !== undefined && Number(start) !== sink.done) {
          discard(answer);
          throw transportError('wrong-range', `asked for ${range.Range}, got ${answer.ContentRange}`);
        }
        await drain(answer.Body as Readable, sink, 0, signal);
        return sink.target;
      });
    },

    async read(at, { offset, target, etag }, signal) {
      if (target.length === 0) return 'read';
      const sink = { target, done: 0 };
      const answers = { 404: 'absent', 412: 'changed', 416: 'changed' } as const;
      return call<'read' | 'changed', 'absent' | 'changed'>({ operation: 'get', at, signal, answers }, async () => {
        const from = offset + sink.done;
        const Range = `bytes=${from}-${offset + target.length - 1}`;
        const answer = await getObject(at, { Range, IfMatch: etag }, signal);
        // A store that ignores If-Match says all the same which version this is.
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
        await drain(answer.Body as Readable, sink, whole ? from : 0, signal);
        return 'read';
      });
    },

    put(at, body, { ifAbsent = false } = {}) {
      const condition = ifAbsent ? { IfNoneMatch: '*' } : {};
      return call<'written', 'exists'>(
        { operation: 'put', at, answers: ifAbsent ? { 412: 'exists' } : {} },
        async () => {
          const command = new PutObjectCommand({ ...place(at), ...condition, Body: body, ContentLength: body.length });
          await send((abortSignal) => sdk.of(at).send(command, { abortSignal }), body.length);
          return 'written';
        },
      );
    },

    async delete(at) {
      const command = new DeleteObjectCommand(place(at));
      await call({ operation: 'delete', at, answers: { 404: null } }, () =>
        send((abortSignal) => sdk.of(at).send(command, { abortSignal })),
      );
    },

    list(at, after, signal) {
      // Keys may hold characters that XML cannot.
      const input = {
        Bucket: at.bucket,
        Prefix: at.key,
        ContinuationToken: after,
        EncodingType: 'url',
        ...payer,
      } as const;
      return call({ operation: 'list', at, signal }, async () => {
        const command = new ListObjectsV2Command(input);
        const page = await ask((abortSignal) => sdk.of(at).send(command, { abortSignal }), ignore, signal);
        const encoded = page.EncodingType === 'url';
        return {
          objects: (page.Contents ?? []).map(({ Key = '', Size = 0, ETag = '' }) => ({
            key: encoded ? decodeURIComponent(Key.replaceAll('+', ' ')) : Key,
            size: Size,
            etag: ETag,
          })),
          next: page.IsTruncated ? page.NextContinuationToken : undefined,
        };
      });
    },

    uploads: {
      begin: (at) =>
        call({ operation: 'multipart', at }, async () => {
          const command = new CreateMultipartUploadCommand(place(at));
          return (await send((abortSignal) => sdk.of(at).send(command, { abortSignal }))).UploadId ?? '';
        }),

      part: (at, upload, number, body) =>
        call({ operation: 'multipart', at }, async () => {
          const part = { UploadId: upload, PartNumber: number, Body: body, ContentLength: body.length };
          const command = new UploadPartCommand({ ...place(at), ...part });
          const sent = await send((abortSignal) => sdk.of(at).send(command, { abortSignal }), body.length);
          return { number, etag: sent.ETag ?? '' };
        }),

      complete: (at, upload, parts) =>
        call<'written', 'absent'>({ operation: 'multipart', at, answers: { 404: 'absent' } }, async () => {
          const Parts = parts.map(({ number, etag }) => ({ PartNumber: number, ETag: etag }));
          const command = new CompleteMultipartUploadCommand({
            ...place(at),
            UploadId: upload,
            MultipartUpload: { Parts },
          });
          await send((abortSignal) => sdk.of(at).send(command, { abortSignal }), 0, JOIN_MS);
          return 'written';
        }),

      async abort(at, upload) {
        const command = new AbortMultipartUploadCommand({ ...place(at), UploadId: upload });
        await call({ operation: 'multipart', at, answers: { 404: null } }, () =>
          send((abortSignal) => sdk.of(at).send(command, { abortSignal })),
        );
      },

      open: (at) =>
        call({ operation: 'list', at }, async () => {
          const command = new ListMultipartUploadsCommand({ Bucket: at.bucket, Prefix: at.key, ...payer });
          const page = await send((abortSignal) => sdk.of(at).send(command, { abortSignal }));
          return (page.Uploads ?? []).map(({ Key = '', UploadId = '', Initiated = new Date() }) => ({
            key: Key,
            upload: UploadId,
            begun: Initiated,
          }));
        }),
    },

    close: sdk.close,
  };
}
