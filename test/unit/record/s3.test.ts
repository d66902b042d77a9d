import { describe, expect, it } from 'vitest';
import { s3Blobs } from '../../../packages/core/src/record/s3.ts';
import type { S3Patience } from '../../../packages/core/src/source/s3-requests.ts';
import { counting, faultyS3, noise } from '../../fixtures/s3.ts';
import type { Fault } from '../../services/fault-s3.ts';

const MiB = 1 << 20;

async function opened(patience: Partial<S3Patience> = {}) {
  const observer = counting();
  const { server, client } = await faultyS3({ observer, patience });
  return { server, client, observer, blobs: await s3Blobs('s3://bucket/record', client) };
}

/** A body as the pipeline writes them: in chunks of odd lengths. */
async function* chunked(content: Uint8Array, length = 700_001): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += length) yield content.subarray(at, at + length);
}

const same = (a: Uint8Array | null | undefined, b: Uint8Array): boolean =>
  a !== null && a !== undefined && Buffer.compare(a, b) === 0;

describe('blobs on S3', () => {
  it('are objects under the prefix', async () => {
    const { server, blobs } = await opened();
    await blobs.putIfAbsent('a/b', Buffer.from('x'));
    expect([...server.objects.keys()]).toEqual(['record/a/b']);
    expect(blobs.uri).toBe('s3://bucket/record');
  });

  it('may fill a whole bucket', async () => {
    const { server, client } = await faultyS3();
    const blobs = await s3Blobs('s3://bucket/', client);
    await blobs.put('a', Buffer.from('x'));
    expect([...server.objects.keys()]).toEqual(['a']);
    expect(await Array.fromAsync(blobs.list(''))).toEqual([{ key: 'a', size: 1 }]);
  });

  it('are listed over pages, without the folders that a console shows', async () => {
    const { server, blobs } = await opened();
    for (let i = 0; i < 2500; i++) server.put(`record/n/${String(i).padStart(4, '0')}`, 'x');
    server.put('record/n/folder/', '');
    server.put('recorded', 'another prefix');
    const keys = (await Array.fromAsync(blobs.list('n/'))).map(({ key }) => key);
    expect(keys).toHaveLength(2500);
    expect([keys[0], keys.at(-1)]).toEqual(['n/0000', 'n/2499']);
    expect(await Array.fromAsync(blobs.list(''))).toHaveLength(2500);
  });

  it('keep names that XML and URLs would spoil', async () => {
    const { blobs } = await opened();
    const names = ['a b', 'a+b', 'a%20b', 'ä&<">#?', 'tab\tend'];
    for (const name of names) expect(await blobs.putIfAbsent(name, Buffer.from(name))).toBe('written');
    expect((await Array.fromAsync(blobs.list(''))).map(({ key }) => key).sort()).toEqual([...names].sort());
    for (const name of names) expect(Buffer.from((await blobs.get(name))!).toString()).toBe(name);
  });
});

describe('put-if-absent on a store that fails for a while', () => {
  const passing: [string, Fault][] = [
    ['503', { status: 503, code: 'SlowDown' }],
    ['500', { status: 500, code: 'InternalError' }],
    ['a race (409)', { status: 409, code: 'ConditionalRequestConflict' }],
    ['a reset', 'reset'],
  ];
  it.each(passing)('writes after %s', async (_, fault) => {
    const { server, blobs } = await opened();
    server.fault({ operation: 'put', times: 2, fault });
    expect(await blobs.putIfAbsent('key', Buffer.from('mine'))).toBe('written');
    expect(Buffer.from((await blobs.get('key'))!).toString()).toBe('mine');
  });

  it('finds its own write there when the answer was lost', async () => {
    const { server, blobs } = await opened();
    server.fault({ operation: 'put', times: 1, fault: 'execute-then-drop' });
    expect(await blobs.putIfAbsent('key', Buffer.from('mine'))).toBe('exists');
    expect(Buffer.from((await blobs.get('key'))!).toString()).toBe('mine');
    expect(server.requests.map(({ status }) => status).slice(0, 2)).toEqual([0, 412]);
  });

  it('gives up in the end, with nothing written', async () => {
    const { server, blobs } = await opened();
    server.fault({ operation: 'put', fault: { status: 503, code: 'SlowDown' } });
    await expect(blobs.putIfAbsent('key', Buffer.from('mine'))).rejects.toMatchObject({
      code: 's3-unavailable',
      exit: 5,
    });
    expect(server.objects.size).toBe(0);
  });

  it('says what right is missing', async () => {
    const { server, blobs } = await opened();
    server.fault({ operation: 'put', fault: { status: 403, code: 'AccessDenied' } });
    const error = await blobs.putIfAbsent('key', Buffer.from('mine')).catch((error) => error);
    expect(error).toMatchObject({ code: 'out-not-writable', exit: 4, next: expect.stringContaining('s3:PutObject') });
  });

  it('reads a blob on where its body breaks off', async () => {
    const { server, blobs } = await opened();
    const content = noise(3 * MiB);
    await blobs.put('key', content);
    server.calm();
    server.fault({ operation: 'get', times: 2, fault: { truncate: MiB, lie: true } });
    expect(same(await blobs.get('key'), content)).toBe(true);
    expect(server.requests.map(({ range }) => range)).toEqual(['bytes=0-', 'bytes=1048576-', 'bytes=2097152-']);
  });

  it('is not taken in by an answer that is short and says so', async () => {
    const { server, blobs } = await opened();
    const content = noise(MiB);
    await blobs.put('key', content);
    server.fault({ operation: 'get', times: 1, fault: { truncate: 1000 } });
    expect(same(await blobs.get('key'), content)).toBe(true);
  });

  it('never joins two versions of a blob', async () => {
    const { server, blobs } = await opened();
    await blobs.put('key', noise(MiB, 1));
    server.fault({ operation: 'get', times: 1, fault: { truncate: 1000 } });
    server.fault({ operation: 'get', times: 1, fault: { replace: noise(MiB, 2) } });
    expect(same(await blobs.get('key'), noise(MiB, 2))).toBe(true);
  });
});

describe('a long body on S3', () => {
  const content = noise(21 * MiB);

  it('goes in parts and is published whole, leaving neither upload nor claim', async () => {
    const { server, blobs } = await opened();
    expect(await blobs.putIfAbsent('long', chunked(content))).toBe('written');
    expect(same(server.objects.get('record/long')?.body, content)).toBe(true);
    expect([...server.objects.keys()]).toEqual(['record/long']);
    expect(server.uploads.size).toBe(0);
  });

  it('needs memory for a few parts, whatever its length', async () => {
    const { server, blobs } = await opened();
    const chunk = noise(MiB);
    let ahead = 0;
    async function* endless() {
      for (let i = 0; i < 160; i++) {
        const sent = server.requests.reduce((sum, { received }) => sum + received, 0);
        ahead = Math.max(ahead, (i + 1) * MiB - sent);
        yield chunk;
      }
    }
    await blobs.putIfAbsent('long', endless());
    expect(ahead).toBeLessThanOrEqual(41 * MiB);
    expect(server.objects.get('record/long')?.body.length).toBe(160 * MiB);
  });

  it('is not uploaded where the name is taken', async () => {
    const { server, blobs } = await opened();
    await blobs.put('long', Buffer.from('first'));
    server.calm();
    expect(await blobs.putIfAbsent('long', chunked(content))).toBe('exists');
    expect(server.requests.map(({ operation }) => operation)).toEqual(['head']);
  });

  it('has one winner of 8 that write at once, and its content', async () => {
    const { server, blobs } = await opened();
    const bodies = Array.from({ length: 8 }, (_, i) => noise(9 * MiB, i + 1));
    const results = await Promise.all(bodies.map((body) => blobs.putIfAbsent('long', chunked(body))));
    expect(results.filter((result) => result === 'written')).toHaveLength(1);
    expect(same(server.objects.get('record/long')?.body, bodies[results.indexOf('written')]!)).toBe(true);
    expect([...server.objects.keys()]).toEqual(['record/long']);
    expect(server.uploads.size).toBe(0);
  });

  it('replaces what is there with put', async () => {
    const { server, blobs } = await opened();
    await blobs.put('long', Buffer.from('first'));
    await blobs.put('long', chunked(content));
    expect(same(server.objects.get('record/long')?.body, content)).toBe(true);
  });

  it('comes through a storm, also of lost answers', async () => {
    // Half of eight tries may all fail; half of forty do not.
    const { server, blobs } = await opened({ tries: 40 });
    server.fault({ operation: 'multipart', rate: 0.2, fault: { status: 503, code: 'SlowDown' } });
    server.fault({ operation: 'multipart', rate: 0.2, fault: 'reset' });
    server.fault({ operation: 'multipart', key: /lost/, rate: 0.2, fault: 'execute-then-drop' });
    server.fault({ operation: 'put', rate: 0.3, fault: 'execute-then-drop' });
    for (let i = 0; i < 5; i++) {
      await blobs.putIfAbsent(`lost/${i}`, chunked(content));
      expect(same(server.objects.get(`record/lost/${i}`)?.body, content)).toBe(true);
    }
    expect([...server.objects.keys()].filter((key) => !key.startsWith('record/lost/'))).toEqual([]);
  });

  it('is published by the next writer where the first died after its claim', async () => {
    const { server, client, blobs } = await opened();
    const dying = await s3Blobs('s3://bucket/record', {
      ...client,
      uploads: { ...client.uploads, complete: () => Promise.reject(new Error('killed')), abort: async () => {} },
    });
    await expect(dying.putIfAbsent('long', chunked(content))).rejects.toThrow('killed');
    expect(await Array.fromAsync(blobs.list(''))).toEqual([]);
    expect(await blobs.putIfAbsent('long', chunked(noise(9 * MiB)))).toBe('exists');
    expect(same(await blobs.get('long'), content)).toBe(true);
    expect([...server.objects.keys()]).toEqual(['record/long']);
    expect(server.uploads.size).toBe(0);
  });

  it('is claimed anew where the claimed upload is gone', async () => {
    const { server, client, blobs } = await opened();
    const dying = await s3Blobs('s3://bucket/record', {
      ...client,
      uploads: { ...client.uploads, complete: () => Promise.reject(new Error('killed')) },
    });
    await expect(dying.putIfAbsent('long', chunked(noise(9 * MiB)))).rejects.toThrow('killed');
    expect(server.uploads.size).toBe(0);
    expect(await blobs.putIfAbsent('long', chunked(content))).toBe('written');
    expect(same(await blobs.get('long'), content)).toBe(true);
    expect([...server.objects.keys()]).toEqual(['record/long']);
  });

  it('leaves nothing of a body that fails', async () => {
    const { server, blobs } = await opened();
    async function* failing() {
      yield* chunked(content);
      throw new Error('the disk broke');
    }
    await expect(blobs.putIfAbsent('long', failing())).rejects.toThrow('the disk broke');
    expect([server.objects.size, server.uploads.size]).toEqual([0, 0]);
  });

  it('clears away what writers left that died more than a day ago', async () => {
    const { server, client, blobs } = await opened();
    const at = { bucket: 'bucket', key: 'record/dead' };
    const old = await client.uploads.begin(at);
    const young = await client.uploads.begin(at);
    server.uploads.get(old)!.begun = new Date(Date.now() - 25 * 3600 * 1000);
    await blobs.putIfAbsent('long', chunked(content));
    expect([...server.uploads.keys()]).toEqual([young]);
  });
});

describe('the probe of a record on S3', () => {
  it('leaves nothing where all is well', async () => {
    const { server, blobs } = await opened();
    await blobs.probe();
    expect(server.objects.size).toBe(0);
  });

  it('refuses a store that lets a second writer overwrite', async () => {
    const { server, blobs } = await opened();
    server.conditional = false;
    await expect(blobs.probe()).rejects.toMatchObject({
      code: 'out-no-put-if-absent',
      exit: 4,
      next: expect.stringContaining('If-None-Match'),
    });
    expect(server.objects.size).toBe(0);
  });

  it('refuses a store that does not know the condition', async () => {
    const { server, blobs } = await opened();
    server.fault({ operation: 'put', fault: { status: 501, code: 'NotImplemented' } });
    await expect(blobs.probe()).rejects.toMatchObject({ code: 'out-no-put-if-absent' });
  });

  it('names the bucket that is not there', async () => {
    const { server, blobs } = await opened();
    server.fault({ fault: { status: 404, code: 'NoSuchBucket' } });
    await expect(blobs.probe()).rejects.toMatchObject({ code: 's3-bucket-missing' });
  });
});
