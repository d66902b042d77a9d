import { describe, expect, it } from 'vitest';
import { queueError } from '../../../packages/core/src/queue/redis-errors.ts';

describe('errors of Redis', () => {
  it.each([
    ['connect ECONNREFUSED 127.0.0.1:6379', 'queue-unreachable', 5],
    ['getaddrinfo ENOTFOUND redis.example', 'queue-unreachable', 5],
    ['All sentinels are unreachable. Retrying from scratch after 100ms.', 'queue-unreachable', 5],
    ['LOADING Redis is loading the dataset in memory', 'queue-unreachable', 5],
    ['OOM command not allowed when used memory > maxmemory', 'queue-full', 5],
    ['NOAUTH Authentication required.', 'queue-config', 4],
    ['WRONGPASS invalid username-password pair or user is disabled.', 'queue-config', 4],
    ['NOPERM this user has no permissions', 'queue-config', 4],
    ['self-signed certificate in certificate chain', 'queue-config', 4],
    ['ERR something else', 'queue-failed', 5],
  ])('%s is %s', (message, code, exit) => {
    const error = queueError(new Error(message), 'redis://r');
    expect(error).toMatchObject({ code, exit });
    expect(error.message).toContain('redis://r');
  });

  it('names every address that refused', () => {
    const both = new AggregateError(
      [new Error('connect ECONNREFUSED ::1:1'), new Error('connect ECONNREFUSED 127.0.0.1:1')],
      '',
    );
    expect(queueError(both, 'redis://r').message).toContain('::1:1; connect ECONNREFUSED 127.0.0.1:1');
  });
});
