import { deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { isNightshiftError } from '../../../packages/core/src/errors.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import type { Slide } from '../../../packages/core/src/slide/slide.ts';
import { joinParts } from '../../../packages/core/src/source/parts.ts';
import { writeDicom } from '../../fixtures/slides/write-dicom.ts';
import { leicaSlide } from '../../fixtures/slides/write-leica.ts';
import { miraxSlide } from '../../fixtures/slides/write-mirax.ts';
import { ndpiSource, restartJpeg } from '../../fixtures/slides/write-ndpi.ts';
import { philipsSlide } from '../../fixtures/slides/write-philips.ts';
import { drawPicture, jpegTiles, memorySource, type TiffOptions, writeTiff } from '../../fixtures/slides/write-tiff.ts';
import { trestleSlide } from '../../fixtures/slides/write-trestle.ts';
import { ventanaSlide } from '../../fixtures/slides/write-ventana.ts';

/** The files of a slide; one of several is named first. */
type Files = readonly (readonly [name: string, bytes: Buffer])[];

const picture = drawPicture(32, 32);
const tiles = await jpegTiles(picture, 16, '4:4:4');
const page = { width: 32, height: 32, tile: 16, tiles };
const half = { ...page, width: 16, height: 16, tiles: tiles.slice(0, 1) };
const jpeg = sharp(picture.data, { raw: { width: 32, height: 32, channels: 3 } });
const one = (name: string, bytes: Buffer): Files => [[name, bytes]];
const aperio = (options: TiffOptions) =>
  one('a.svs', writeTiff([{ ...page, description: 'Aperio |MPP = 0.5|AppMag = 20' }, half], options));
const ome = `<OME><Image><Pixels SizeX="32" SizeY="32" PhysicalSizeX="0.5" PhysicalSizeY="0.5"/></Image></OME>`;
const volume = { width: 32, height: 32, tile: 16, frames: tiles, profileBytes: 8 };

async function ndpi(): Promise<Buffer> {
  const level = await restartJpeg(64, 40, 32);
  const source = ndpiSource([{ ...level, lens: 20 }]);
  return Buffer.from((await source.read([{ offset: 0, length: source.size }]))[0]!);
}

/** A small slide of every format. */
const SLIDES: Readonly<Record<string, () => Files | Promise<Files>>> = {
  'Aperio TIFF': () => aperio({}),
  'Aperio BigTIFF': () => aperio({ big: true }),
  'big-endian Aperio TIFF': () => aperio({ bigEndian: true, ifdsFirst: true }),
  'Deflate TIFF': () => {
    const bytes = deflateSync(Buffer.alloc(768, 200));
    return one('a.tif', writeTiff([{ ...page, compression: 8, photometric: 2, tiles: Array(4).fill(bytes) }]));
  },
  'OME-TIFF': () =>
    one('a.ome.tif', writeTiff([{ ...page, description: ome, subPages: [{ ...half, subfileType: 1 }] }])),
  'Philips TIFF': async () => one('a.tiff', await philipsSlide()),
  'Leica SCN': async () => {
    const area = { x: 4, y: 8, width: 40, height: 30, tile: 16 };
    return one('a.scn', await leicaSlide({ glass: { width: 64, height: 48 }, areas: [area] }));
  },
  'Ventana BIF': async () => one('a.bif', await ventanaSlide()),
  Trestle: async () => one('a.tif', await trestleSlide()),
  NDPI: async () => one('a.ndpi', await ndpi()),
  DICOM: () => one('a.dcm', writeDicom(volume)),
  'sparse DICOM with an empty table': () => {
    const positions = [
      [1, 1],
      [17, 1],
      [1, 17],
      [17, 17],
    ] as const;
    return one('a.dcm', writeDicom({ ...volume, table: 'empty', undefinedLengths: true, positions }));
  },
  MIRAX: async () => [...(await miraxSlide())],
  PNG: async () => one('a.png', await jpeg.clone().png().toBuffer()),
  JPEG: async () => one('a.jpg', await jpeg.clone().jpeg().toBuffer()),
};

function open(files: Files): Promise<Slide> {
  const sources = files.map(([name, bytes]) => memorySource(bytes, name));
  return openSlide(sources.length === 1 ? sources[0]! : joinParts(files[0]![0], sources));
}

async function outcome(files: Files): Promise<string> {
  try {
    const slide = await open(files);
    for (const level of slide.levels.keys()) await slide.blocks(level);
    return 'opened';
  } catch (error) {
    if (isNightshiftError(error)) return error.code;
    throw error;
  }
}

/** Which bytes of each file are no pixels: those in no block of any level. */
async function headerBytes(files: Files): Promise<readonly number[][]> {
  const slide = await open(files);
  const total = files.reduce((sum, [, bytes]) => sum + bytes.length, 0);
  const pixels = new Uint8Array(total);
  for (const [level, { columns, rows }] of slide.levels.entries()) {
    const index = await slide.blocks(level);
    for (let i = 0; i < columns * rows; i++) {
      const range = index.range(i % columns, Math.floor(i / columns));
      // A field of view is one block from its first byte on: its header counts.
      if (range !== null && range.length < total) pixels.fill(1, range.offset, range.offset + range.length);
    }
  }
  let from = 0;
  return files.map(([, bytes]) => {
    const own = pixels.subarray(from, from + bytes.length);
    from += bytes.length;
    return Array.from(bytes.keys()).filter((i) => own[i] === 0);
  });
}

describe.each(Object.keys(SLIDES))('%s', (name) => {
  async function sweep(change: (bytes: Buffer, at: number) => Buffer): Promise<Set<string>> {
    const files = await SLIDES[name]!();
    expect(await outcome(files)).toBe('opened');
    const seen = new Set<string>();
    for (const [i, places] of (await headerBytes(files)).entries()) {
      for (const at of places) {
        const changed = files.map(([path, bytes], k) => [path, k === i ? change(bytes, at) : bytes] as const);
        seen.add(await outcome(changed));
      }
    }
    return seen;
  }

  test('cut short at any byte of its headers it opens or fails with a typed error', async () => {
    const seen = await sweep((bytes, at) => bytes.subarray(0, at));
    expect([...seen].filter((code) => code !== 'opened' && !code.startsWith('slide-'))).toEqual([]);
    expect(seen.size).toBeGreaterThan(1);
  });

  test('with any byte of its headers changed it opens or fails with a typed error, and soon', async () => {
    let slowest = 0;
    let started = process.cpuUsage();
    const seen = await sweep((bytes, at) => {
      const { user, system } = process.cpuUsage(started);
      slowest = Math.max(slowest, (user + system) / 1_000);
      started = process.cpuUsage();
      const value = bytes[at]!;
      const changed = Buffer.from(bytes);
      changed[at] = [0xff, value ^ 1, value ^ 0x80, value === 0 ? 1 : 0][at % 4]!;
      return changed;
    });
    expect([...seen].filter((code) => code !== 'opened' && !code.startsWith('slide-'))).toEqual([]);
    expect(seen.size).toBeGreaterThan(1);
    expect(slowest).toBeLessThan(5_000);
  });
});
