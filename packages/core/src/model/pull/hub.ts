import { setTimeout as wait } from 'node:timers/promises';
import { NightshiftError } from '../../errors.ts';

/** One repository of a model hub, at one revision. */
export interface Hub {
  /** What the hub says of a file; null where the repository lacks it. */
  locate(path: string, signal: AbortSignal): Promise<RemoteFile | null>;
  /**
   * The bytes of a file from `offset` on. `offset` is 0 in the answer where the server would not begin elsewhere.
   *
   * @throws NightshiftError `hub-*`; a `Break` where the connection fails and another attempt may help
   */
  read(
    file: RemoteFile,
    offset: number,
    signal: AbortSignal,
  ): Promise<{ offset: number; body: AsyncIterable<Uint8Array> }>;
}

export interface RemoteFile {
  readonly path: string;
  readonly url: string;
  /** Null where the server does not say. */
  readonly bytes: number | null;
  /** sha256 of the bytes, or sha1 of the git object that they are; null where the server states neither. */
  readonly digest: { readonly kind: 'sha256' | 'git-sha1'; readonly hex: string } | null;
  /** Commit that the revision means. */
  readonly commit: string | null;
}

export interface HubOptions {
  /** e.g. `https://huggingface.co` */
  readonly endpoint: string;
  readonly repository: string;
  readonly revision: string;
  readonly token: string | null;
  /** Page to send a person to. */
  readonly page: string;
  /** Base of the waits between attempts, and how long a connection may be silent, ms. For tests. */
  readonly patience?: { readonly retry: number; readonly silence: number };
}

/** A failure that another attempt may mend. */
export class Break extends Error {
  /** What the server asked for, ms. */
  readonly after: number | null;
  constructor(message: string, after: number | null, cause?: unknown) {
    super(message, { cause });
    this.after = after;
  }
}

const ATTEMPTS = 4;
const MAX_REDIRECTS = 5;
const MAX_WAIT = 60_000;

/**
 * A repository of the Hugging Face hub, or of a mirror with its URLs: `<endpoint>/<repository>/resolve/<revision>/<path>`.
 * The token goes to the endpoint alone, never with a redirect to another host, and never in the clear over a network.
 * Headers: huggingface_hub, `get_hf_file_metadata`.
 */
export function connectHub(options: HubOptions): Hub {
  const { repository, revision, patience = { retry: 500, silence: 60_000 } } = options;
  const endpoint = parseEndpoint(options.endpoint);
  const token = isPrivate(endpoint) ? options.token : null;
  const why = options.token !== null && token === null ? 'the token does not go over http' : 'there is no token';
  const urlOf = (path: string) =>
    `${endpoint.href.replace(/\/$/, '')}/${repository}/resolve/${encodeURIComponent(revision)}/${path}`;
  const headers = (url: string): Record<string, string> => ({
    'user-agent': 'nightshift',
    // Sizes and digests are those of the file itself.
    'accept-encoding': 'identity',
    ...(token !== null && new URL(url).origin === endpoint.origin ? { authorization: `Bearer ${token}` } : {}),
  });

  const refusal = (response: Response, path: string) => hubError(response, path, { ...options, token }, why);
  const request = async (url: string, init: RequestInit, signal: AbortSignal): Promise<Response> => {
    const response = await fetch(url, init).catch((cause) => {
      signal.throwIfAborted();
      throw new Break(`${new URL(url).host} cannot be reached: ${reason(cause)}`, null, cause);
    });
    if (response.status !== 408 && response.status !== 429 && response.status < 500) return response;
    await response.body?.cancel();
    const after = Number(response.headers.get('retry-after'));
    const said = Number.isFinite(after) && after > 0 ? Math.min(MAX_WAIT, after * 1000) : null;
    throw new Break(`${new URL(url).host} answers ${response.status}`, said);
  };

  /** HEAD, following redirects until an answer speaks of the file: the last one, of a CDN, does not know its digest. */
  const head = async (path: string, signal: AbortSignal): Promise<Response> => {
    let url = urlOf(path);
    for (let i = 0; i <= MAX_REDIRECTS; i++) {
      const patient = AbortSignal.any([signal, AbortSignal.timeout(patience.silence)]);
      const init = { method: 'HEAD', redirect: 'manual', headers: headers(url), signal: patient } as const;
      const response = await request(url, init, signal);
      const to = response.headers.get('location');
      if (response.status < 300 || response.status >= 400 || to === null || response.headers.has('x-linked-etag')) {
        return response;
      }
      url = new URL(to, url).href;
    }
    throw new NightshiftError('hub-unreachable', `${urlOf(path)} redirects without end`);
  };

  return {
    async locate(path, signal) {
      const response = await attempts(() => head(path, signal), patience.retry, signal);
      if (response.status === 404 && isEntry(response)) return null;
      if (response.status >= 400) throw refusal(response, path);
      const bytes = sizeOf(response);
      const digest = digestOf(response.headers.get('x-linked-etag') ?? response.headers.get('etag'));
      return {
        path,
        url: urlOf(path),
        bytes,
        // The digest of a git object covers its length.
        digest: digest?.kind === 'git-sha1' && bytes === null ? null : digest,
        commit: response.headers.get('x-repo-commit'),
      };
    },

    async read(file, offset, signal) {
      const silence = silenceAfter(patience.silence);
      const stop = AbortSignal.any([signal, silence.signal]);
      const range = offset > 0 ? { range: `bytes=${offset}-` } : {};
      const init = { headers: { ...headers(file.url), ...range }, signal: stop };
      const response = await request(file.url, init, signal);
      const from = response.status === 206 ? startOf(response) : 0;
      if (response.status === 416 || (response.status === 206 && from !== offset)) {
        await response.body?.cancel();
        silence.end();
        return { offset: 0, body: none() };
      }
      if (!response.ok || response.body === null) {
        silence.end();
        throw refusal(response, file.path);
      }
      return { offset: from, body: listen(response.body, silence, signal) };
    },
  };
}

/** Repeats what ends with a Break, with growing waits. @throws NightshiftError `hub-unreachable` */
async function attempts<T>(work: () => Promise<T>, base: number, signal: AbortSignal): Promise<T> {
  for (let i = 1; ; i++) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Break)) throw error;
      if (i === ATTEMPTS) throw new NightshiftError('hub-unreachable', error.message, { cause: error });
      await wait(error.after ?? base * 2 ** i, undefined, { signal });
    }
  }
}

async function* none(): AsyncIterable<Uint8Array> {}

/** The body, with a Break where it fails or falls silent. */
async function* listen(
  body: ReadableStream<Uint8Array>,
  silence: ReturnType<typeof silenceAfter>,
  signal: AbortSignal,
): AsyncIterable<Uint8Array> {
  try {
    for await (const chunk of body) {
      silence.heard();
      yield chunk;
    }
  } catch (cause) {
    signal.throwIfAborted();
    throw new Break(
      silence.signal.aborted ? 'the server fell silent' : `the connection broke: ${reason(cause)}`,
      null,
      cause,
    );
  } finally {
    silence.end();
  }
}

function silenceAfter(limit: number) {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(new Error(`no byte for ${limit / 1000} s`)), limit);
  return { signal: controller.signal, heard: () => void timer.refresh(), end: () => clearTimeout(timer) };
}

function parseEndpoint(text: string): URL {
  const url = URL.parse(text);
  if (url !== null && /^https?:$/.test(url.protocol) && url.username === '' && url.search === '') return url;
  throw new NightshiftError('usage', `the endpoint ${text.replace(/\/\/[^/]*@/, '//')} is no http(s) URL`, {
    next: 'Give --endpoint or HF_ENDPOINT like https://huggingface.co.',
  });
}

const isPrivate = ({ protocol, hostname }: URL): boolean =>
  protocol === 'https:' || hostname === 'localhost' || hostname === '[::1]' || /^127\./.test(hostname);

function digestOf(etag: string | null): RemoteFile['digest'] {
  const hex = (etag ?? '').replace(/^W\//, '').replaceAll('"', '').toLowerCase();
  if (/^[0-9a-f]{64}$/.test(hex)) return { kind: 'sha256', hex };
  return /^[0-9a-f]{40}$/.test(hex) ? { kind: 'git-sha1', hex } : null;
}

function sizeOf({ headers }: Response): number | null {
  const size = headers.get('x-linked-size') ?? (headers.has('content-encoding') ? null : headers.get('content-length'));
  return size !== null && /^\d{1,15}$/.test(size) ? Number(size) : null;
}

const startOf = (response: Response): number =>
  Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? Number.NaN);

/** A mirror may not say what it does not find. */
const isEntry = (response: Response): boolean => ['EntryNotFound', null].includes(response.headers.get('x-error-code'));

function hubError(
  response: Response,
  path: string,
  { repository, revision, page, token, endpoint }: HubOptions,
  whyNoToken: string,
): NightshiftError {
  const { status } = response;
  const code = response.headers.get('x-error-code');
  const said = (response.headers.get('x-error-message') ?? '').replace(/[^\x20-\x7e]/g, ' ').slice(0, 200);
  const who = `${endpoint} answers ${status} for ${repository}`;
  if (code === 'GatedRepo' || (code === null && (status === 401 || status === 403) && token === null)) {
    const next =
      token === null
        ? `Ask for access at ${page}, make a token at https://huggingface.co/settings/tokens, and set HF_TOKEN or --token-file.`
        : `Ask for access at ${page} with the account of this token; where it was granted, let the token read gated repositories.`;
    const why = token === null ? whyNoToken : 'the account of this token has no access';
    return new NightshiftError('hub-access', `${repository} is gated, and ${why}`, { next, data: { page, status } });
  }
  if (status === 401 && code !== 'RepoNotFound')
    return new NightshiftError('hub-token', `${who}: ${said || 'the token is not valid'}`);
  if (status === 403) return new NightshiftError('hub-token', `${who}: ${said || 'the token may not read it'}`);
  if (code === 'RevisionNotFound')
    return new NightshiftError('hub-not-found', `${repository} has no revision ${revision}`);
  if (status === 401 || status === 404)
    return new NightshiftError('hub-not-found', `${who} (${path}): it is not there, or private`);
  return new NightshiftError('hub-unreachable', `${who} (${path})`);
}

/** The code of a failed fetch says more than its message. */
function reason(error: unknown): string {
  for (let e = error; e instanceof Error; e = e.cause) {
    const { code } = e as NodeJS.ErrnoException;
    if (typeof code === 'string') return code;
  }
  return error instanceof Error ? error.message : String(error);
}
