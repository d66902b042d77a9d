import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MOST_OUTLINE_BYTES, outlineFolder, outlineNames } from '../../../packages/core/src/source/outlines.ts';
import { temporaryDirectory } from '../../fixtures/record.ts';

const nowhere = async () => null;

/** Objects of a store, by URI. */
function store(objects: Record<string, string>) {
  return async () => ({
    contentId: async (uri: string) => (uri in objects ? 'id' : null),
    async *content(uri: string) {
      yield Buffer.from(objects[uri]!);
    },
    async *under() {},
  });
}

describe('the outline of a slide', () => {
  it.each([
    ['/data/a.svs', ['a-1.geojson', 'a.svs.geojson', 'a.geojson']],
    ['s3://bucket/x/b.ome.tiff', ['a-1.geojson', 'b.ome.tiff.geojson', 'b.ome.geojson', 'b.geojson']],
    ['s3://bucket/series/', ['a-1.geojson', 'series.geojson']],
    ['/data/flat/#1.2.840', ['a-1.geojson', 'flat.geojson']],
  ])('of %s is looked for by the key and by the name', (uri, names) => {
    expect(outlineNames(uri, 'a-1')).toEqual(names);
  });

  it('is read from a folder', async () => {
    const dir = await temporaryDirectory();
    writeFileSync(join(dir, 'b.geojson'), 'two');
    mkdirSync(join(dir, 'c'));
    const folder = await outlineFolder(`${dir}/`, nowhere);
    expect(await folder.read(['a.geojson', 'b.geojson'])).toEqual({ uri: join(dir, 'b.geojson'), text: 'two' });
    expect(await folder.read(['a.geojson'])).toBeNull();
  });

  it('is read from a prefix', async () => {
    const folder = await outlineFolder('s3://bucket/o/', store({ 's3://bucket/o/b.geojson': 'two' }));
    expect(await folder.read(['a.geojson', 'b.geojson'])).toEqual({ uri: 's3://bucket/o/b.geojson', text: 'two' });
    expect(await folder.read(['a.geojson'])).toBeNull();
  });

  it('may not be longer than 6 MiB', async () => {
    const dir = await temporaryDirectory();
    writeFileSync(join(dir, 'b.geojson'), Buffer.alloc(MOST_OUTLINE_BYTES + 1, ' '));
    const folder = await outlineFolder(dir, nowhere);
    await expect(folder.read(['b.geojson'])).rejects.toMatchObject({ code: 'usage' });
  });

  it('is not looked for where there is no folder', async () => {
    const dir = await temporaryDirectory();
    await expect(outlineFolder(join(dir, 'none'), nowhere)).rejects.toMatchObject({ code: 'source-not-found' });
  });
});
