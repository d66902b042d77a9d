import { NightshiftError } from '../errors.ts';

/** `INFO` of a Redis, by field. */
export type RedisInfo = ReadonlyMap<string, string>;

export function parseInfo(text: string): RedisInfo {
  const fields = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const colon = line.indexOf(':');
    if (colon > 0 && !line.startsWith('#')) fields.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return fields;
}

/** First versions without CVE-2025-49844, by minor: Lua that escapes its sandbox. Redis 7.0 has no fixed version of its own. */
const FIXED: Record<'redis' | 'valkey', readonly string[]> = {
  redis: ['6.2.20', '7.2.11', '7.4.6', '8.0.4', '8.2.2'],
  valkey: ['7.2.11', '8.0.6', '8.1.4'],
};
const OLDEST = '6.2.0';

/**
 * What speaks against this server as a queue, but not enough to refuse it.
 * @throws NightshiftError `queue-config` when it would lose jobs (an eviction policy) or lacks commands (too old).
 */
export function judgeRedis(info: RedisInfo, label: string): string[] {
  const product = info.has('valkey_version') ? 'valkey' : 'redis';
  const version = info.get(`${product}_version`) ?? '';
  const policy = info.get('maxmemory_policy');
  if (policy !== undefined && policy !== 'noeviction') {
    throw new NightshiftError(
      'queue-config',
      `${label} may drop jobs when its memory is full: maxmemory-policy is ${policy}`,
      {
        next: 'Set it: redis-cli config set maxmemory-policy noeviction (and the same line in redis.conf).',
        data: { policy },
      },
    );
  }
  // Valkey says 7.2.4 for redis_version: it is newer than that in what counts here.
  if (version !== '' && older(info.get('redis_version') ?? version, OLDEST)) {
    throw new NightshiftError('queue-config', `${label} is Redis ${version}, older than ${OLDEST}`, {
      next: `Use Redis ${OLDEST} or newer, or Valkey.`,
      data: { version },
    });
  }
  const warnings: string[] = [];
  if (policy === undefined)
    warnings.push(`${label} does not tell its maxmemory-policy: make sure that it is noeviction`);
  if (version !== '' && unfixed(product, version)) {
    warnings.push(
      `${product} ${version} has CVE-2025-49844 (code execution by whoever may log in) unless your distribution patched it: update, and let only trusted hosts reach it`,
    );
  }
  if (info.get('aof_enabled') === '0') {
    warnings.push(
      `${label} keeps no append-only file: a restart loses its jobs, and \`nightshift submit\` has to add them again`,
    );
  }
  return warnings;
}

function unfixed(product: 'redis' | 'valkey', version: string): boolean {
  const fixed = FIXED[product];
  const sameMinor = fixed.find((candidate) => minorOf(candidate) === minorOf(version));
  return sameMinor ? older(version, sameMinor) : older(version, fixed.at(-1)!);
}

const minorOf = (version: string): string => version.split('.', 2).join('.');

function older(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map((part) => Number.parseInt(part, 10) || 0));
  for (let i = 0; i < 3; i++) if ((a[i] ?? 0) !== b[i]) return (a[i] ?? 0) < b[i];
  return false;
}

/** Share of `maxmemory` that adding leaves free: leases, retries and clients' buffers still need room when jobs fill the rest. */
const RESERVE = 0.1;

/** Bytes that jobs may still take; Infinity where no limit is set. */
export function roomForJobs(info: RedisInfo): number {
  const limit = Number(info.get('maxmemory') ?? 0);
  if (!(limit > 0)) return Number.POSITIVE_INFINITY;
  return limit * (1 - RESERVE) - Number(info.get('used_memory') ?? 0);
}
