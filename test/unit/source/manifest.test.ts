import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readManifest, type SourceEntry } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nightshift-manifest-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(name: string, content: string | Uint8Array, warnings: string[] = []): Promise<SourceEntry[]> {
  const path = join(folder, name);
  await writeFile(path, content);
  const entries: SourceEntry[] = [];
  for await (const entry of readManifest(path, (warning) => warnings.push(warning))) entries.push(entry);
  return entries;
}

describe('a CSV manifest', () => {
  it('resolves a relative uri against its folder and keeps absolute ones and URIs', async () => {
    const entries = await read('a.csv', 'uri\na.svs\nsub/b.tif\n/data/c.svs\ns3://bucket/d.svs\n');
    expect(entries.map((entry) => entry.uri)).toEqual([
      join(folder, 'a.svs'),
      join(folder, 'sub/b.tif'),
      '/data/c.svs',
      's3://bucket/d.svs',
    ]);
  });

  it('reads mpp and id, and keeps other filled columns as metadata', async () => {
    expect(await read('b.csv', 'id,uri,mpp,diagnosis,site\nS1,/a.svs,0.25,carcinoma,\nS2,/b.svs,,,Bern\n')).toEqual([
      { uri: '/a.svs', mpp: 0.25, id: 'S1', metadata: { diagnosis: 'carcinoma' } },
      { uri: '/b.svs', id: 'S2', metadata: { site: 'Bern' } },
    ]);
  });

  it('takes a byte order mark, CRLF, quotes with separators, line breaks and quotes inside, and blank lines', async () => {
    const text = '\uFEFF"uri",note\r\n"/with, comma.svs","two\r\nlines, ""quoted"""\r\n\r\n/last.svs,""';
    expect(await read('c.csv', text)).toEqual([
      { uri: '/with, comma.svs', metadata: { note: 'two\nlines, "quoted"' } },
      { uri: '/last.svs' },
    ]);
  });

  it.each([
    [';', 'uri;mpp\n/a.svs;0.5\n'],
    ['tab', 'uri\tmpp\n/a.svs\t0.5\n'],
  ])('takes %s as separator when the header uses it', async (_, text) => {
    expect(await read('d.csv', text)).toEqual([{ uri: '/a.svs', mpp: 0.5 }]);
  });

  it.each([
    ['no uri column', 'path,mpp\n/a.svs,0.5\n', ':1: no `uri` column among `path`, `mpp`'],
    ['a row with too many fields', 'uri,mpp\n/a.svs,0.5\n/b.svs,0.5,x\n', ':3: 3 fields where the header has 2'],
    ['an mpp with a decimal comma', 'uri;mpp\n/a.svs;0,25\n', ':2: mpp is "0,25"'],
    ['an absurd mpp', 'uri,mpp\n/a.svs,352.8\n', ':2: mpp is "352.8"'],
    ['an empty uri', 'uri,mpp\n,0.5\n', ':2: the `uri` is empty'],
    ['a column named twice', 'uri,a,A\n', ':1: column "a" comes twice'],
    ['a quote that never closes', 'uri,note\n/a.svs,"open\n/b.svs,x\n', ':2: a quote is not closed'],
    ['a quote inside a field', 'uri\n/a"b.svs"\n', ':2: a quote stands inside an unquoted field'],
    ['text behind a closing quote', 'uri\n"/a.svs"x\n', ':2: text follows a closing quote'],
    ['one id for two slides', 'uri,id\n/a.svs,S1\n/b.svs,S1\n', ':3: id "S1" names another slide in line 2'],
    ['one slide with two mpp', 'uri,mpp\n/a.svs,0.5\n/a.svs,0.25\n', ':3: /a.svs was given in line 2 already'],
  ])('refuses %s and names the line', async (_, text, message) => {
    await expect(read('bad.csv', text)).rejects.toMatchObject({
      code: 'manifest-invalid',
      message: expect.stringContaining(`bad.csv${message}`),
    });
  });

  it('refuses text that is not UTF-8', async () => {
    await expect(read('latin.csv', Buffer.from('uri\n/m\xfcller.svs\n', 'latin1'))).rejects.toMatchObject({
      code: 'manifest-invalid',
      message: expect.stringContaining('not UTF-8'),
    });
  });

  it('takes a repeated row once and says so', async () => {
    const warnings: string[] = [];
    expect(await read('twice.csv', 'uri\n/a.svs\n/a.svs\n', warnings)).toHaveLength(1);
    expect(warnings).toEqual([expect.stringContaining('twice.csv:3: /a.svs was given in line 2 already')]);
  });

  it('finds characters that two chunks of the file share', async () => {
    const names = Array.from({ length: 30_000 }, (_, i) => `/ä€😀${i}.svs`);
    const entries = await read('long.csv', `uri\n${names.join('\n')}\n`);
    expect(entries.map((entry) => entry.uri)).toEqual(names);
  });
});

describe('a JSON lines manifest', () => {
  it('reads the same columns, with numbers and booleans kept', async () => {
    const text = '{"uri":"a.svs","mpp":0.5,"id":7,"grade":3,"ihc":false,"none":null}\n\n{"uri":"b.svs"}';
    expect(await read('a.jsonl', text)).toEqual([
      { uri: join(folder, 'a.svs'), mpp: 0.5, id: '7', metadata: { grade: 3, ihc: false } },
      { uri: join(folder, 'b.svs') },
    ]);
  });

  it.each([
    ['a broken line', '{"uri":"a.svs"}\n{"uri":\n', ':2: not a JSON object'],
    ['an array', '["a.svs"]\n', ':1: not a JSON object'],
    ['no uri', '{"path":"a.svs"}\n', ':1: no "uri" among the keys `path`'],
    ['a nested value', '{"uri":"a.svs","tags":["x"]}\n', ':1: "tags" must be a text, a number or a boolean'],
  ])('refuses %s and names the line', async (_, text, message) => {
    await expect(read('bad.jsonl', text)).rejects.toMatchObject({
      code: 'manifest-invalid',
      message: expect.stringContaining(`bad.jsonl${message}`),
    });
  });
});
