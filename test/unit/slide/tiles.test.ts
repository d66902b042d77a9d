import sharp from 'sharp';
import { afterAll, describe, expect, test } from 'vitest';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import { createDecodePool, type DecodePool } from '../../../packages/core/src/slide/decode-pool.ts';
import { measureTile } from '../../../packages/core/src/slide/measure/measure.ts';
import { openSlide } from '../../../packages/core/src/slide/open.ts';
import { fitTile, resize } from '../../../packages/core/src/slide/resample.ts';
import type { Slide } from '../../../packages/core/src/slide/slide.ts';
import {
  readRegion,
  readTiles,
  type TileOptions,
  type TileRequest,
  type TileStats,
} from '../../../packages/core/src/slide/tiles.ts';
import type { ByteSource } from '../../../packages/core/src/source/source.ts';
import { bytes, levelPx, tilePx } from '../../../packages/core/src/units.ts';
import { drawPicture, jpegTiles, memorySource, type WrittenPage, writeTiff } from '../../fixtures/slides/write-tiff.ts';

const WIDTH = 300;
const HEIGHT = 200;
const TILE = 64;
const COLUMNS = 5;
const tiles = await jpegTiles(drawPicture(WIDTH, HEIGHT), TILE);
const page: WrittenPage = { width: WIDTH, height: HEIGHT, tile: TILE, tiles };
const pool = createDecodePool({ threads: 2 });
afterAll(() => pool.close());

/** The picture as sharp, another JPEG decoder, puts it together. */
const whole = Buffer.alloc(3 * WIDTH * HEIGHT);
for (const [i, jpeg] of tiles.entries()) {
  const rgb = await sharp(jpeg).raw().toBuffer();
  const [left, top] = [(i % COLUMNS) * TILE, Math.floor(i / COLUMNS) * TILE];
  for (let y = top; y < Math.min(HEIGHT, top + TILE); y++) {
    const bytes = 3 * Math.min(TILE, WIDTH - left);
    rgb.copy(whole, 3 * (y * WIDTH + left), 3 * (y - top) * TILE, 3 * (y - top) * TILE + bytes);
  }
}

function cut(x: number, y: number, width: number, height = width): Buffer {
  const out = Buffer.alloc(3 * width * height);
  for (let row = 0; row < height; row++) {
    const from = 3 * ((y + row) * WIDTH + x);
    whole.copy(out, 3 * row * width, from, from + 3 * width);
  }
  return out;
}

function request(corners: readonly (readonly [number, number])[], change: Partial<TileRequest> = {}): TileRequest {
  return {
    level: 0,
    readPx: levelPx(50),
    tilePx: tilePx(50),
    filter: 'bilinear',
    fit: null,
    x: Int32Array.from(corners, ([x]) => x),
    y: Int32Array.from(corners, ([, y]) => y),
    ...change,
  };
}
const every = (step: number, side = 50) => {
  const corners: [number, number][] = [];
  for (let y = 0; y + side <= HEIGHT; y += step) {
    for (let x = 0; x + side <= WIDTH; x += step) corners.push([x, y]);
  }
  return corners;
};

interface Read {
  readonly tiles: Buffer[];
  readonly codes: Record<number, string>;
  readonly messages: string[];
  readonly chunks: number[];
  readonly stats: TileStats;
}

/** Reads all tiles; checks that chunks come in order, each whole. */
async function readAll(slide: Slide, wanted: TileRequest, options: TileOptions = {}, through = pool): Promise<Read> {
  const stats = { bytesRead: 0, requests: 0, blocksDecoded: 0, decodeSeconds: 0 };
  const onStats = (part: TileStats) => {
    for (const key of Object.keys(stats) as (keyof TileStats)[]) stats[key] += part[key];
  };
  const read: Read = { tiles: [], codes: {}, messages: [], chunks: [], stats };
  for await (const chunk of readTiles(slide, wanted, through, { ...options, onStats })) {
    expect(chunk.first).toBe(read.tiles.length);
    const size = chunk.pixels.length / chunk.count;
    for (let i = 0; i < chunk.count; i++) read.tiles.push(Buffer.from(chunk.pixels.slice(i * size, (i + 1) * size)));
    for (const { index, error } of chunk.failures) {
      read.codes[index] = error.code;
      read.messages.push(error.message);
    }
    read.chunks.push(chunk.count);
  }
  expect(read.tiles).toHaveLength(wanted.x.length);
  return read;
}

const open = (change: Partial<WrittenPage> = {}) => openSlide(memorySource(writeTiff([{ ...page, ...change }])));

describe('whole slides', () => {
  test('tiles are measured as asked, after resampling and before the fit', async () => {
    const corners = every(50, 100);
    const fit = { shortEdge: 20, filter: 'bilinear', crop: 16 } as const;
    const small = { readPx: levelPx(100), tilePx: tilePx(50) };
    const { tiles: unfitted } = await readAll(await open(), request(corners, small));
    for (const change of [small, { ...small, fit }]) {
      const wanted = request(corners, { ...change, measures: ['hsv', 'blur'] });
      const found: Record<string, number[]> = { hsv: [], blur: [] };
      for await (const { measured } of readTiles(await open(), wanted, pool)) {
        expect(Object.keys(measured)).toEqual(['hsv', 'blur']);
        for (const name of ['hsv', 'blur'] as const) found[name]!.push(...measured[name]!);
      }
      for (const name of ['hsv', 'blur'] as const) {
        expect(found[name]).toEqual(unfitted.map((rgb) => measureTile(name, rgb, 50)));
        expect(new Set(found[name]).size).toBeGreaterThan(1);
      }
    }
  });

  test('tiles are what another decoder cuts there, in the order asked', async () => {
    const corners = every(37);
    for (const order of [corners, corners.toReversed(), [...corners, ...corners]]) {
      const read = await readAll(await open(), request(order));
      expect(read.codes).toEqual({});
      const wrong = order.filter(([x, y], i) => !read.tiles[i]!.equals(cut(x, y, 50)));
      expect(wrong).toEqual([]);
    }
  });

  test('the markers of a tile tell its colours, else the container does', async () => {
    const jfif = Buffer.from([0xff, 0xe0, 0, 16, 0x4a, 0x46, 0x49, 0x46, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0]);
    const adobe = (transform: number) =>
      Buffer.concat([
        Buffer.from([0xff, 0xee, 0, 14]),
        Buffer.from('Adobe'),
        Buffer.from([0, 100, 0, 0, 0, 0, transform]),
      ]);
    const read = async (photometric: number, marker: Buffer) => {
      const marked = tiles.map((jpeg) => Buffer.concat([jpeg.subarray(0, 2), marker, jpeg.subarray(2)]));
      const rgb = await readRegion(await open({ photometric, tiles: marked }), 0, 0, 0, WIDTH, HEIGHT, pool);
      return Buffer.from(rgb).equals(whole) ? 'YCbCr' : 'RGB';
    };
    // The tiles are YCbCr. Photometric 2 is RGB, 6 YCbCr.
    expect(await read(6, Buffer.alloc(0))).toBe('YCbCr');
    expect(await read(2, Buffer.alloc(0))).toBe('RGB');
    expect(await read(2, jfif)).toBe('YCbCr');
    expect(await read(2, adobe(1))).toBe('YCbCr');
    expect(await read(6, adobe(0))).toBe('RGB');
  });

  test('a rectangle may span blocks and touch the edges', async () => {
    const slide = await open();
    for (const [x, y, w, h] of [
      [0, 0, 300, 200],
      [63, 63, 2, 2],
      [250, 150, 50, 50],
      [299, 199, 1, 1],
    ] as const) {
      expect(Buffer.from(await readRegion(slide, 0, x, y, w, h, pool)).equals(cut(x, y, w, h))).toBe(true);
    }
  });

  test('edge blocks may be stored clipped', async () => {
    const clipped = await Promise.all(
      tiles.map(async (jpeg, i) => {
        const width = Math.min(TILE, WIDTH - (i % COLUMNS) * TILE);
        const height = Math.min(TILE, HEIGHT - Math.floor(i / COLUMNS) * TILE);
        if (width === TILE && height === TILE) return jpeg;
        return sharp(jpeg)
          .extract({ left: 0, top: 0, width, height })
          .jpeg({ quality: 100, chromaSubsampling: '4:4:4' })
          .toBuffer();
      }),
    );
    const rgb = await readRegion(await open({ tiles: clipped }), 0, 0, 0, WIDTH, HEIGHT, pool);
    const worst = rgb.reduce((most, value, i) => Math.max(most, Math.abs(value - whole[i]!)), 0);
    expect(worst).toBeLessThan(6);
  });

  test('JPEG tables may be shared', async () => {
    const marker = (jpeg: Buffer, at: number) => jpeg.readUInt16BE(at);
    const split = (jpeg: Buffer): { tables: Buffer; rest: Buffer } => {
      const tables: Buffer[] = [];
      const rest: Buffer[] = [];
      let at = 2;
      while (marker(jpeg, at) !== 0xffda) {
        const end = at + 2 + jpeg.readUInt16BE(at + 2);
        (marker(jpeg, at) === 0xffdb || marker(jpeg, at) === 0xffc4 ? tables : rest).push(jpeg.subarray(at, end));
        at = end;
      }
      const soi = jpeg.subarray(0, 2);
      return {
        tables: Buffer.concat([soi, ...tables, Buffer.from([0xff, 0xd9])]),
        rest: Buffer.concat([soi, ...rest, jpeg.subarray(at)]),
      };
    };
    const plain = await Promise.all(
      tiles.map(async (jpeg) => sharp(jpeg).jpeg({ quality: 80, optimiseCoding: false }).toBuffer()),
    );
    const parts = plain.map(split);
    const shared = await open({ tiles: parts.map(({ rest }) => rest), jpegTables: parts[0]!.tables });
    const own = await open({ tiles: plain });
    const [a, b] = await Promise.all([shared, own].map((slide) => readRegion(slide, 0, 0, 0, WIDTH, HEIGHT, pool)));
    expect(Buffer.compare(a!, b!)).toBe(0);
  });
});

describe('resampling', () => {
  test('tiles are resized, then fitted to the model', async () => {
    const corners = every(60, 100);
    const fit = { shortEdge: 40, filter: 'bicubic', crop: 32 } as const;
    const change = { readPx: levelPx(100), tilePx: tilePx(56), filter: 'box' } as const;
    const resized = await readAll(await open(), request(corners, change));
    const fitted = await readAll(await open(), request(corners, { ...change, fit }));
    for (const [i, [x, y]] of corners.entries()) {
      const image = resize({ width: 100, height: 100, data: cut(x, y, 100) }, 56, 56, 'box');
      expect(resized.tiles[i]!.equals(image.data)).toBe(true);
      expect(fitted.tiles[i]!.equals(fitTile(image, fit).data)).toBe(true);
    }
  });
});

describe('pixels that are not square', () => {
  test.each([
    { across: 100, down: 50, px: 50 },
    { across: 40, down: 110, px: 56 },
    { across: 33, down: 71, px: 33 },
  ])('$across x $down px are read and each axis resampled by itself', async ({ across, down, px }) => {
    const corners = [0, 40, HEIGHT - down].flatMap((y) => [0, 70, WIDTH - across].map((x) => [x, y] as const));
    const sides = { readPx: levelPx(across), down: { readPx: levelPx(down) }, tilePx: tilePx(px) };
    const read = await readAll(await open(), request(corners, sides));
    for (const [i, [x, y]] of corners.entries()) {
      const wanted = resize({ width: across, height: down, data: cut(x, y, across, down) }, px, px, 'bilinear');
      expect(read.tiles[i]!.equals(wanted.data)).toBe(true);
    }
  });

  test('a side that is longer than the level is no tile', async () => {
    const sides = { readPx: levelPx(50), down: { readPx: levelPx(HEIGHT + 1) } };
    await expect(readAll(await open(), request([[0, 0]], sides))).rejects.toThrow(/leaves level 0/);
  });
});

describe('what a read costs', () => {
  test('each block is read and decoded once, neighbours in one request', async () => {
    const { stats } = await readAll(await open(), request(every(10)));
    expect(stats.blocksDecoded).toBe(20);
    expect(stats.requests).toBe(1);
    expect(stats.bytesRead).toBeGreaterThanOrEqual(tiles.reduce((sum, { length }) => sum + length, 0));
    expect(stats.decodeSeconds).toBeGreaterThan(0);
  });

  /** A slide of a MiB a row, `COLUMNS` blocks wide, and what was read of it. */
  async function wideSlide() {
    const [columns, rows, side] = [60, 12, 128];
    const [tile] = await jpegTiles(drawPicture(side, side), side);
    const padded = Buffer.concat([tile!, Buffer.alloc(18_000 - tile!.length)]);
    const tiles = Array.from({ length: columns * rows }, () => padded);
    const inner = memorySource(writeTiff([{ width: columns * side, height: rows * side, tile: side, tiles }]));
    const slide = await openSlide(inner);
    await slide.blocks(0);
    const reads: { offset: number; length: number }[] = [];
    let [held, most] = [0, 0];
    const source: ByteSource = {
      ...inner,
      async read(ranges, signal) {
        reads.push(...ranges);
        most = Math.max(most, ++held);
        const parts = await inner.read(ranges, signal);
        held--;
        return parts;
      },
    };
    const stored = columns * rows * padded.length;
    return { slide: { ...slide, source }, reads, stored, blockBytes: padded.length, most: () => most };
  }
  const raster = (columns: number, rows: number, left = 0) =>
    request(
      Array.from({ length: columns * rows }, (_, i): [number, number] => [
        (left + (i % columns)) * 128,
        Math.floor(i / columns) * 128,
      ]),
      { readPx: levelPx(128), tilePx: tilePx(128) },
    );
  const sum = (reads: readonly { length: number }[]) => reads.reduce((total, { length }) => total + length, 0);

  test('blocks that lie together are read in requests of about a MiB, every byte once', async () => {
    const { slide, reads, stored } = await wideSlide();
    const { stats } = await readAll(slide, raster(60, 12));
    expect(sum(reads)).toBe(stored);
    expect(stored / reads.length).toBeGreaterThan(0.85 * 2 ** 20);
    expect(Math.max(...reads.map(({ length }) => length))).toBeLessThanOrEqual(2 ** 20);
    expect(stats).toMatchObject({ bytesRead: stored, requests: reads.length, blocksDecoded: 720 });
  });

  test('of a narrow stripe each row is one request, and nothing beside it is read', async () => {
    const { slide, reads, blockBytes } = await wideSlide();
    await readAll(slide, raster(20, 12, 20));
    expect(reads).toHaveLength(12);
    expect(sum(reads)).toBe(20 * 12 * blockBytes);
  });

  test('bytes are read ahead of the decoder, within the memory given', async () => {
    const { slide, most, reads } = await wideSlide();
    let after = 0;
    for await (const _ of readTiles(slide, raster(60, 12), pool, { maxBytesInFlight: 64 << 20 })) {
      after ||= reads.length;
    }
    expect(most()).toBeGreaterThan(4);
    // The first chunk needs one read; at most 8 MiB are read before it is taken, and one read for each chunk in flight.
    expect(after).toBeGreaterThan(4);
    expect(after).toBeLessThanOrEqual(13);
  });

  test('only the blocks that tiles touch are read', async () => {
    const { stats } = await readAll(
      await open(),
      request(
        [
          [0, 0],
          [70, 70],
        ],
        { readPx: levelPx(20), tilePx: tilePx(20) },
      ),
    );
    expect(stats.blocksDecoded).toBe(2);
  });

  test('chunks stay at 5 MiB, and one call over many of them decodes each block once', async () => {
    const size = 224;
    const corners = Array.from({ length: 120 }, (_, i): [number, number] => [(i * 7) % 76, 0]);
    const tall = await jpegTiles(drawPicture(300, 224), TILE);
    const slide = await open({ height: 224, tiles: tall });
    const read = await readAll(slide, request(corners, { readPx: levelPx(size), tilePx: tilePx(size) }));
    expect(Math.max(...read.chunks) * size * size * 3).toBeLessThanOrEqual(5 << 20);
    expect(read.chunks.length).toBeGreaterThan(3);
    expect(read.stats.blocksDecoded).toBe(20);
  });

  test('chunks end with rows of tiles, and the pixels of blocks that two chunks share are right in both', async () => {
    const size = 224;
    const [width, height] = [1_200, 900];
    const picture = drawPicture(width, height);
    const slide = await open({ width, height, tiles: await jpegTiles(picture, TILE) });
    const corners: [number, number][] = [];
    for (let y = 0; y + size <= height; y += 25) for (let x = 0; x + size <= width; x += 150) corners.push([x, y]);
    const read = await readAll(slide, request(corners, { readPx: levelPx(size), tilePx: tilePx(size) }));
    expect(new Set(read.chunks.slice(0, -1))).toEqual(new Set([28]));
    const level = await readRegion(slide, 0, 0, 0, width, height, pool);
    for (const [i, [x, y]] of corners.entries()) {
      const right = Array.from({ length: size }, (_, row) =>
        level.subarray(3 * ((y + row) * width + x)).subarray(0, 3 * size),
      );
      expect(read.tiles[i]!.equals(Buffer.concat(right))).toBe(true);
    }
  });

  test('with little memory blocks are decoded again, and the pixels are the same', async () => {
    const corners = [...every(23), ...every(23).toReversed()];
    const plenty = await readAll(await open(), request(corners));
    for (const maxBytesInFlight of [0, 200_000]) {
      const little = await readAll(await open(), request(corners), { maxBytesInFlight });
      expect(little.tiles.every((tile, i) => tile.equals(plenty.tiles[i]!))).toBe(true);
      expect(little.stats.blocksDecoded).toBeGreaterThan(20);
    }
  });

  test('the memory of a chunk is used again: a long read has as many places for chunks as it looks ahead', async () => {
    const places = new Set<number>();
    let chunks = 0;
    const side = { readPx: levelPx(200), tilePx: tilePx(200) };
    const corners = Array.from({ length: 600 }, (_, i): [number, number] => [i % 100, 0]);
    for await (const { pixels } of readTiles(await open(), request(corners, side), pool)) {
      places.add(pixels.byteOffset);
      chunks++;
    }
    expect(chunks).toBeGreaterThan(8);
    expect(places.size).toBeLessThanOrEqual(pool.threads + 2);
  });

  test('nothing asked for is nothing read', async () => {
    expect((await readAll(await open(), request([]))).chunks).toEqual([]);
  });

  test('several calls share the pool', async () => {
    const slide = await open();
    const reads = await Promise.all([7, 11, 13, 17].map((step) => readAll(slide, request(every(step)))));
    for (const [k, step] of [7, 11, 13, 17].entries()) {
      expect(every(step).every(([x, y], i) => reads[k]!.tiles[i]!.equals(cut(x, y, 50)))).toBe(true);
    }
  });
});

describe('damaged blocks', () => {
  /** Tiles of 50 px that touch block (2, 1), in 64 px blocks. */
  const corners = every(25);
  const touches = corners.flatMap(([x, y], i) => (x < 192 && x + 50 > 128 && y < 128 && y + 50 > 64 ? [i] : []));
  const damaged = (bytes: Buffer | null) => open({ tiles: tiles.with(7, bytes as Buffer) });
  const victim = tiles[7]!;

  test.each<[string, () => Promise<Buffer | null> | Buffer | null, string]>([
    ['is not stored', () => null, 'tile-missing'],
    ['is cut in the middle', () => victim.subarray(0, victim.length >> 1), 'tile-truncated'],
    ['lacks its last two bytes', () => victim.subarray(0, -2), 'tile-truncated'],
    ['ends in its header', () => victim.subarray(0, 30), 'tile-truncated'],
    ['is one byte', () => victim.subarray(0, 1), 'tile-truncated'],
    ['is no JPEG', () => Buffer.alloc(500, 7), 'tile-corrupt'],
    [
      'has damaged entropy data',
      () => {
        const bytes = Buffer.from(victim);
        bytes.fill(0xff, bytes.length - 60, bytes.length - 10);
        return bytes;
      },
      'tile-corrupt',
    ],
    [
      'is smaller',
      () =>
        sharp(drawPicture(48, 48).data, { raw: { width: 48, height: 48, channels: 3 } })
          .jpeg()
          .toBuffer(),
      'tile-size-mismatch',
    ],
    [
      'is larger',
      () =>
        sharp(drawPicture(128, 128).data, { raw: { width: 128, height: 128, channels: 3 } })
          .jpeg()
          .toBuffer(),
      'tile-size-mismatch',
    ],
    ['is grey', () => sharp(victim).toColourspace('b-w').jpeg().toBuffer(), 'tile-corrupt'],
    ['has four channels', () => sharp(victim).toColourspace('cmyk').jpeg().toBuffer(), 'tile-corrupt'],
  ])('a block that %s fails the tiles that touch it and no others', async (_, make, code) => {
    const read = await readAll(await damaged(await make()), request(corners));
    expect(read.codes).toEqual(Object.fromEntries(touches.map((i) => [i, code])));
    for (const [i, [x, y]] of corners.entries()) {
      const expected = touches.includes(i) ? Buffer.alloc(50 * 50 * 3) : cut(x, y, 50);
      expect(read.tiles[i]!.equals(expected)).toBe(true);
    }
  });

  test('a progressive JPEG is as good as any', async () => {
    const progressive = await sharp(victim).jpeg({ progressive: true, quality: 95 }).toBuffer();
    const slide = await damaged(progressive);
    const rgb = await readRegion(slide, 0, 128, 64, 64, 64, pool);
    expect(Buffer.from(rgb).equals(await sharp(progressive).raw().toBuffer())).toBe(true);
  });

  test('a region throws the error of its block', async () => {
    await expect(readRegion(await damaged(null), 0, 100, 50, 60, 60, pool)).rejects.toMatchObject({
      code: 'tile-missing',
    });
  });

  test('a block whose bytes lie past the end of the file is tile-truncated', async () => {
    const file = writeTiff([page], { ifdsFirst: true });
    const slide = await openSlide(memorySource(file.subarray(0, file.length - 40)));
    const read = await readAll(slide, request(corners));
    const last = corners.flatMap(([x, y], i) => (x + 50 > 256 && y + 50 > 192 ? [i] : []));
    expect(read.codes).toEqual(Object.fromEntries(last.map((i) => [i, 'tile-truncated'])));
  });

  test('a block that claims gigabytes is refused without reading it', async () => {
    const opened = await open({ tags: { 325: { type: 'long', values: Array(20).fill(100 << 20) } } });
    await opened.blocks(0);
    const slide = { ...opened, source: { ...opened.source, size: bytes(2 ** 40) } };
    const read = await readAll(slide, request([[0, 0]]));
    expect(read.codes).toEqual({ 0: 'tile-corrupt' });
    expect(read.stats.bytesRead).toBe(0);
  });
});

describe('trouble with the source', () => {
  const file = writeTiff([page]);
  const failing = (fail: (offset: number, length: number) => Error | null): ByteSource => {
    const inner = memorySource(file);
    let armed = false;
    return {
      ...inner,
      async read(ranges, signal) {
        const error = armed ? ranges.map(({ offset, length }) => fail(offset, length)).find((e) => e !== null) : null;
        if (error) throw error;
        return inner.read(ranges, signal);
      },
      // Armed once the slide is open.
      get uri() {
        armed = true;
        return inner.uri;
      },
    };
  };
  const bad = { from: file.indexOf(tiles[7]!), to: file.indexOf(tiles[7]!) + tiles[7]!.length };
  const within = (offset: number, length: number) => offset < bad.to && offset + length > bad.from;

  async function openArmed(source: ByteSource): Promise<Slide> {
    const slide = await openSlide(memorySource(file));
    await slide.blocks(0);
    void source.uri;
    return { ...slide, source };
  }

  test.each(['slide-unreadable', 's3-unavailable', 'slide-forbidden'] as const)(
    'storage that fails with %s ends the read: trying again may help, and the tiles are not to blame',
    async (code) => {
      const error = new NightshiftError(code, 'no bytes');
      const slide = await openArmed(failing((offset, length) => (within(offset, length) ? error : null)));
      await expect(readAll(slide, request(every(25)))).rejects.toBe(error);
    },
  );

  test('a file that ends early costs the tiles behind its end', async () => {
    const cutAt = bad.from + 10;
    const slide = await openArmed({ ...memorySource(file.subarray(0, cutAt)) });
    const { codes } = await readAll(
      slide,
      request([
        [0, 0],
        [130, 70],
        [200, 130],
      ]),
    );
    expect(codes).toEqual({ 1: 'tile-truncated', 2: 'tile-truncated' });
  });

  test('a slide that changed ends the read', async () => {
    const changed = new NightshiftError('slide-changed', 'another file');
    const slide = await openArmed(failing((offset, length) => (within(offset, length) ? changed : null)));
    await expect(readAll(slide, request(every(25)))).rejects.toMatchObject({ code: 'slide-changed' });
  });

  test('an abort ends the read with its reason, before and within', async () => {
    const reason = new Error('enough');
    const slide = await open();
    await expect(readAll(slide, request(every(25)), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const stop = new AbortController();
    const reading = async () => {
      for await (const _ of readTiles(slide, request(every(1)), pool, { signal: stop.signal, maxBytesInFlight: 0 })) {
        stop.abort(reason);
      }
    };
    await expect(reading()).rejects.toBe(reason);
  });

  test('leaving early ends the reads that are under way before it returns', async () => {
    let open = 0;
    const inner = memorySource(file);
    const slide = await openArmed({
      ...inner,
      async read(ranges, signal) {
        open++;
        const parts = await inner.read(ranges, signal);
        open--;
        return parts;
      },
    });
    for await (const _ of readTiles(slide, request(every(1)), pool, { maxBytesInFlight: 100_000 })) break;
    expect(open).toBe(0);
  });

  test('a tile that leaves the level is a caller’s mistake', async () => {
    const slide = await open();
    for (const corner of [
      [251, 0],
      [0, 151],
      [-1, 0],
    ] as [number, number][]) {
      await expect(readAll(slide, request([corner]))).rejects.toMatchObject({ code: 'internal' });
    }
  });
});

describe('decoders that die', () => {
  const mark = (jpeg: Buffer, text: string) =>
    Buffer.concat([
      jpeg.subarray(0, 2),
      Buffer.from([0xff, 0xfe, 0, 2 + text.length]),
      Buffer.from(text),
      jpeg.subarray(2),
    ]);
  const corners = every(25);
  const touches = corners.flatMap(([x, y], i) => (x < 192 && x + 50 > 128 && y < 128 && y + 50 > 64 ? [i] : []));
  const script = new URL('../../fixtures/slides/marked-worker.ts', import.meta.url);

  test.each(['EXIT', 'SPIN'])('a block that makes its thread %s fails alone; the pool goes on', async (text) => {
    const fragile = createDecodePool({ threads: 2, deadlineSeconds: 0.5, script });
    const slide = await open({ tiles: tiles.with(7, mark(tiles[7]!, text)) });
    const read = await readAll(slide, request(corners), {}, fragile);
    expect(read.codes).toEqual(Object.fromEntries(touches.map((i) => [i, 'tile-decode-crash'])));
    const good = corners.filter((_, i) => !touches.includes(i));
    expect(
      good.every(([x, y]) => read.tiles[corners.findIndex((c) => c[0] === x && c[1] === y)]!.equals(cut(x, y, 50))),
    ).toBe(true);
    expect((await readAll(await open(), request(corners), {}, fragile)).codes).toEqual({});
    await fragile.close();
  });

  test('where a thread dies of cutting, the tiles are cut anew from the start', async () => {
    let deaths = 0;
    const dying: DecodePool = {
      ...pool,
      run(kind, task, options) {
        if (kind !== 'tiles' || deaths++ > 0) return pool.run(kind, task, options);
        structuredClone(null, { transfer: [...(options?.transfer ?? [])] });
        return Promise.reject(new NightshiftError('tile-decode-crash', 'the decoder died'));
      },
    };
    const size = 224;
    const [width, height] = [1_200, 900];
    const slide = await open({ width, height, tiles: await jpegTiles(drawPicture(width, height), TILE) });
    const rows: [number, number][] = [];
    for (let y = 0; y + size <= height; y += 50) for (let x = 0; x + size <= width; x += 150) rows.push([x, y]);
    const wanted = request(rows, { readPx: levelPx(size), tilePx: tilePx(size) });
    const [read, right] = [await readAll(slide, wanted, {}, dying), await readAll(slide, wanted)];
    expect(deaths).toBeGreaterThan(1);
    expect(read.codes).toEqual({});
    expect(read.tiles.every((tile, i) => tile.equals(right.tiles[i]!))).toBe(true);
  });

  test('a closed pool fails what waits and what comes', async () => {
    const closing = createDecodePool({ threads: 1 });
    const slide = await open();
    const reading = readAll(slide, request(every(3)), {}, closing);
    const outcome = expect(reading).rejects.toMatchObject({ code: 'internal' });
    await closing.close();
    await outcome;
    await expect(readAll(slide, request(corners), {}, closing)).rejects.toMatchObject({ code: 'internal' });
  });

  test('a decoder that cannot start is one clear error, not a failure of every tile', async () => {
    process.env.NIGHTSHIFT_JPEG = 'fast';
    const broken = createDecodePool({ threads: 1 });
    const reading = readAll(await open(), request(corners), {}, broken);
    await expect(reading).rejects.toMatchObject({ code: 'usage', message: expect.stringContaining('NIGHTSHIFT_JPEG') });
    delete process.env.NIGHTSHIFT_JPEG;
    await broken.close();
  });
});
