import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

export type FaultOperation = 'head' | 'get' | 'put' | 'delete' | 'list' | 'multipart';

/** What happens to a request in place of, or on top of, a true answer. */
export type Fault =
  /** An S3 error; with `header`s of its own. */
  | { readonly status: number; readonly code?: string; readonly headers?: Record<string, string> }
  /** The answer waits this long. */
  | { readonly delayMs: number }
  /** The connection is closed without an answer. */
  | 'reset'
  /** The request is done, then the connection is closed without an answer. */
  | 'execute-then-drop'
  /** The body ends after so many bytes: with a Content-Length that says so, or (`lie`) one that promises all. */
  | { readonly truncate: number; readonly lie?: boolean }
  /** So many bytes come, then nothing more. */
  | { readonly stallAfter: number }
  /** One byte at a time, this far apart. */
  | { readonly dripMs: number }
  /** Status 200 and the whole object, whatever the range. */
  | 'ignore-range'
  /** The object is replaced just before. */
  | { readonly replace: Uint8Array };

export interface FaultRule {
  readonly operation?: FaultOperation;
  readonly key?: RegExp;
  /** Only once an object with such a key is there. */
  readonly after?: RegExp;
  /** Requests let through before the first that is hit. */
  readonly skip?: number;
  /** Requests that are hit; all of them by default. */
  readonly times?: number;
  /** Share of the requests that is hit, drawn from a fixed sequence. */
  readonly rate?: number;
  readonly fault: Fault;
}

export interface SeenRequest {
  readonly operation: FaultOperation;
  readonly key: string;
  readonly range: string | null;
  readonly headers: IncomingMessage['headers'];
  /** 0 where the connection was closed without an answer. */
  status: number;
  /** Bytes of body that were sent. */
  bytes: number;
  /** Bytes of body that came. */
  received: number;
}

export interface FaultS3 {
  readonly endpoint: string;
  readonly objects: Map<string, StoredObject>;
  /** Multipart uploads that are neither complete nor aborted, by id. */
  readonly uploads: Map<string, OpenUpload>;
  readonly requests: SeenRequest[];
  /** Adds a rule; the first that fits a request decides. */
  fault(rule: FaultRule): void;
  /** How many requests each rule hit, since `calm`. */
  readonly hits: readonly number[];
  /** Forgets rules and requests. */
  calm(): void;
  put(key: string, body: Uint8Array | string): void;
  /** False: If-None-Match means nothing, as on old stores. */
  conditional: boolean;
  /** Requests at once, at most, since `calm`. */
  readonly peak: number;
  /** Told of every connection from now on. */
  onConnection(heard: () => void): void;
  /** Waits until a request of this kind was received since `calm`. */
  seen(operation: FaultOperation): Promise<void>;
  close(): Promise<void>;
}

export interface OpenUpload {
  readonly key: string;
  begun: Date;
  readonly parts: Map<number, Uint8Array>;
}

export interface StoredObject {
  readonly body: Uint8Array;
  readonly etag: string;
}

const PAGE = 1000;

/**
 * An S3 server in this process that does what it is told: one bucket of any name, in memory, path style, no signatures.
 * HEAD, GET by range, PUT, DELETE, ListObjectsV2, multipart. Keys of `objects` are the object keys, whatever the bucket.
 */
export async function startFaultS3(): Promise<FaultS3> {
  const objects = new Map<string, StoredObject>();
  const uploads = new Map<string, OpenUpload>();
  let requests: SeenRequest[] = [];
  let rules: { rule: FaultRule; seen: number; hit: number }[] = [];
  const waiting = new Set<() => void>();
  let active = 0;
  let peak = 0;
  let seed = 1;
  const random = () => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const store = (key: string, body: Uint8Array): StoredObject => {
    const stored = { body, etag: `"${createHash('md5').update(body).digest('hex')}"` };
    objects.set(key, stored);
    return stored;
  };

  function faultFor(operation: FaultOperation, key: string): Fault | null {
    for (const entry of rules) {
      const { rule } = entry;
      if ((rule.operation ?? operation) !== operation || (rule.key && !rule.key.test(key))) continue;
      if (rule.after && ![...objects.keys()].some((name) => rule.after!.test(name))) continue;
      if (entry.seen++ < (rule.skip ?? 0) || entry.hit >= (rule.times ?? Number.POSITIVE_INFINITY)) continue;
      if (rule.rate !== undefined && random() >= rule.rate) continue;
      entry.hit++;
      return rule.fault;
    }
    return null;
  }

  const server = createServer(async (request, response) => {
    active++;
    peak = Math.max(peak, active);
    response.once('close', () => active--);
    const url = new URL(request.url!, 'http://host');
    const key = decodeURIComponent(url.pathname.split('/').slice(2).join('/'));
    const query = url.searchParams;
    const operation = operationOf(request.method!, key, query);
    const seen: SeenRequest = {
      ...{ operation, key: operation === 'list' ? (query.get('prefix') ?? '') : key },
      ...{ range: request.headers.range ?? null, headers: request.headers, status: 0, bytes: 0, received: 0 },
    };
    requests.push(seen);
    for (const check of waiting) check();
    const chunks: Buffer[] = [];
    for await (const chunk of request) {
      chunks.push(chunk as Buffer);
      seen.received += chunk.length;
    }
    const body = new Uint8Array(Buffer.concat(chunks));

    const fault = faultFor(operation, seen.key);
    if (fault === 'reset') return request.socket.destroy();
    if (fault !== null && typeof fault === 'object') {
      if ('delayMs' in fault) await pause(fault.delayMs, undefined, { ref: false });
      // Nobody waits for it any longer: it is not done after all.
      if (request.socket.destroyed) return;
      if ('replace' in fault) store(key, fault.replace);
      if ('status' in fault) return answer(failure(fault.status, fault.code ?? '', fault.headers));
    }
    const result = execute(request, query, key, body, fault === 'ignore-range');
    if (fault === 'execute-then-drop') return request.socket.destroy();
    await answer(result, typeof fault === 'object' ? fault : null);

    async function answer({ status, headers, content }: Answer, how: Fault | null = null): Promise<void> {
      seen.status = status;
      let sent = request.method === 'HEAD' ? new Uint8Array(0) : content;
      let length = content.length;
      if (how !== null && typeof how === 'object' && 'truncate' in how) {
        sent = sent.subarray(0, how.truncate);
        if (!how.lie) length = sent.length;
      }
      response.writeHead(status, { 'content-length': length, ...headers });
      if (how !== null && typeof how === 'object' && 'stallAfter' in how) {
        seen.bytes = how.stallAfter;
        response.write(sent.subarray(0, how.stallAfter));
        response.flushHeaders();
        return;
      }
      if (how !== null && typeof how === 'object' && 'dripMs' in how) return drip(response, sent, how.dripMs, seen);
      seen.bytes = sent.length;
      if (sent.length < length && request.method !== 'HEAD') response.write(sent, () => request.socket.destroy());
      else response.end(sent);
    }
  });

  function execute(
    request: IncomingMessage,
    query: URLSearchParams,
    key: string,
    body: Uint8Array,
    wholeOnly: boolean,
  ): Answer {
    const { method, headers } = request;
    const taken = () => faults.conditional && headers['if-none-match'] === '*' && objects.has(key);
    const upload = query.get('uploadId');
    if (query.get('list-type') === '2') return listing(query);
    if (query.has('uploads')) {
      if (method === 'GET') return xml('ListMultipartUploadsResult', openUploads(query.get('prefix') ?? ''));
      const id = randomBytes(8).toString('hex');
      uploads.set(id, { key, begun: new Date(), parts: new Map() });
      return xml('InitiateMultipartUploadResult', `<Key>${escaped(key)}</Key><UploadId>${id}</UploadId>`);
    }
    if (upload !== null) {
      const found = uploads.get(upload);
      if (!found) return failure(404, 'NoSuchUpload');
      if (method === 'PUT') {
        found.parts.set(Number(query.get('partNumber')), body);
        return { status: 200, headers: { etag: `"${createHash('md5').update(body).digest('hex')}"` }, content: NONE };
      }
      uploads.delete(upload);
      if (method === 'DELETE') return { status: 204, headers: {}, content: NONE };
      // Whatever If-None-Match says: as Ceph's radosgw 16.
      const parts = [...found.parts].sort(([a], [b]) => a - b).map(([, part]) => part);
      return xml('CompleteMultipartUploadResult', `<ETag>${escaped(store(key, Buffer.concat(parts)).etag)}</ETag>`);
    }
    if (method === 'PUT') {
      if (taken()) return failure(412, 'PreconditionFailed');
      return { status: 200, headers: { etag: store(key, body).etag }, content: NONE };
    }
    if (method === 'DELETE') {
      objects.delete(key);
      return { status: 204, headers: {}, content: NONE };
    }
    const found = objects.get(key);
    if (!found) return failure(404, 'NoSuchKey');
    if (headers['if-match'] !== undefined && headers['if-match'] !== found.etag)
      return failure(412, 'PreconditionFailed');
    const range = wholeOnly ? null : /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '');
    if (!range) return { status: 200, headers: { etag: found.etag }, content: found.body };
    const from = Number(range[1]);
    const to = Math.min(found.body.length - 1, range[2] ? Number(range[2]) : found.body.length - 1);
    if (from > to) return failure(416, 'InvalidRange');
    const contentRange = `bytes ${from}-${to}/${found.body.length}`;
    const ranged = { etag: found.etag, 'content-range': contentRange };
    return { status: 206, headers: ranged, content: found.body.subarray(from, to + 1) };
  }

  function listing(query: URLSearchParams): Answer {
    const prefix = query.get('prefix') ?? '';
    const after = query.get('continuation-token') ?? '';
    const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
    const page = keys.slice(0, PAGE);
    const more = keys.length > PAGE;
    const contents = page.map((key) => {
      const { body, etag } = objects.get(key)!;
      return `<Contents><Key>${encodeURIComponent(key)}</Key><Size>${body.length}</Size><ETag>${escaped(etag)}</ETag></Contents>`;
    });
    const next = more ? `<NextContinuationToken>${escaped(page.at(-1)!)}</NextContinuationToken>` : '';
    const head = `<IsTruncated>${more}</IsTruncated><EncodingType>url</EncodingType>${next}`;
    return xml('ListBucketResult', head + contents.join(''));
  }

  const openUploads = (prefix: string): string =>
    [...uploads]
      .filter(([, { key }]) => key.startsWith(prefix))
      .map(
        ([id, { key, begun }]) =>
          `<Upload><Key>${escaped(key)}</Key><UploadId>${id}</UploadId><Initiated>${begun.toISOString()}</Initiated></Upload>`,
      )
      .join('');

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const faults: FaultS3 = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    uploads,
    conditional: true,
    get hits() {
      return rules.map(({ hit }) => hit);
    },
    get requests() {
      return requests;
    },
    get peak() {
      return peak;
    },
    fault: (rule) => void rules.push({ rule, seen: 0, hit: 0 }),
    calm() {
      rules = [];
      requests = [];
      peak = 0;
    },
    put: (key, body) => void store(key, typeof body === 'string' ? Buffer.from(body) : body),
    onConnection: (heard) => void server.on('connection', heard),
    async seen(operation) {
      await new Promise<void>((resolve) => {
        const check = () => {
          if (!requests.some((request) => request.operation === operation)) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        check();
      });
    },
    async close() {
      if (!server.listening) return;
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
  return faults;
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly content: Uint8Array;
}

const NONE = new Uint8Array(0);

function operationOf(method: string, key: string, query: URLSearchParams): FaultOperation {
  if (query.has('uploads') || query.has('uploadId')) return 'multipart';
  if (method === 'HEAD') return 'head';
  if (method === 'GET') return key === '' || query.has('list-type') ? 'list' : 'get';
  return method === 'PUT' ? 'put' : 'delete';
}

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

const xml = (root: string, inner: string, status = 200, headers: Record<string, string> = {}): Answer => ({
  status,
  headers: { 'content-type': 'application/xml', ...headers },
  content: Buffer.from(`<?xml version="1.0" encoding="UTF-8"?><${root}>${inner}</${root}>`),
});

const failure = (status: number, code: string, headers: Record<string, string> = {}): Answer =>
  code === ''
    ? { status, headers, content: NONE }
    : xml('Error', `<Code>${code}</Code><Message>${code} (scripted)</Message>`, status, headers);

/** Ends by itself when the client goes away. */
function drip(response: ServerResponse, content: Uint8Array, ms: number, seen: SeenRequest): void {
  const timer = setInterval(() => {
    response.write(content.subarray(seen.bytes, seen.bytes + 1));
    seen.bytes++;
    if (seen.bytes < content.length) return;
    clearInterval(timer);
    response.end();
  }, ms);
  response.once('close', () => clearInterval(timer));
}
