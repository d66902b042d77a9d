import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isNightshiftError, parseRedisUrl } from '@nightshift/core';
import { describe, expect, it } from 'vitest';

const messageOf = (url: string): string => {
  try {
    parseRedisUrl(url);
  } catch (error) {
    if (isNightshiftError(error, 'usage')) return `${error.message} ${error.next}`;
    throw error;
  }
  throw new Error(`${url} was accepted`);
};

describe('the URL of a Redis', () => {
  it('names one server, with defaults', () => {
    expect(parseRedisUrl('redis://localhost')).toEqual({
      kind: 'single',
      hosts: [{ host: 'localhost', port: 6379 }],
      master: null,
      username: null,
      password: null,
      sentinelPassword: null,
      db: 0,
      tls: null,
      label: 'redis://localhost',
    });
    expect(parseRedisUrl('redis://10.0.0.1:7000/3')).toMatchObject({
      hosts: [{ host: '10.0.0.1', port: 7000 }],
      db: 3,
    });
    expect(parseRedisUrl('redis://[::1]:7000')).toMatchObject({ hosts: [{ host: '::1', port: 7000 }] });
  });

  it('carries an ACL user, percent-encoded, or a password alone', () => {
    expect(parseRedisUrl('rediss://night%40shift:p%40ss%3A%2F@r:1')).toMatchObject({
      username: 'night@shift',
      password: 'p@ss:/',
      tls: {},
    });
    expect(parseRedisUrl('redis://:secret@r')).toMatchObject({ username: null, password: 'secret' });
    expect(parseRedisUrl('redis://secret@r')).toMatchObject({ username: null, password: 'secret' });
  });

  it('names sentinels and their master', () => {
    expect(parseRedisUrl('redis+sentinel://u:p@s1,s2:26380/mymaster/2?sentinelPassword=q')).toMatchObject({
      kind: 'sentinel',
      hosts: [
        { host: 's1', port: 26379 },
        { host: 's2', port: 26380 },
      ],
      master: 'mymaster',
      db: 2,
      password: 'p',
      sentinelPassword: 'q',
    });
  });

  it('names nodes of a cluster', () => {
    expect(parseRedisUrl('rediss+cluster://n1:7000,n2:7001')).toMatchObject({
      kind: 'cluster',
      hosts: [
        { host: 'n1', port: 7000 },
        { host: 'n2', port: 7001 },
      ],
      tls: {},
    });
  });

  it('reads the authority of a private certificate', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'nightshift-ca-'));
    try {
      await writeFile(join(dir, 'ca.pem'), 'PEM');
      expect(parseRedisUrl(`rediss://r?ca=${dir}/ca.pem`).tls?.ca?.toString()).toBe('PEM');
      expect(messageOf(`rediss://r?ca=${dir}/other.pem`)).toContain('ENOENT');
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it.each([
    ['http://r', 'is not the URL of a Redis'],
    ['redis:/r', 'is not the URL of a Redis'],
    ['redis://', 'is not the URL of a Redis'],
    ['redis://r:99999', 'not host[:port]'],
    ['redis://a,b', 'redis+sentinel:// or redis+cluster://'],
    ['redis://r/jobs', 'not the number of a database'],
    ['redis://r/1/2', 'not the number of a database'],
    ['redis+sentinel://s1', 'name of the master is missing'],
    ['redis+cluster://n1/1', 'database 0 only'],
    ['redis://r?tls=true', 'unknown parameter "tls"'],
    ['redis://u:50%@r', 'percent-encoding'],
  ])('refuses %s: %s', (url, why) => {
    expect(messageOf(url)).toContain(why);
  });

  it('never repeats the password', () => {
    for (const url of ['redis://u:canary@r:99999', 'redis//u:canary@r', 'redis://u:canary@a,b', 'http://u:canary@r']) {
      expect(messageOf(url)).not.toContain('canary');
    }
    expect(parseRedisUrl('redis://u:canary@r/1?sentinelPassword=canary').label).toBe('redis://r/1');
  });
});
