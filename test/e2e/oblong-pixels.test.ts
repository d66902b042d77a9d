import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileBlobs, openRecord, search, verify } from '@nightshift/core';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { composeEncoder } from '../../packages/core/src/compose.ts';
import { resize } from '../../packages/core/src/slide/resample.ts';
import { nightshift } from '../fixtures/cli.ts';
import { type Bench, bench, run } from '../fixtures/run.ts';
import { writeDicom } from '../fixtures/slides/write-dicom.ts';
import { drawPicture, type WrittenPage, writeTiff } from '../fixtures/slides/write-tiff.ts';

/** 500 x 350 um: 0.25 um/px across, 0.5 down. Tiles of 224 at 0.5 um/px are 448 x 224 px: 4 across, 3 down. */
const WIDTH = 2000;
const HEIGHT = 700;
const SIDE = 256;
const picture = drawPicture(WIDTH, HEIGHT);
const X = [0, 448, 896, 1344];
const Y = [0, 224, 448];

/** Uncompressed, so that every container has the same pixels. */
const tiles: Buffer[] = [];
for (let top = 0; top < HEIGHT; top += SIDE) {
  for (let left = 0; left < WIDTH; left += SIDE) tiles.push(cut(left, top, SIDE, SIDE));
}

function cut(left: number, top: number, width: number, height: number): Buffer {
  const out = Buffer.alloc(3 * width * height);
  for (let y = 0; y < Math.min(height, HEIGHT - top); y++) {
    const from = 3 * ((top + y) * WIDTH + left);
    picture.data.copy(out, 3 * y * width, from, from + 3 * Math.min(width, WIDTH - left));
  }
  return out;
}

const page: WrittenPage = { width: WIDTH, height: HEIGHT, tile: SIDE, tiles, compression: 1, photometric: 2 };
const ome = `<?xml version="1.0"?><OME><Image ID="Image:0"><Pixels ID="Pixels:0" SizeX="${WIDTH}" SizeY="${HEIGHT}" PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.5"/></Image></OME>`;
const FILES: Readonly<Record<string, Buffer>> = {
  'tagged.tif': writeTiff([
    {
      ...page,
      tags: {
        282: { type: 'rational', values: [40_000, 1] },
        283: { type: 'rational', values: [20_000, 1] },
        296: { type: 'short', values: [3] },
      },
    },
  ]),
  'slide.ome.tif': writeTiff([{ ...page, description: ome }]),
  'slide.dcm': writeDicom({
    ...{ width: WIDTH, height: HEIGHT, tile: SIDE, frames: tiles, spacing: ['0.0005', '0.00025'] },
    ...{ transferSyntax: '1.2.840.10008.1.2.1', photometric: 'RGB' },
  }),
};

let b: Bench;
beforeAll(async () => {
  b = await bench();
  for (const [name, bytes] of Object.entries(FILES)) {
    mkdirSync(dirname(b.path('slides', name)), { recursive: true });
    writeFileSync(b.path('slides', name), bytes);
  }
});
afterAll(() => b.dispose());

it('embeds tiles that are square on the glass, the same from TIFF, OME-TIFF and DICOM', async () => {
  const out = b.path('out');
  const sources = Object.keys(FILES).map((name) => b.path('slides', name));
  const { report } = await run({ sources, model: b.model, out, tissue: { method: 'none', min: 0 } });
  expect(report).toMatchObject({ state: 'done', failures: [], tiles: { planned: 36, embedded: 36 } });
  expect(await verify({ out, run: null, store: null })).toMatchObject({ ok: true, findings: [], storeRows: 36 });

  const encoder = await composeEncoder({ dir: b.model, device: 'cpu', threads: 1, batch: 4 });
  const wanted = new Map<string, Float32Array>();
  for (const x of X) {
    for (const y of Y) {
      const tile = resize({ width: 448, height: 224, data: cut(x, y, 448, 224) }, 224, 224, 'bilinear');
      wanted.set(`${x},${y}`, Float32Array.from((await encoder.embed(tile.data, 1)).embedding));
    }
  }
  await encoder.close();

  const record = await openRecord(fileBlobs(out));
  const keys = await Array.fromAsync(record.listSlides(report.recipe));
  const sourcesOfMpp: string[] = [];
  for (const key of keys) {
    const file = (await record.readSlide(report.recipe, key))!;
    expect(file.info).toMatchObject({ mpp: { x: 0.25, y: 0.5 }, tileSize: 448, tileHeight: 224 });
    sourcesOfMpp.push(file.info.mpp.source);
    const found = new Map<string, Float32Array>();
    for await (const { x, y, vectors } of file.batches()) {
      for (let i = 0; i < x.length; i++) {
        found.set(`${x[i]},${y[i]}`, vectors.slice(i * file.dims, (i + 1) * file.dims));
      }
    }
    await file.close();
    expect(found).toEqual(wanted);
  }
  expect(sourcesOfMpp.sort()).toEqual(['dicom', 'ome', 'tiff-resolution']);

  // Pixel (1343, 447) is the last one of the tile at (896, 224).
  const query = { slide: 'tagged', x: 1343, y: 447 };
  const contactSheet = b.path('sheet.jpg');
  const options = { out, run: null, query, k: 2, slides: [], model: null, modelDirs: [], store: null, contactSheet };
  const found = await search(options);
  expect(found.query).toMatchObject({ x: 896, y: 224 });
  expect(found.hits).toMatchObject([
    { x: 896, y: 224 },
    { x: 896, y: 224 },
  ]);
  expect((await sharp(readFileSync(contactSheet)).metadata()).format).toBe('jpeg');

  // The picture to judge by has the shape of the glass, 500 x 350 um, in margins of 28 and a footer of 118 px.
  const qc = join(out, report.recipe, 'qc');
  for (const name of readdirSync(qc)) {
    expect(await sharp(readFileSync(join(qc, name))).metadata()).toMatchObject({ width: 1456, height: 980 + 28 + 118 });
  }
});

it('says both sides of a pixel, where they come from, and what is read', async () => {
  const { code, stdout } = await nightshift(['inspect', b.path('slides', 'slide.ome.tif'), '--tissue', 'none'], {
    cwd: b.dir,
  });
  expect(code).toBe(0);
  expect(stdout).toContain('0.25 x 0.5 um/px, from ome');
  expect(stdout).toMatch(/12 tiles of 12 that fit/);
  expect(stdout).toMatch(/read as 448 x 224 px of level 0, then resampled/);
  expect(stdout).toMatch(/warning: Pixels are not square: 0\.25 um\/px across, 0\.5 um\/px down/);
});
