import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { listSources, type SourceEntry } from '@nightshift/core';
import { describe, expect, it, onTestFinished } from 'vitest';
import { s3Listing } from '../../../packages/core/src/source/s3-list.ts';
import { faultyS3 } from '../../fixtures/s3.ts';
import type { FaultS3 } from '../../services/fault-s3.ts';

async function bucketOf(...keys: string[]) {
  const { server, client } = await faultyS3();
  for (const key of keys) server.put(key, key);
  const listing = s3Listing(client);
  const warnings: string[] = [];
  const options = { objects: async () => listing, onWarning: (warning: string) => warnings.push(warning) };
  return {
    server,
    warnings,
    entries: (...sources: string[]): AsyncGenerator<SourceEntry> => listSources(sources, options),
    /** Keys of what the sources name. */
    list: async (...sources: string[]): Promise<string[]> =>
      (await Array.fromAsync(listSources(sources, options))).map(({ uri }) => uri.replace('s3://bucket/', '')),
  };
}

const lists = (server: FaultS3) => server.requests.filter(({ operation }) => operation === 'list').length;

describe('a prefix of a bucket', () => {
  it('gives the slides below it, without hidden folders, labels and other kinds', async () => {
    const { list, warnings } = await bucketOf(
      ...['in/a.svs', 'in/b/c.tiff', 'in/.trash/d.svs', 'in/e.txt', 'in/f_label.tif', 'in/', 'inside.svs', 'x.svs'],
    );
    expect(await list('s3://bucket/in/')).toEqual(['in/a.svs', 'in/b/c.tiff']);
    expect(await list('s3://bucket/in')).toEqual(['in/a.svs', 'in/b/c.tiff']);
    expect(warnings[0]).toContain('f_label.tif was left out');
  });

  it('takes several DICOM files of one folder for one slide, also where folders lie in one another', async () => {
    const { list } = await bucketOf(
      ...['a/1.dcm', 'a/b/2.dcm', 'a/b/3.dcm', 'a/b/c/4.dcm', 'a/d.svs', 'a/z.dcm', 'b/label.dcm', 'b/5.dcm', 'c.dcm'],
    );
    const all = ['a/b/c/4.dcm', 'a/b/', 'a/d.svs', 'a/', 'b/', 'c.dcm'];
    expect((await list('s3://bucket')).toSorted()).toEqual(all.toSorted());
    expect(await list('s3://bucket/b/')).toEqual(['b/']);
    expect(await list('s3://bucket/a/b/*')).toEqual(['a/b/c/4.dcm', 'a/b/']);
    expect(await list('s3://bucket/c.dcm')).toEqual(['c.dcm']);
  });

  it('may be the whole bucket', async () => {
    const { list } = await bucketOf('a.svs', 'b/c.svs');
    expect(await list('s3://bucket')).toEqual(['a.svs', 'b/c.svs']);
    expect(await list('s3://bucket/')).toEqual(['a.svs', 'b/c.svs']);
  });

  it('may lie below a hidden folder that the person names', async () => {
    const { list } = await bucketOf('.cache/a.svs', '.cache/.b/c.svs');
    expect(await list('s3://bucket/.cache/')).toEqual(['.cache/a.svs']);
  });

  it('is listed page by page as it is read, and says the content ids, so that no slide is opened', async () => {
    const keys = Array.from({ length: 5500 }, (_, i) => `n/${String(i).padStart(5, '0')}.svs`);
    const { server, entries } = await bucketOf(...keys);
    const etag = (key: string) => server.objects.get(key)!.etag.replaceAll('"', '');
    let count = 0;
    for await (const { uri, contentId } of entries('s3://bucket/n/')) {
      const key = keys[count]!;
      expect([uri, contentId]).toEqual([`s3://bucket/${key}`, `${etag(key)}-${key.length}`]);
      count++;
      expect(lists(server)).toBe(Math.ceil(count / 1000));
    }
    expect(count).toBe(5500);
    expect(new Set(server.requests.map(({ operation }) => operation))).toEqual(new Set(['list']));
  });

  it('is read on where the store fails for a while', async () => {
    const keys = Array.from({ length: 2500 }, (_, i) => `${String(i).padStart(5, '0')}.svs`);
    const { server, list } = await bucketOf(...keys);
    server.fault({ operation: 'list', rate: 0.4, fault: { status: 503, code: 'SlowDown' } });
    server.fault({ operation: 'list', times: 3, fault: { truncate: 500, lie: true } });
    expect(await list('s3://bucket')).toEqual(keys);
  });

  it('that holds nothing is source-not-found, that holds no slide is source-empty', async () => {
    const { list } = await bucketOf('in/readme.md');
    await expect(list('s3://bucket/out/')).rejects.toMatchObject({ code: 'source-not-found' });
    await expect(list('s3://bucket/in/')).rejects.toMatchObject({ code: 'source-empty' });
  });

  it('of a bucket that may not be listed, or is not there, says what to do', async () => {
    const { server, list } = await bucketOf();
    server.fault({ operation: 'list', times: 1, fault: { status: 403, code: 'AccessDenied' } });
    await expect(list('s3://bucket/in/')).rejects.toMatchObject({ code: 's3-forbidden', exit: 4 });
    server.fault({ operation: 'list', fault: { status: 404, code: 'NoSuchBucket' } });
    await expect(list('s3://bucket/in/')).rejects.toMatchObject({ code: 's3-bucket-missing', exit: 4 });
  });
});

describe('an object', () => {
  it('is a slide whatever it is called', async () => {
    const { list } = await bucketOf('in/slide', 'in/slide/other.svs');
    expect(await list('s3://bucket/in/slide')).toEqual(['in/slide']);
  });

  it('may have the characters of a glob in its name', async () => {
    const { list } = await bucketOf('case [1].svs', 'case 1.svs');
    expect(await list('s3://bucket/case [1].svs')).toEqual(['case [1].svs']);
  });

  it('that two sources name is given once', async () => {
    const { list, warnings } = await bucketOf('in/a.svs', 'in/b.svs');
    expect(await list('s3://bucket/in/b.svs', 's3://bucket/in/')).toEqual(['in/b.svs', 'in/a.svs']);
    expect(warnings).toEqual(['s3://bucket/in/b.svs was given already; it is taken once']);
  });
});

describe('a glob over keys', () => {
  const keys = ['a/x.svs', 'a/b/y.svs', 'a/b/c/z.tif', 'a/.h/q.svs', 'b/x.svs', 'c-1/s/t.svs', 'c-2/u.svs'];
  it.each([
    ['s3://bucket/a/**/*.svs', ['a/b/y.svs', 'a/x.svs']],
    ['s3://bucket/*/x.svs', ['a/x.svs', 'b/x.svs']],
    ['s3://bucket/a/b/*', ['a/b/c/z.tif', 'a/b/y.svs']],
    ['s3://bucket/c-?/', ['c-1/s/t.svs', 'c-2/u.svs']],
    ['s3://bucket/{b,c-2}/*.svs', ['b/x.svs', 'c-2/u.svs']],
    ['s3://bucket/**', ['a/b/c/z.tif', 'a/b/y.svs', 'a/x.svs', 'b/x.svs', 'c-1/s/t.svs', 'c-2/u.svs']],
  ])('%s', async (glob, found) => {
    const { list } = await bucketOf(...keys);
    expect(await list(glob)).toEqual(found);
  });

  it('asks only for keys that begin like it', async () => {
    const { server, list } = await bucketOf(...keys);
    await list('s3://bucket/a/b/**/*.tif');
    expect(server.requests.map(({ key }) => key)).toEqual(['a/b/']);
  });

  it('names its bucket whole', async () => {
    const { list } = await bucketOf(...keys);
    await expect(list('s3://buck*/a.svs')).rejects.toMatchObject({ code: 'usage' });
  });
});

describe('a manifest', () => {
  it('may lie on S3, its relative names beside it', async () => {
    const { server, entries } = await bucketOf('in/a.svs', 'other/b.svs');
    server.put('in/list.csv', 'uri,mpp,site\na.svs,0.25,A\n../other/b.svs,,B\ns3://else/c.svs,,C\n/disk/d.svs,,D\n');
    const found = await Array.fromAsync(entries('s3://bucket/in/list.csv'));
    expect(found.map(({ uri }) => uri)).toEqual([
      ...['s3://bucket/in/a.svs', 's3://bucket/other/b.svs', 's3://else/c.svs', '/disk/d.svs'],
    ]);
    expect(found[0]).toMatchObject({ mpp: 0.25, metadata: { site: 'A' } });
  });

  it('may be JSON lines, and longer than what is read of it at once', async () => {
    const { server, list } = await bucketOf();
    const line = (i: number) => JSON.stringify({ uri: `${i}.svs`, note: 'x'.repeat(1000) });
    server.put('list.jsonl', Array.from({ length: 6000 }, (_, i) => line(i)).join('\n'));
    const found = await list('s3://bucket/list.jsonl');
    expect([found.length, found.at(-1)]).toEqual([6000, '5999.svs']);
    expect(server.requests.filter(({ operation }) => operation === 'get')).toHaveLength(2);
  });

  it('names the line that is wrong', async () => {
    const { server, list } = await bucketOf();
    server.put('list.csv', 'uri,mpp\na.svs,fast\n');
    await expect(list('s3://bucket/list.csv')).rejects.toThrow('s3://bucket/list.csv:2: mpp is "fast"');
  });
});

describe('an s5cmd manifest', () => {
  const manifest = [
    '# downloaded with care',
    'cp s3://bucket/series-1/* .',
    '',
    'cp --concurrency 5 "s3://bucket/series 2/*" ./out',
    "cp 's3://bucket/single.svs' .",
    'cp s3://bucket/dicom/* .',
  ].join('\n');

  it('names the slides of its folders in the order of its lines, on S3 and on disk', async () => {
    const { server, list, warnings } = await bucketOf(
      ...['series-1/b.svs', 'series-1/deep/a.svs', 'series 2/c.tif', 'single.svs', 'dicom/1.dcm', 'dicom/2.dcm'],
    );
    server.put('list.s5cmd', manifest);
    const folder = await mkdtemp(join(tmpdir(), 'nightshift-list-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    await writeFile(join(folder, 'list.s5cmd'), manifest);
    const found = ['series-1/b.svs', 'series-1/deep/a.svs', 'series 2/c.tif', 'single.svs', 'dicom/'];
    expect(await list('s3://bucket/list.s5cmd')).toEqual(found);
    expect(await list(join(folder, 'list.s5cmd'))).toEqual(found);
    expect(warnings).toEqual([]);
  });

  it('lists a folder that holds nothing known as a slide, and says so', async () => {
    const { server, list, warnings } = await bucketOf('notes/1.txt');
    server.put('list.s5cmd', 'cp s3://bucket/notes/* .\n');
    expect(await list('s3://bucket/list.s5cmd')).toEqual(['notes/']);
    expect(warnings[0]).toContain('list.s5cmd:1: s3://bucket/notes/ holds no file known as a slide');
  });

  it('lists a slide of a line that leads nowhere: it fails by name, the others go on', async () => {
    const { server, list } = await bucketOf('a/b.svs');
    server.put('list.s5cmd', 'cp s3://bucket/gone/* .\ncp s3://bucket/a/* .\n');
    expect(await list('s3://bucket/list.s5cmd')).toEqual(['gone/', 'a/b.svs']);
  });

  it('is listed many lines at once, each slide once', async () => {
    const { server, list } = await bucketOf(...Array.from({ length: 100 }, (_, i) => `${i}/slide.svs`));
    server.fault({ operation: 'list', fault: { delayMs: 20 } });
    const lines = Array.from({ length: 200 }, (_, i) => `cp s3://bucket/${i % 100}/* .`);
    server.put('list.s5cmd', lines.join('\n'));
    expect(await list('s3://bucket/list.s5cmd')).toEqual(Array.from({ length: 100 }, (_, i) => `${i}/slide.svs`));
    expect(server.peak).toBeGreaterThan(8);
  });

  it('names the line that is none', async () => {
    const { server, list } = await bucketOf();
    server.put('list.s5cmd', 'cp s3://bucket/a/* .\nrm s3://bucket/a/*\n');
    await expect(list('s3://bucket/list.s5cmd')).rejects.toThrow('list.s5cmd:2: not a line of');
  });
});
