import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileBlobs, openRecord, type RunReport, verify } from '@nightshift/core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSlide } from '../../packages/core/src/slide/open.ts';
import { type Bench, bench, run } from '../fixtures/run.ts';
import { writeDicom } from '../fixtures/slides/write-dicom.ts';
import { ndpiSource, restartJpeg } from '../fixtures/slides/write-ndpi.ts';
import { drawPicture, jpegTiles, memorySource, writeTiff } from '../fixtures/slides/write-tiff.ts';

/** Tiles are as large as the blocks. */
const SIDE = 64;
const { width, height, data } = drawPicture(2 * SIDE, 2 * SIDE);
const picture = sharp(data, { raw: { width, height, channels: 3 } });

async function tiff(compression: 'none' | 'lzw' | 'deflate'): Promise<Buffer> {
  return picture.clone().tiff({ compression, tile: true, tileWidth: SIDE, tileHeight: SIDE }).toBuffer();
}
async function ndpi(): Promise<Buffer> {
  const source = ndpiSource([{ ...(await restartJpeg(width, height, SIDE)), lens: 20 }]);
  return Buffer.from((await source.read([{ offset: 0, length: source.size }]))[0]!);
}
const tiles = await jpegTiles(drawPicture(width, height), SIDE, '4:4:4');

/** A whole slide of every codec, of 2 x 2 tiles if nothing else is said. */
const SLIDES: Readonly<Record<string, () => Buffer | Promise<Buffer>>> = {
  'jpeg.tif': () => writeTiff([{ width, height, tile: SIDE, tiles }]),
  'jpeg2000.svs': () => readFileSync(join(import.meta.dirname, '../fixtures/slides/j2k-33005.svs')),
  'lzw.tif': () => tiff('lzw'),
  'deflate.tif': () => tiff('deflate'),
  'stretches.ndpi': ndpi,
  'frames.dcm': () => writeDicom({ width, height, tile: SIDE, frames: tiles }),
  'whole.png': () => picture.clone().png().toBuffer(),
  'whole.jpg': () => picture.clone().jpeg().toBuffer(),
};
/** One block: nothing of it can be read. */
const ONE_BLOCK = ['whole.png', 'whole.jpg'];

/** Overwrites the middle of the block that holds the tile at (SIDE, 0), or the one block. */
async function damage(bytes: Buffer): Promise<Buffer> {
  const slide = await openSlide(memorySource(bytes));
  const { columns } = slide.levels[0]!;
  const { offset, length } = (await slide.blocks(0)).range(Math.min(1, columns - 1), 0)!;
  return Buffer.from(bytes).fill(0xff, offset + Math.floor(length / 2), offset + Math.floor(length / 2) + 24);
}

let b: Bench;
let report: RunReport;
beforeAll(async () => {
  b = await bench();
  mkdirSync(b.path('damaged'));
  for (const [name, make] of Object.entries(SLIDES)) writeFileSync(b.path('damaged', name), await damage(await make()));
  // Uncompressed pixels look right whatever they are: what can be seen is that some are missing.
  const raw = writeTiff(
    [
      {
        width,
        height,
        tile: SIDE,
        tiles: [10, 90, 170, 250].map((value) => Buffer.alloc(3 * SIDE ** 2, value)),
        compression: 1,
        photometric: 2,
      },
    ],
    { ifdsFirst: true },
  );
  writeFileSync(b.path('damaged', 'raw.tif'), raw.subarray(0, -100));
  const names = [...Object.keys(SLIDES), 'raw.tif'];
  writeFileSync(b.path('all.csv'), ['uri,mpp', ...names.map((name) => `damaged/${name},0.5`), ''].join('\n'));
  const tissue = { method: 'none', min: 0.4 } as const;
  const options = { sources: [b.path('all.csv')], model: b.model, out: b.path('out'), tilePx: SIDE, mpp: 0.5, tissue };
  ({ report } = await run(options));
});
afterAll(() => b.dispose());

/** What the record holds of a slide: places of vectors, and of failures with their codes. */
async function held(name: string) {
  const record = await openRecord(fileBlobs(b.path('out')));
  const slide = report.failures.find(({ uri }) => uri.endsWith(`/${name}`))!.slide;
  const file = await record.readSlide(report.recipe, slide);
  const vectors: string[] = [];
  for await (const { x, y } of file!.batches()) for (const [i, left] of x.entries()) vectors.push(`${left},${y[i]}`);
  await file!.close();
  const failures = await record.getFailures(report.recipe, slide);
  return { vectors, failures: failures!.tiles.map(({ x, y, error }) => [`${x},${y}`, error.code]) };
}

describe('a tile that cannot be decoded is a row of the ledger, and no vector', () => {
  it.each(Object.keys(SLIDES).filter((name) => !ONE_BLOCK.includes(name)))('%s', async (name) => {
    const { vectors, failures } = await held(name);
    expect(failures).toEqual([['64,0', 'tile-corrupt']]);
    expect(vectors).not.toContain('64,0');
    expect(vectors).toContain('0,0');
  });

  it.each(ONE_BLOCK)('%s', async (name) => {
    const { vectors, failures } = await held(name);
    expect(vectors).toEqual([]);
    expect(failures).toEqual(['0,0', '64,0', '0,64', '64,64'].map((place) => [place, 'tile-corrupt']));
  });

  it('raw.tif', async () => {
    expect(await held('raw.tif')).toEqual({
      vectors: ['0,0', '64,0', '0,64'],
      failures: [['64,64', 'tile-truncated']],
    });
  });

  it('and the whole run accounts for every tile', async () => {
    expect(report.tiles.embedded + report.tiles.failed).toBe(report.tiles.planned);
    expect(await verify({ out: b.path('out'), run: null, store: null })).toMatchObject({ ok: true, findings: [] });
  });
});
