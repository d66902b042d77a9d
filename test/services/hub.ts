import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What the hub holds of a repository, and how it behaves. Tests change it while the server runs. */
export interface HubState {
  repository: string;
  /** Names that mean the one commit there is. */
  revisions: string[];
  commit: string;
  files: Map<string, Buffer>;
  gated: boolean;
  /** Tokens that are valid; those of `granted` have access to a gated repository. */
  tokens: string[];
  granted: string[];
  /** Consulted at each GET of a file's bytes; what it returns happens once. */
  fault: ((request: Asked) => Fault | null) | null;
  /** A mirror: no headers of the hub, ETags of its own. */
  plain: boolean;
}

export interface Asked {
  readonly path: string;
  readonly range: string | null;
  readonly count: number;
}

export type Fault =
  /** Breaks the connection after some bytes of the body. */
  | { readonly cut: number }
  /** Sends some bytes, then nothing, and stays connected. */
  | { readonly silentAfter: number }
  | { readonly status: number; readonly headers?: Record<string, string> }
  /** Answers 200 with the whole file to a range. */
  | { readonly ignoreRange: true }
  /** Other bytes than those it speaks of. */
  | { readonly instead: Buffer };

export interface TestHub {
  readonly endpoint: string;
  readonly state: HubState;
  /** Every request: `HEAD /a/b/resolve/...`, and to the store `GET cdn:model.safetensors bytes=5-`, with its token. */
  readonly log: { readonly line: string; readonly authorization: string | null }[];
  close(): Promise<void>;
}

/**
 * Speaks what the Hugging Face hub speaks to those who download: `/<repository>/resolve/<revision>/<path>` answers large files
 * with a redirect to a store on another origin and their sha256 as X-Linked-Etag, small ones itself with their git digest; Range;
 * X-Error-Code for what it refuses. After huggingface_hub's `get_hf_file_metadata` and `hf_raise_for_status`.
 */
export async function startHub(given: Partial<HubState> = {}): Promise<TestHub> {
  const state: HubState = {
    repository: 'lab/model',
    revisions: ['main'],
    commit: 'c'.repeat(40),
    files: new Map(),
    gated: false,
    tokens: [],
    granted: [],
    fault: null,
    plain: false,
    ...given,
  };
  const log: { line: string; authorization: string | null }[] = [];
  const counts = new Map<string, number>();
  let store = '';

  const front = async (request: IncomingMessage, response: ServerResponse): Promise<unknown> => {
    note(request, '');
    const url = new URL(request.url ?? '', 'http://hub');
    const match = new RegExp(`^/${state.repository}/resolve/([^/]+)/(.+)$`).exec(decodeURIComponent(url.pathname));
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? null;
    const refuse = (status: number, code: string | null, message: string) => {
      response.writeHead(status, { ...(code ? { 'x-error-code': code } : {}), 'x-error-message': message });
      response.end();
    };
    if (token !== null && !state.tokens.includes(token))
      return refuse(401, null, 'Invalid credentials in Authorization header');
    if (match === null) return refuse(token === null ? 401 : 404, 'RepoNotFound', 'Repository not found');
    const [, revision, path] = match as unknown as [string, string, string];
    if (state.gated && (token === null || !state.granted.includes(token))) {
      return refuse(token === null ? 401 : 403, 'GatedRepo', 'Access to this model is restricted');
    }
    if (![...state.revisions, state.commit].includes(revision))
      return refuse(404, 'RevisionNotFound', 'Invalid rev id');
    const data = state.files.get(path);
    if (data === undefined) return refuse(404, state.plain ? null : 'EntryNotFound', 'Entry not found');
    if (state.plain) return send(request, response, path, data, { etag: '"of-its-own"' });
    const large = data.length > 4096;
    const headers: Record<string, string> = { 'x-repo-commit': state.commit };
    if (!large) return send(request, response, path, data, { ...headers, etag: `"${gitSha1(data)}"` });
    response.writeHead(302, {
      ...headers,
      location: `${store}/${path}`,
      'x-linked-size': `${data.length}`,
      'x-linked-etag': `"${createHash('sha256').update(data).digest('hex')}"`,
      'content-length': '0',
    });
    return response.end();
  };

  const back = async (request: IncomingMessage, response: ServerResponse) => {
    note(request, 'cdn:');
    const path = decodeURIComponent((request.url ?? '').slice(1));
    await send(request, response, path, state.files.get(path) ?? Buffer.alloc(0), { etag: '"of-the-store"' });
  };

  const note = (request: IncomingMessage, where: string) => {
    const range = request.headers.range ? ` ${request.headers.range}` : '';
    const line = `${request.method} ${where}${where ? (request.url ?? '').slice(1) : request.url}${range}`;
    log.push({ line, authorization: request.headers.authorization ?? null });
  };

  const send = async (
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    data: Buffer,
    headers: Record<string, string>,
  ): Promise<unknown> => {
    const range = request.headers.range ?? null;
    const count = (counts.get(path) ?? 0) + (request.method === 'GET' ? 1 : 0);
    counts.set(path, count);
    const fault = request.method === 'GET' ? (state.fault?.({ path, range, count }) ?? null) : null;
    if (fault && 'status' in fault) {
      response.writeHead(fault.status, fault.headers);
      return response.end();
    }
    const body = fault && 'instead' in fault ? fault.instead : data;
    const from = range && !(fault && 'ignoreRange' in fault) ? Number(/^bytes=(\d+)-/.exec(range)?.[1]) : 0;
    if (range && from >= body.length) {
      response.writeHead(416, { 'content-range': `bytes */${body.length}` });
      return response.end();
    }
    const part = body.subarray(from);
    response.writeHead(from > 0 ? 206 : 200, {
      ...headers,
      'accept-ranges': 'bytes',
      'content-length': `${part.length}`,
      ...(from > 0 ? { 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` } : {}),
    });
    if (request.method === 'HEAD') return response.end();
    if (fault && ('cut' in fault || 'silentAfter' in fault)) {
      const bytes = 'cut' in fault ? fault.cut : fault.silentAfter;
      await new Promise<void>((resolve) => void response.write(part.subarray(0, bytes), () => resolve()));
      return 'cut' in fault ? response.destroy() : null;
    }
    return response.end(part);
  };

  const servers = [await listen(front), await listen(back)] as const;
  store = originOf(servers[1], 'localhost');
  return {
    endpoint: originOf(servers[0], '127.0.0.1'),
    state,
    log,
    async close() {
      for (const server of servers) {
        const closed = once(server, 'close');
        server.close();
        server.closeAllConnections();
        await closed;
      }
    },
  };
}

async function listen(
  handler: (request: IncomingMessage, response: ServerResponse) => Promise<unknown>,
): Promise<Server> {
  const server = createServer((request, response) => {
    handler(request, response).catch((error) => response.destroy(error));
  });
  server.listen(0);
  await once(server, 'listening');
  return server;
}

const originOf = (server: Server, host: string): string => `http://${host}:${(server.address() as AddressInfo).port}`;

export const gitSha1 = (data: Buffer): string =>
  createHash('sha1').update(`blob ${data.length}\0`).update(data).digest('hex');

/** Files of a directory, as a repository holds them. */
export const filesOf = (dir: string, names: readonly string[]): Map<string, Buffer> =>
  new Map(names.map((name) => [name, readFileSync(`${dir}/${name}`)]));
