import { createHash, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, BlockList, isIP } from 'node:net';
import { isNightshiftError, NightshiftError } from './errors.ts';
import type { Metrics } from './metrics.ts';

/** Whether this process can take work. */
export interface Readiness {
  readonly ready: boolean;
  /** What is missing, e.g. `redis: not connected`. Shown to whoever asks: no slide names, no secrets. */
  readonly reasons: readonly string[];
}

export interface HttpOptions {
  /** 0: any free one. */
  readonly port: number;
  /** Address to listen on. Anything but loopback shows the metrics to the network. */
  readonly host?: string;
  /** When given, `/metrics` wants `Authorization: Bearer <token>`. Probes never do. */
  readonly token?: string | null;
  readonly metrics: Pick<Metrics, 'text' | 'contentType'>;
  readonly ready: () => Readiness | Promise<Readiness>;
  /** False only when a restart would help: a loop that stands still, a child that cannot be started. Never because a service is down. */
  readonly alive: () => boolean;
}

export interface HttpServer {
  readonly host: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Longer than a slow Redis, shorter than what a prober waits, ms. */
const READY_TIMEOUT = 5_000;
const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8);
loopback.addAddress('::1', 'ipv6');

/**
 * Serves `/metrics`, `/healthz` (is it alive) and `/readyz` (may it be given work), to GET and HEAD.
 * @throws NightshiftError `port-unavailable`
 */
export async function startHttp(options: HttpOptions): Promise<HttpServer> {
  const { host = '127.0.0.1', port } = options;
  const onLoopback = isLoopback(host);
  const server = createServer({ maxHeaderSize: 8192, requestTimeout: 10_000, keepAliveTimeout: 5_000 }, (req, res) => {
    // A page in a browser can reach loopback by a name of its own (DNS rebinding), but not under ours.
    if (onLoopback && !isLoopback(hostName(req))) return answer(req, res, 421, 'ask for localhost\n');
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      res.setHeader('allow', 'GET, HEAD');
      return answer(req, res, 405, 'GET or HEAD\n');
    }
    respond(options, req, res).catch(() => answer(req, res, 500, 'failed\n'));
  });
  server.maxConnections = 64;
  try {
    server.listen(port, host);
    await once(server, 'listening');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new NightshiftError('port-unavailable', `cannot listen on ${host} port ${port}: ${code}`, { cause });
  }
  return {
    host,
    port: (server.address() as AddressInfo).port,
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function respond(options: HttpOptions, req: IncomingMessage, res: ServerResponse): Promise<void> {
  switch (req.url?.split('?', 1)[0]) {
    case '/metrics': {
      if (options.token && !carries(req, options.token)) {
        res.setHeader('www-authenticate', 'Bearer');
        return answer(req, res, 401, 'a bearer token is needed\n');
      }
      return answer(req, res, 200, await options.metrics.text(), options.metrics.contentType);
    }
    case '/healthz': {
      const alive = options.alive();
      return answer(req, res, alive ? 200 : 503, alive ? 'ok\n' : 'not alive\n');
    }
    case '/readyz': {
      const readiness = await readinessOf(options.ready);
      return answer(req, res, readiness.ready ? 200 : 503, `${JSON.stringify(readiness)}\n`, 'application/json');
    }
    default:
      return answer(req, res, 404, 'not found: /metrics /healthz /readyz\n');
  }
}

async function readinessOf(ready: HttpOptions['ready']): Promise<Readiness> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Readiness>((resolve) => {
    const reasons = [`no answer in ${READY_TIMEOUT / 1000} s`];
    timer = setTimeout(resolve, READY_TIMEOUT, { ready: false, reasons });
  });
  try {
    return await Promise.race([ready(), late]);
  } catch (error) {
    // The code only: a message may name a slide.
    return { ready: false, reasons: [isNightshiftError(error) ? error.code : 'internal'] };
  } finally {
    clearTimeout(timer);
  }
}

function answer(req: IncomingMessage, res: ServerResponse, status: number, body: string, type = 'text/plain'): void {
  if (res.headersSent) return;
  res.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  res.end(req.method === 'HEAD' ? undefined : body);
}

function carries(req: IncomingMessage, token: string): boolean {
  const given = /^Bearer (.+)$/i.exec(req.headers.authorization ?? '')?.[1];
  // Digests have one length, which timingSafeEqual needs.
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return given !== undefined && timingSafeEqual(digest(given), digest(token));
}

/** The name in the Host header, without port and brackets. */
const hostName = (req: IncomingMessage): string =>
  (req.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');

function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  const version = isIP(host);
  return version !== 0 && loopback.check(host, version === 6 ? 'ipv6' : 'ipv4');
}
