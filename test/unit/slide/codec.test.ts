import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { NightshiftError } from '../../../packages/core/src/errors.ts';
import type { BlockShape, DctScale } from '../../../packages/core/src/slide/codec/block.ts';
import { JpegBlocks, loadJpeg } from '../../../packages/core/src/slide/codec/jpeg.ts';
import { readFrame } from '../../../packages/core/src/slide/codec/markers.ts';
import { drawPicture, jpegTiles } from '../../fixtures/slides/write-tiff.ts';

const SIDE = 64;
const shape: BlockShape = { width: SIDE, height: SIDE, usedWidth: SIDE, usedHeight: SIDE };
const prefix = Buffer.from([0xff, 0xd8, 0xff, 0xee, 0, 14, ...Buffer.from('Adobe'), 0, 100, 0, 0, 0, 0, 1]);
const [jpeg] = (await jpegTiles(drawPicture(SIDE, SIDE), SIDE)) as [Buffer];
const decoders = {
  auto: new JpegBlocks(await loadJpeg('auto')),
  native: new JpegBlocks(await loadJpeg('native')),
  wasm: new JpegBlocks(await loadJpeg('wasm')),
};

function decode(name: keyof typeof decoders, block: Uint8Array, scale: DctScale = 1): Uint8Array | string {
  const side = SIDE / scale;
  const out = new Uint8Array(3 * side * side);
  try {
    decoders[name].decode(block, prefix, shape, out, scale);
    return out;
  } catch (error) {
    if (error instanceof NightshiftError) return error.code;
    throw error;
  }
}

test('auto takes our own decoder and the native library here; the environment may ask for another library alone', async () => {
  expect((await loadJpeg('auto')).names).toEqual(['built-in', 'native']);
  process.env.NIGHTSHIFT_JPEG = 'wasm';
  expect((await loadJpeg('auto')).names).toEqual(['wasm']);
  process.env.NIGHTSHIFT_JPEG = 'quick';
  await expect(loadJpeg('auto')).rejects.toMatchObject({ code: 'usage' });
  delete process.env.NIGHTSHIFT_JPEG;
});

describe.each(['auto', 'native', 'wasm'] as const)('%s', (name) => {
  test('gives the pixels of an independent decoder', async () => {
    expect(Buffer.from(decode(name, jpeg) as Uint8Array).equals(await sharp(jpeg).raw().toBuffer())).toBe(true);
  });

  test('a picture cut short anywhere is an error, never grey pixels', () => {
    const outcomes = new Set<unknown>();
    for (let end = 0; end < jpeg.length; end += 5) outcomes.add(decode(name, jpeg.subarray(0, end)));
    outcomes.add(decode(name, jpeg.subarray(0, -1)));
    expect([...outcomes]).toEqual(['tile-truncated']);
  });

  test('a picture without its tables is an error, whatever was decoded before it', () => {
    decode(name, jpeg);
    expect(jpeg.readUInt16BE(2)).toBe(0xffdb);
    const bare = Buffer.concat([jpeg.subarray(0, 2), jpeg.subarray(4 + jpeg.readUInt16BE(4))]);
    expect(decode(name, bare)).toBe('tile-corrupt');
  });

  test('it goes on after many failures', () => {
    // What 4,000 of them leave behind in the wasm library runs into its heap.
    const outcomes = new Set<unknown>();
    for (let i = 0; i < 6_000; i++) outcomes.add(decode(name, jpeg.subarray(0, 700)));
    expect([...outcomes]).toEqual(['tile-truncated']);
    expect(decode(name, jpeg)).toBeInstanceOf(Uint8Array);
  });

  test.each([2, 4, 8] as const)('decodes at 1/%i, close to the mean of the pixels', (scale) => {
    const full = decode(name, jpeg) as Uint8Array;
    const small = decode(name, jpeg, scale) as Uint8Array;
    const side = SIDE / scale;
    let sum = 0;
    for (let i = 0; i < small.length; i++) {
      const [x, y, c] = [Math.floor(i / 3) % side, Math.floor(i / 3 / side), i % 3];
      let mean = 0;
      for (let v = 0; v < scale; v++) {
        for (let u = 0; u < scale; u++) mean += full[3 * ((y * scale + v) * SIDE + x * scale + u) + c]! / scale ** 2;
      }
      sum += Math.abs(small[i]! - mean);
    }
    expect(sum / small.length).toBeLessThan(1.5);
  });
});

test('both agree on which data is damaged', () => {
  let random = 99;
  const next = (most: number) => {
    random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((random / 2 ** 32) * most);
  };
  // Pixels are not compared: SIMD and plain C round differently on coefficients that no encoder writes.
  const outcomes = { bothDecode: 0, bothFail: 0, differ: 0 };
  for (let i = 0; i < 400; i++) {
    const bytes = Buffer.from(jpeg);
    for (let k = 0; k <= next(3); k++) bytes[2 + next(bytes.length - 2)] = next(256);
    const [a, b] = [decode('native', bytes), decode('wasm', bytes)];
    if (typeof a === 'string' && typeof b === 'string') outcomes.bothFail++;
    else if (typeof a !== 'string' && typeof b !== 'string') outcomes.bothDecode++;
    else outcomes.differ++;
  }
  expect(outcomes.differ).toBe(0);
  expect(outcomes.bothDecode).toBeGreaterThan(20);
  expect(outcomes.bothFail).toBeGreaterThan(20);
});

describe('frame header', () => {
  test('is found behind other segments and fill bytes', () => {
    const filled = Buffer.concat([jpeg.subarray(0, 2), Buffer.from([0xff, 0xff]), jpeg.subarray(2)]);
    expect(readFrame(filled)).toEqual({ width: 64, height: 64, components: 3, precision: 8, process: 0 });
  });

  test('a progressive one says so', async () => {
    expect(readFrame(await sharp(jpeg).jpeg({ progressive: true }).toBuffer()).process).toBe(2);
  });

  test.each([
    ['no bytes', Buffer.alloc(0), 'tile-truncated'],
    ['no JPEG', Buffer.from('RIFF'), 'tile-corrupt'],
    ['a segment of no length', Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0, 1, 0, 0]), 'tile-corrupt'],
    ['the scan before it', Buffer.from([0xff, 0xd8, 0xff, 0xda, 0, 12, 0, 0]), 'tile-corrupt'],
    ['the end before it', Buffer.from([0xff, 0xd8, 0xff, 0xd9, 0, 0]), 'tile-corrupt'],
    ['bytes between segments', Buffer.from([0xff, 0xd8, 1, 2, 3, 4]), 'tile-corrupt'],
    ['a segment longer than the data', Buffer.from([0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff, 0, 0]), 'tile-truncated'],
  ])('%s is an error', (_, bytes, code) => {
    expect(() => readFrame(bytes)).toThrow(expect.objectContaining({ code }));
  });
});
