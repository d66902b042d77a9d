import { readFileSync } from 'node:fs';
import { NightshiftError } from '../errors.ts';

export interface RedisHost {
  readonly host: string;
  readonly port: number;
}

/** Where a Redis is and how to log in, as one URL says it. */
export interface RedisTarget {
  readonly kind: 'single' | 'sentinel' | 'cluster';
  /** The server; the sentinels; some nodes of the cluster. */
  readonly hosts: readonly RedisHost[];
  /** For `sentinel`: the name of the master. */
  readonly master: string | null;
  readonly username: string | null;
  readonly password: string | null;
  readonly sentinelPassword: string | null;
  readonly db: number;
  readonly tls: { readonly ca?: Buffer; readonly cert?: Buffer; readonly key?: Buffer } | null;
  /** The URL without user, password and query: for messages and logs. */
  readonly label: string;
}

const SHAPE = /^(redis|rediss)(?:\+(sentinel|cluster))?:\/\/(?:([^/?#]*)@)?([^/?#@]+)(?:\/([^?#]*))?(?:\?([^#]*))?$/i;
const PARAMETERS = new Set(['ca', 'cert', 'key', 'sentinelPassword']);

/**
 * Parses `redis[s][+sentinel|+cluster]://[user:password@]host[:port][,host[:port]...][/path][?ca=..&cert=..&key=..&sentinelPassword=..]`.
 *
 * - `rediss` is TLS; `ca`, `cert` and `key` are paths of PEM files (a private authority, a client certificate).
 * - `redis://host/2` is database 2; `redis+sentinel://s1,s2/mymaster` (or `/mymaster/2`) asks the sentinels, port 26379 unless
 *   given, for that master; `redis+cluster://n1:7000,n2:7001` names some nodes of a cluster.
 * - User and password are percent-encoded, as in every URL.
 * @throws NightshiftError `usage`, which never repeats the password.
 */
export function parseRedisUrl(url: string): RedisTarget {
  const found = SHAPE.exec(url.trim());
  if (!found) {
    throw new NightshiftError('usage', `--redis ${withoutLogin(url)} is not the URL of a Redis`, {
      next: 'Give redis://host:6379, rediss://user:password@host:6379, redis+sentinel://host/master or redis+cluster://host,host.',
    });
  }
  const [, scheme, topology, login, hostList, path = '', query = ''] = found;
  const kind = (topology?.toLowerCase() ?? 'single') as RedisTarget['kind'];
  const label = `${scheme}${topology ? `+${topology}` : ''}://${hostList}${path ? `/${path}` : ''}`.toLowerCase();
  const wrong = (what: string) => new NightshiftError('usage', `--redis ${label}: ${what}`);

  const hosts = hostList.split(',').map((text) => parseHost(text, kind === 'sentinel' ? 26379 : 6379, wrong));
  if (kind === 'single' && hosts.length > 1) {
    throw wrong('several hosts need redis+sentinel:// or redis+cluster://');
  }
  const segments = path.split('/').filter((segment) => segment !== '');
  const master = kind === 'sentinel' ? segments.shift() : null;
  if (master === undefined) throw wrong('the name of the master is missing: redis+sentinel://host:26379/mymaster');
  const [dbText = '0', ...rest] = segments;
  if (!/^\d{1,5}$/.test(dbText) || rest.length > 0) throw wrong(`"/${path}" is not the number of a database`);
  const db = Number(dbText);
  if (kind === 'cluster' && db !== 0) throw wrong('a cluster has database 0 only');

  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (!PARAMETERS.has(name)) throw wrong(`unknown parameter "${name}" (${[...PARAMETERS].join(', ')})`);
  }
  const pem = (name: string) => {
    const file = parameters.get(name);
    if (file === null) return {};
    try {
      return { [name]: readFileSync(file) };
    } catch (error) {
      throw wrong(`${name}=${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
    }
  };
  const { username, password } = parseLogin(login, wrong);
  return {
    kind,
    hosts,
    master,
    username,
    password,
    sentinelPassword: parameters.get('sentinelPassword'),
    db,
    tls: scheme.toLowerCase() === 'rediss' ? { ...pem('ca'), ...pem('cert'), ...pem('key') } : null,
    label,
  };
}

function parseHost(text: string, defaultPort: number, wrong: (what: string) => NightshiftError): RedisHost {
  const found = /^(?:\[([0-9a-f:.]+)\]|([^:[\]\s]+))(?::(\d{1,5}))?$/i.exec(text.trim());
  const port = Number(found?.[3] ?? defaultPort);
  if (!found || port < 1 || port > 65_535) throw wrong(`"${text}" is not host[:port]`);
  return { host: found[1] ?? found[2], port };
}

/** `user:password`, `:password`; a lone word is the password, as redis-cli and ioredis have it. */
function parseLogin(
  login: string | undefined,
  wrong: (what: string) => NightshiftError,
): { username: string | null; password: string | null } {
  if (!login) return { username: null, password: null };
  const colon = login.indexOf(':');
  const [user, password] = colon < 0 ? ['', login] : [login.slice(0, colon), login.slice(colon + 1)];
  try {
    return { username: decodeURIComponent(user) || null, password: decodeURIComponent(password) || null };
  } catch {
    throw wrong('user or password holds a % that is no percent-encoding (write %25 for %)');
  }
}

function withoutLogin(url: string): string {
  return url.replace(/\?.*$/s, '').replace(/\/\/.*@/s, '//');
}

/** Pause before a connection is tried again, ms: 100 doubling to 5 s, with jitter, so that a fleet does not come back as one. */
const reconnectMs = (times: number): number =>
  Math.min(5_000, 100 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2);

/** Options of the `ioredis` client of a target: it reconnects for ever and sends again what had no answer. */
export function clientOptions(target: RedisTarget) {
  const { username, password, sentinelPassword, db, tls, kind, hosts, master } = target;
  const options = {
    ...(username === null ? {} : { username }),
    ...(password === null ? {} : { password }),
    ...(tls === null ? {} : { tls }),
    db,
    connectTimeout: 5_000,
    maxRetriesPerRequest: null,
    // A peer that vanished without a word is noticed by its silence. Longer than the longest blocking read (10 s).
    socketTimeout: 15_000,
    keepAlive: 10_000,
    // The master became a replica: ask where the new one is, and send the command there.
    reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? (2 as const) : false),
  };
  const sentinel = {
    sentinels: [...hosts],
    name: master ?? '',
    ...(sentinelPassword === null ? {} : { sentinelPassword }),
    enableTLSForSentinelMode: tls !== null,
    ...(tls === null ? {} : { sentinelTLS: tls }),
    sentinelRetryStrategy: reconnectMs,
  };
  return {
    single: {
      ...options,
      retryStrategy: reconnectMs,
      ...(kind === 'sentinel' ? sentinel : hosts[0]),
    },
    cluster: {
      clusterRetryStrategy: reconnectMs,
      redisOptions: options,
      // Certificates name hosts, not the addresses that these resolve to.
      ...(tls === null
        ? {}
        : { dnsLookup: (host: string, done: (error: null, address: string) => void) => done(null, host) }),
    },
  };
}
