import { isNightshiftError } from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import { judgeRedis, parseInfo, roomForJobs } from '../../../packages/core/src/queue/redis-server.ts';

const info = (fields: Record<string, string | number>) =>
  parseInfo(
    `# Server\r\n${Object.entries(fields)
      .map(([key, value]) => `${key}:${value}\r\n`)
      .join('')}`,
  );
const good = { redis_version: '7.2.11', maxmemory_policy: 'noeviction', aof_enabled: '1' };

describe('a Redis that is to be a queue', () => {
  it('is accepted without a word when it is current, keeps what it has, and writes it down', () => {
    expect(judgeRedis(info(good), 'redis://r')).toEqual([]);
  });

  it.each(['allkeys-lru', 'volatile-lru', 'volatile-ttl', 'allkeys-random'])(
    'is refused when it evicts: %s',
    (policy) => {
      try {
        judgeRedis(info({ ...good, maxmemory_policy: policy }), 'redis://r');
        expect.unreachable();
      } catch (error) {
        if (!isNightshiftError(error, 'queue-config')) throw error;
        expect(error.message).toContain(policy);
        expect(error.next).toContain('redis-cli config set maxmemory-policy noeviction');
        expect(error.exit).toBe(4);
      }
    },
  );

  it('is refused below 6.2', () => {
    expect(() => judgeRedis(info({ ...good, redis_version: '6.0.20' }), 'redis://r')).toThrow('older than 6.2.0');
  });

  it.each([
    ['6.2.19', true],
    ['6.2.20', false],
    ['7.0.15', true],
    ['7.2.10', true],
    ['7.4.6', false],
    ['8.0.3', true],
    ['8.2.1', true],
    ['8.2.2', false],
    ['8.4.0', false],
  ])('is warned of for CVE-2025-49844: Redis %s %s', (version, warned) => {
    const warnings = judgeRedis(info({ ...good, redis_version: version }), 'redis://r');
    expect(warnings.some((warning) => warning.includes('CVE-2025-49844'))).toBe(warned);
  });

  it('may be Valkey, whose own version counts', () => {
    const valkey = { ...good, redis_version: '7.2.4', server_name: 'valkey' };
    expect(judgeRedis(info({ ...valkey, valkey_version: '8.1.4' }), 'redis://r')).toEqual([]);
    expect(judgeRedis(info({ ...valkey, valkey_version: '8.1.1' }), 'redis://r')[0]).toContain('valkey 8.1.1');
  });

  it('is warned of when a restart would empty it, or when it does not tell its policy', () => {
    expect(judgeRedis(info({ ...good, aof_enabled: '0' }), 'redis://r')[0]).toContain('append-only file');
    expect(judgeRedis(info({ redis_version: '7.2.11' }), 'redis://r')[0]).toContain(
      'does not tell its maxmemory-policy',
    );
  });

  it('has room up to a tenth below its limit, or no limit', () => {
    expect(roomForJobs(info({ maxmemory: 0, used_memory: 5 }))).toBe(Number.POSITIVE_INFINITY);
    expect(roomForJobs(info({ maxmemory: 1000, used_memory: 300 }))).toBe(600);
    expect(roomForJobs(info({ maxmemory: 1000, used_memory: 950 }))).toBeLessThan(0);
  });
});
