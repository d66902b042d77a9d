import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { openS3 } from '../../../packages/core/src/source/s3.ts';
import type { S3Patience } from '../../../packages/core/src/source/s3-requests.ts';
import { counting, faultyS3, noise } from '../../fixtures/s3.ts';
import type { Fault } from '../../services/fault-s3.ts';

const URI = 's3://bucket/slide.svs';
const CONTENT = noise(3_000_000);

/** An open source of `CONTENT`, its server and what the client counted. */
async function opened(patience: Partial<S3Patience> = {}) {
  const observer = counting();
  const { server, client } = await faultyS3({ observer, patience });
  server.put('slide.svs', CONTENT);
  const source = await openS3(URI, client);
  return { server, client, source, observer };
}

/** The credentials of the environment, for this test. */
function signedAs(id: string): void {
  vi.stubEnv('AWS_ACCESS_KEY_ID', id);
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret');
  onTestFinished(() => void vi.unstubAllEnvs());
}

const slice = (offset: number, length: number) => Buffer.from(CONTENT.subarray(offset, offset + length));
const RANGE = { offset: 100_000, length: 400_000 };

describe('an object as a source', () => {
  it('has the size and a content id of ETag and size', async () => {
    const { server, source } = await opened();
    const { etag } = server.objects.get('slide.svs')!;
    expect(source).toMatchObject({ uri: URI, size: CONTENT.length, contentId: `${etag.slice(1, -1)}-3000000` });
  });

  it('gives each range, in the order asked, in memory of its own', async () => {
    const { source } = await opened();
    const ranges = [
      { offset: 2_900_000, length: 100_000 },
      { offset: 10, length: 5 },
      { offset: 12, length: 100 },
      { offset: 50, length: 0 },
      { offset: 10, length: 5 },
    ];
    const parts = await source.read(ranges);
    expect(parts.map((part) => Buffer.from(part))).toEqual(ranges.map(({ offset, length }) => slice(offset, length)));
    parts[1]!.fill(0);
    expect(Buffer.from(parts[4]!)).toEqual(slice(10, 5));
    expect(new Set(parts.map(({ buffer }) => buffer)).size).toBe(parts.length);
  });

  it('joins neighbours to requests of about a MiB, all pinned to the ETag', async () => {
    const { server, source, observer } = await opened();
    server.calm();
    await source.read(Array.from({ length: 300 }, (_, i) => ({ offset: i * 10_000, length: 10_000 })));
    expect(server.requests.map(({ range }) => range)).toHaveLength(3);
    const { etag } = server.objects.get('slide.svs')!;
    for (const { headers } of server.requests) expect(headers['if-match']).toBe(etag);
    expect(observer.received).toBe(3_000_000);
    expect(observer.requests).toEqual({ 'head 2xx': 1, 'get 2xx': 3 });
  });

  it('reads a long range in pieces', async () => {
    const { server, client } = await faultyS3();
    const long = noise(20 << 20);
    server.put('long', long);
    const source = await openS3('s3://bucket/long', client);
    const [all] = await source.read([{ offset: 1, length: long.length - 1 }]);
    expect(Buffer.compare(all!, long.subarray(1))).toBe(0);
    expect(server.requests.filter(({ operation }) => operation === 'get')).toHaveLength(3);
  });

  it('keeps its connections', async () => {
    const { server, source } = await opened();
    let connections = 0;
    server.onConnection(() => connections++);
    for (let i = 0; i < 10; i++) await source.read([RANGE]);
    expect(connections).toBe(0);
  });

  it('refuses a range that leaves the object, without asking', async () => {
    const { server, source } = await opened();
    server.calm();
    for (const range of [
      { offset: -1, length: 2 },
      { offset: 2_999_999, length: 2 },
    ]) {
      await expect(source.read([range])).rejects.toMatchObject({ code: 'slide-truncated' });
    }
    expect(server.requests).toEqual([]);
  });

  it('ends with the reason of its signal, and asks no more', async () => {
    const { server, source } = await opened();
    server.fault({ operation: 'get', fault: { stallAfter: 1000 } });
    const abort = new AbortController();
    const reading = source.read([RANGE], abort.signal);
    await server.seen('get');
    abort.abort(new Error('drained'));
    await expect(reading).rejects.toThrow('drained');
  });
});

describe('a source on a store that fails for a while', () => {
  const passing: [string, Fault, string][] = [
    ['503 SlowDown', { status: 503, code: 'SlowDown' }, 'slow-down'],
    ['503 without a word', { status: 503 }, 'slow-down'],
    ['429', { status: 429, code: 'TooManyRequests' }, 'slow-down'],
    ['500', { status: 500, code: 'InternalError' }, 'server-error'],
    ['a connection reset', 'reset', 'connection'],
    ['a short body that says so', { truncate: 5000 }, 'short-body'],
    ['a body that breaks off', { truncate: 5000, lie: true }, 'connection'],
    ['an empty body', { truncate: 0 }, 'short-body'],
    ['a body that stalls', { stallAfter: 70_000 }, 'stall'],
    ['a body that drips', { dripMs: 1 }, 'stall'],
  ];
  it.each(passing)('reads on after %s', async (_, fault, reason) => {
    const { server, source, observer } = await opened();
    server.fault({ operation: 'get', times: 2, fault });
    const [part] = await source.read([RANGE]);
    expect(Buffer.compare(part!, slice(RANGE.offset, RANGE.length))).toBe(0);
    expect(observer.retries).toEqual({ [reason]: 2 });
  });

  it('asks only for what a broken answer did not bring', async () => {
    const { server, source } = await opened();
    server.calm();
    server.fault({ operation: 'get', times: 1, fault: { truncate: 150_000 } });
    await source.read([RANGE]);
    expect(server.requests.map(({ range }) => range)).toEqual(['bytes=100000-499999', 'bytes=250000-499999']);
  });

  it('takes its part of a whole object that comes in place of the range', async () => {
    const { server, source, observer } = await opened();
    server.fault({ operation: 'get', fault: 'ignore-range' });
    const [part] = await source.read([RANGE]);
    expect(Buffer.compare(part!, slice(RANGE.offset, RANGE.length))).toBe(0);
    expect(observer.retries).toEqual({});
  });

  it('asks a second time where the answer is late, and takes what comes first', async () => {
    const { server, source, observer } = await opened({ hedgeMs: 100 });
    server.calm();
    server.fault({ operation: 'get', times: 1, fault: { delayMs: 60_000 } });
    const [part] = await source.read([RANGE]);
    expect(Buffer.compare(part!, slice(RANGE.offset, RANGE.length))).toBe(0);
    expect(server.requests).toHaveLength(2);
    expect(observer.retries).toEqual({});
  });

  it('gives an answer up that does not come', async () => {
    const { server, source, observer } = await opened({ hedgeMs: 50, firstByteMs: 150 });
    server.fault({ operation: 'get', times: 2, fault: { delayMs: 60_000 } });
    const [part] = await source.read([RANGE]);
    expect(Buffer.compare(part!, slice(RANGE.offset, RANGE.length))).toBe(0);
    expect(observer.retries.timeout).toBeGreaterThanOrEqual(1);
  });

  it('comes through a storm in which half of everything fails, with every byte right', async () => {
    // Half of eight tries may all fail; half of forty do not.
    const { server, source, observer } = await opened({ tries: 40 });
    const faults: Fault[] = [
      ...[{ status: 503, code: 'SlowDown' }, { status: 500 }, { truncate: 20_000 }, { truncate: 9, lie: true }],
      'reset',
    ];
    for (const fault of faults) server.fault({ operation: 'get', rate: 0.13, fault });
    for (let round = 0; round < 10; round++) {
      const ranges = Array.from({ length: 20 }, (_, i) => ({ offset: i * 150_000, length: 60_000 + round }));
      const parts = await source.read(ranges);
      for (const [i, { offset, length }] of ranges.entries()) {
        expect(Buffer.compare(parts[i]!, slice(offset, length))).toBe(0);
      }
    }
    expect(Object.keys(observer.retries).length).toBeGreaterThanOrEqual(3);
  });

  it('asks less at once after the store has asked for patience', async () => {
    const { server, source } = await opened();
    const scattered = Array.from({ length: 40 }, (_, i) => ({ offset: i * 75_000, length: 100 }));
    const wide = Array.from({ length: 14 }, (_, i) => ({ offset: i * 200_000, length: 100 }));
    server.fault({ operation: 'get', times: 30, fault: { status: 503, code: 'SlowDown' } });
    await source.read(scattered);
    server.calm();
    server.fault({ operation: 'get', fault: { delayMs: 20 } });
    await source.read(wide);
    expect(server.peak).toBeLessThan(14);
  });

  it('gives up in the end, and says that trying again may help', async () => {
    const { server, source } = await opened();
    server.calm();
    server.fault({ operation: 'get', fault: { status: 503, code: 'SlowDown' } });
    await expect(source.read([RANGE])).rejects.toMatchObject({
      code: 's3-unavailable',
      message: 'get s3://bucket/slide.svs: 503 SlowDown',
      retry: true,
      exit: 5,
    });
    expect(server.requests).toHaveLength(16);
  });

  it('says the same of a store that is not there', async () => {
    const { server, client } = await faultyS3();
    await server.close();
    await expect(openS3(URI, client)).rejects.toMatchObject({ code: 's3-unavailable', exit: 5 });
  });
});

describe('a source that fails for good', () => {
  it('knows an object that was replaced while it was read', async () => {
    const { server, source } = await opened();
    server.fault({ operation: 'get', fault: { replace: noise(3_000_000, 9) } });
    await expect(source.read([RANGE])).rejects.toMatchObject({ code: 'slide-changed' });
  });

  it('never joins two versions where a broken answer is read on', async () => {
    const { server, source } = await opened();
    server.fault({ operation: 'get', times: 1, fault: { truncate: 100 } });
    server.fault({ operation: 'get', fault: { replace: noise(3_000_000, 9) } });
    await expect(source.read([RANGE])).rejects.toMatchObject({ code: 'slide-changed' });
  });

  it('knows an object that was removed while it was read', async () => {
    const { server, source } = await opened();
    server.objects.clear();
    await expect(source.read([RANGE])).rejects.toMatchObject({ code: 'slide-changed' });
  });

  it('tells a missing object from a folder', async () => {
    const { client } = await faultyS3();
    await expect(openS3(URI, client)).rejects.toMatchObject({ code: 'slide-not-found', message: `there is no ${URI}` });
    await expect(openS3('s3://bucket/series/', client)).rejects.toMatchObject({ code: 'slide-unsupported' });
  });

  const refusals: [string, Fault, string, RegExp][] = [
    ['a forbidden object', { status: 403, code: 'AccessDenied' }, 'slide-forbidden', /s3:GetObject/],
    ['an archived object', { status: 403, code: 'InvalidObjectState' }, 'slide-archived', /restore-object/],
    ['expired credentials', { status: 400, code: 'ExpiredToken' }, 's3-credentials', /sso login/],
    ['a wrong key', { status: 403, code: 'SignatureDoesNotMatch' }, 's3-credentials', /credentials/],
    ['a bucket that is not there', { status: 404, code: 'NoSuchBucket' }, 's3-bucket-missing', /name of the bucket/],
    ['a server that is no S3', { status: 405, code: 'MethodNotAllowed' }, 's3-refused', /endpoint/],
  ];
  it.each(refusals)('says what to do about %s, at once', async (_, fault, code, next) => {
    const { server, source } = await opened();
    server.calm();
    server.fault({ operation: 'get', fault });
    const error = await source.read([RANGE]).catch((error) => error);
    expect(error).toMatchObject({ code, retry: false, exit: 4 });
    expect(error.next).toMatch(next);
    expect(server.requests).toHaveLength(1);
  });

  it('asks for the reason that an answer to HEAD cannot carry', async () => {
    const { server, client } = await faultyS3();
    server.fault({ operation: 'head', fault: { status: 403 } });
    server.fault({ operation: 'get', fault: { status: 403, code: 'InvalidAccessKeyId' } });
    await expect(openS3(URI, client)).rejects.toMatchObject({ code: 's3-credentials' });
  });

  const elsewhere = { status: 301, headers: { 'x-amz-bucket-region': 'eu-central-1' } };

  it('names the region that a bucket is in where it answers nowhere', async () => {
    const { server, client } = await faultyS3();
    server.fault({ operation: 'head', fault: elsewhere });
    const error = await openS3(URI, client).catch((error) => error);
    expect(error).toMatchObject({ code: 's3-region', exit: 4, next: 'Set AWS_REGION=eu-central-1.' });
    expect(server.requests).toHaveLength(2);
  });

  it('asks a bucket of another region there, and only the first request goes astray', async () => {
    signedAs('key');
    const { server, client } = await faultyS3({ config: { noSignRequest: false } });
    server.put('slide.svs', CONTENT);
    server.fault({ operation: 'head', times: 1, fault: elsewhere });
    await (await openS3(URI, client)).read([RANGE]);
    await openS3(URI.replace('bucket', 'other'), client).catch(() => {});
    const regions = server.requests.map(
      ({ headers }) => /Credential=key\/\d+\/([^/]+)/.exec(headers.authorization!)?.[1],
    );
    expect(regions).toEqual(['us-east-1', 'eu-central-1', 'eu-central-1', 'us-east-1']);
  });
});

describe('a client', () => {
  it('pays for its requests where it is told to', async () => {
    const { server, client } = await faultyS3({ config: { requesterPays: true } });
    server.put('slide.svs', CONTENT);
    await (await openS3(URI, client)).read([RANGE]);
    expect(server.requests.map(({ headers }) => headers['x-amz-request-payer'])).toEqual(['requester', 'requester']);
  });

  it('sends no credentials where it is told not to, and signs otherwise', async () => {
    const { server, client } = await faultyS3();
    server.put('slide.svs', CONTENT);
    await openS3(URI, client);
    expect(server.requests[0]!.headers.authorization).toBeUndefined();
  });

  it('sends none to the buckets that are named, and signs for the others', async () => {
    signedAs('key');
    const { server, client } = await faultyS3({ config: { noSignRequest: ['public'] } });
    for (const bucket of ['public', 'mine']) await openS3(`s3://${bucket}/slide.svs`, client).catch(() => {});
    expect(server.requests.map(({ headers }) => headers.authorization !== undefined)).toEqual([false, true]);
  });
});
