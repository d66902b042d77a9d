import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { composeSource } from '../../../packages/core/src/compose.ts';
import { openFile } from '../../../packages/core/src/source/file.ts';
import { filesOf, openFolder } from '../../../packages/core/src/source/folder.ts';
import { listSources } from '../../../packages/core/src/source/list.ts';
import { joinParts } from '../../../packages/core/src/source/parts.ts';
import { openS3 } from '../../../packages/core/src/source/s3.ts';
import { s3Listing } from '../../../packages/core/src/source/s3-list.ts';
import { faultyS3 } from '../../fixtures/s3.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';

const text = async (parts: Uint8Array[] | Promise<Uint8Array[]>) =>
  (await parts).map((part) => Buffer.from(part).toString());

describe('several files as one source', () => {
  const joined = () =>
    joinParts(
      'all',
      ['abc', '', 'defgh', 'i'].map((part, i) => memorySource(Buffer.from(part), `f/${i}`)),
    );

  it('reads ranges within a file and across files', async () => {
    const source = joined();
    expect(source.size).toBe(9);
    expect(source.parts!.map(({ uri, offset, size }) => [uri, offset, size])).toEqual([
      ['f/0', 0, 3],
      ['f/1', 3, 0],
      ['f/2', 3, 5],
      ['f/3', 8, 1],
    ]);
    const ranges = [
      [0, 9],
      [2, 3],
      [4, 2],
      [8, 1],
      [0, 0],
    ].map(([offset, length]) => ({ offset: offset!, length: length! }));
    expect(await text(source.read(ranges))).toEqual(['abcdefghi', 'cde', 'ef', 'i', '']);
  });

  it('refuses a range that leaves it', async () => {
    await expect(joined().read([{ offset: 5, length: 5 }])).rejects.toMatchObject({ code: 'slide-truncated' });
  });

  it('has another content id where one file or its name is another', () => {
    const of = (...names: string[]) =>
      joinParts(
        'x',
        names.map((name) => memorySource(Buffer.from(name), name)),
      ).contentId;
    expect(of('a/1', 'a/2')).toBe(of('b/1', 'b/2'));
    expect(new Set([of('1', '2'), of('1', '3'), of('1'), of('2', '1')]).size).toBe(4);
  });

  it('closes all of its files', async () => {
    let closed = 0;
    const part = { ...memorySource(Buffer.from('a')), close: async () => void closed++ };
    await joinParts('x', [part, part]).close();
    expect(closed).toBe(2);
  });
});

async function directory(...names: string[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nightshift-folder-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const name of names) {
    await mkdir(join(folder, name, '..'), { recursive: true });
    await writeFile(join(folder, name), name);
  }
  return folder;
}

describe('a folder of DICOM files', () => {
  it('is one source of those directly in it, in the order of their names', async () => {
    const folder = await directory('b.dcm', 'a.DCM', '.hidden.dcm', 'notes.txt', 'deep/c.dcm');
    const source = await composeSource(folder);
    expect(source.parts!.map(({ uri }) => uri.slice(folder.length + 1))).toEqual(['a.DCM', 'b.dcm']);
    expect(await text(source.read([{ offset: 0, length: source.size }]))).toEqual(['a.DCMb.dcm']);
    await source.close();
  });

  it('without one is no slide', async () => {
    await expect(composeSource(await directory('a.txt'))).rejects.toMatchObject({ code: 'slide-not-a-slide' });
  });

  it('that holds thousands is refused before any is opened', async () => {
    let opened = 0;
    const open = async (uri: string) => {
      opened++;
      return memorySource(Buffer.from('x'), uri);
    };
    const many = Array.from({ length: 1_001 }, (_, i) => ({ uri: `f/${i}.dcm` }));
    await expect(openFolder('f', many, open)).rejects.toMatchObject({ code: 'slide-limits' });
    expect(opened).toBe(0);
    expect((await openFolder('f', many.slice(1), open)).parts).toHaveLength(1_000);
  });

  it('one of which cannot be opened closes the others', async () => {
    let open = 0;
    const opening = openFolder(
      'f',
      ['1.dcm', '2.dcm', '3.dcm'].map((uri) => ({ uri })),
      async (uri) => {
        if (uri === '2.dcm') throw new Error('gone');
        open++;
        return { ...memorySource(Buffer.from('x'), uri), close: async () => void open-- };
      },
    );
    await expect(opening).rejects.toThrow('gone');
    expect(open).toBe(0);
  });

  it('is what a file is not', async () => {
    const folder = await directory('a.dcm');
    expect(await filesOf(join(folder, 'a.dcm'))).toBeNull();
    expect(await filesOf(join(folder, 'nothing'))).toBeNull();
    expect((await filesOf(folder))!.map(({ uri }) => uri)).toEqual([join(folder, 'a.dcm')]);
  });

  it('on S3 has the content id that its listing says', async () => {
    const { server, client } = await faultyS3();
    for (const key of ['series/2.dcm', 'series/1.dcm', 'series/.0.dcm', 'series/notes.txt', 'series/deep/3.dcm'])
      server.put(key, key);
    const listing = s3Listing(client);
    const entries = await Array.fromAsync(listSources(['s3://bucket/series/'], { objects: async () => listing }));
    expect(entries.map(({ uri }) => uri)).toEqual(['s3://bucket/series/deep/3.dcm', 's3://bucket/series/']);
    const source = await openFolder('s3://bucket/series/', listing.filesOf('s3://bucket/series/'), (uri) =>
      openS3(uri, client),
    );
    expect(await text(source.read([{ offset: 0, length: source.size }]))).toEqual(['series/1.dcmseries/2.dcm']);
    expect(entries[1]!.contentId).toBe(source.contentId);
  });

  it('of this machine keeps its content id while nothing changes', async () => {
    const folder = await directory('a.dcm', 'b.dcm');
    const ids: string[] = [];
    for (let i = 0; i < 2; i++) {
      const source = await openFolder(folder, (await filesOf(folder))!.toReversed(), openFile);
      ids.push(source.contentId);
      await source.close();
    }
    expect(ids[0]).toBe(ids[1]);
  });
});
