import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { loadJpeg } from '../../../packages/core/src/slide/codec/jpeg.ts';
import { readFrame } from '../../../packages/core/src/slide/codec/markers.ts';
import { SequentialJpeg } from '../../../packages/core/src/slide/codec/sequential/decoder.ts';
import { buildJpegModule } from '../../../packages/core/wasm/build.ts';
import { encodeJpeg, type JpegOptions } from '../../fixtures/slides/encode-jpeg.ts';
import { drawPicture, type Picture } from '../../fixtures/slides/write-tiff.ts';

const SOURCE = '../../../packages/core/src/slide/codec/sequential';
const builtIn = SequentialJpeg.load()!;
const library = await loadJpeg('native');

interface Size {
  readonly width: number;
  readonly height: number;
}

/** What the decoder makes of a picture; null where it leaves it to the library. */
function decode(jpeg: Buffer, { width, height }: Size = readFrame(jpeg)): Buffer | null {
  const out = Buffer.alloc(3 * width * height, 9);
  return builtIn.decode(jpeg, width, height, out, 3 * width) ? out : null;
}

function decodeByLibrary(jpeg: Buffer, { width, height }: Size = readFrame(jpeg)): Buffer | null {
  const out = Buffer.alloc(3 * width * height, 7);
  return library.decode(jpeg, width, height, out, 3 * width) === null ? out : null;
}

/** A picture with blocks of every kind: flat ones, gradients, noise. */
function mixed(width: number, height: number): Picture {
  const picture = drawPicture(width, height);
  for (let i = 0; i < picture.data.length; i += 3) {
    const [x, y] = [(i / 3) % width, Math.floor(i / 3 / width)];
    const part = (Math.floor(x / 16) + Math.floor(y / 16)) % 4;
    if (part === 1) picture.data.fill(230, i, i + 3);
    if (part === 2) picture.data.set([x & 255, (2 * y) & 255, (x + y) & 255], i);
    if (part === 3) picture.data.set([(x * 97 + y * 31) & 255, (x * 61) & 255, (y * 83) & 255], i);
  }
  return picture;
}

function* variants(): Generator<[string, JpegOptions]> {
  for (const chroma of ['4:4:4', '4:2:2', '4:2:0'] as const) {
    for (const quality of [5, 50, 85, 98, 100]) {
      for (const restart of [0, 1, 5]) {
        for (const optimise of [false, true]) {
          const name = `${chroma}, quality ${quality}, ${restart} MCUs an interval, ${optimise ? 'its own' : 'usual'} codes`;
          yield [name, { chroma, quality, restart, optimise }];
          if (chroma === '4:4:4') yield [`${name}, RGB`, { chroma, quality, restart, optimise, rgb: true }];
        }
      }
    }
  }
}

const SIZES = [8, 8, 16, 16, 9, 8, 17, 31, 33, 15, 47, 65, 64, 64, 130, 71] as const;

describe('the pixels are libjpeg-turbo’s', () => {
  test.each([...variants()])('%s', (_, options) => {
    for (let i = 0; i < SIZES.length; i += 2) {
      const jpeg = encodeJpeg(mixed(SIZES[i]!, SIZES[i + 1]!), options);
      const pixels = decode(jpeg);
      expect(pixels, `${SIZES[i]} x ${SIZES[i + 1]}`).not.toBeNull();
      expect(pixels!.equals(decodeByLibrary(jpeg)!)).toBe(true);
    }
  });

  test('in a picture of more rows than its planes hold, and one as wide as a JPEG can be', () => {
    for (const [width, height] of [
      [48, 900],
      [65_500, 40],
    ] as const) {
      const jpeg = encodeJpeg(mixed(width, height), { chroma: '4:2:0', quality: 80, restart: 11 });
      expect(decode(jpeg)!.equals(decodeByLibrary(jpeg)!)).toBe(true);
    }
  });

  test('also of blank pictures, whose own codes may be a single one', () => {
    for (const value of [0, 127, 255]) {
      const blank = { width: 64, height: 48, data: Buffer.alloc(3 * 64 * 48, value) };
      const jpeg = encodeJpeg(blank, { chroma: '4:2:0', quality: 90, optimise: true });
      expect(decode(jpeg)!.equals(decodeByLibrary(jpeg)!)).toBe(true);
    }
  });

  test('whatever was decoded before: tables are those of the picture', () => {
    const pictures = [20, 95, 20, 60].map((quality, i) =>
      encodeJpeg(mixed(64, 40), { chroma: '4:4:4', quality, optimise: i % 2 === 0 }),
    );
    for (const jpeg of [...pictures, ...pictures.toReversed()]) {
      expect(decode(jpeg)!.equals(decodeByLibrary(jpeg)!)).toBe(true);
    }
    // One that fails in the middle of a block leaves nothing behind.
    expect(decode(pictures[1]!.subarray(0, -300))).toBeNull();
    expect(decode(pictures[1]!)!.equals(decodeByLibrary(pictures[1]!)!)).toBe(true);
  });

  test('at a pitch of more than a row nothing between the rows is touched', () => {
    const jpeg = encodeJpeg(mixed(50, 40), { chroma: '4:2:0', quality: 80 });
    const out = Buffer.alloc(200 * 40, 9);
    expect(builtIn.decode(jpeg, 50, 40, out, 200)).toBe(true);
    const whole = decodeByLibrary(jpeg)!;
    for (let y = 0; y < 40; y++) {
      expect(out.subarray(200 * y, 200 * y + 150).equals(whole.subarray(150 * y, 150 * (y + 1)))).toBe(true);
      expect(out.subarray(200 * y + 150, 200 * (y + 1)).every((byte) => byte === 9)).toBe(true);
    }
  });
});

describe('what it leaves to the library', () => {
  const plain = encodeJpeg(mixed(64, 64), { chroma: '4:2:0', quality: 80 });
  const at = (marker: number) => plain.indexOf(Buffer.from([0xff, marker]));
  const changed = (offset: number, ...bytes: number[]) => {
    const jpeg = Buffer.from(plain);
    jpeg.set(bytes, offset);
    return jpeg;
  };

  test.each<[string, Buffer]>([
    ['a progressive picture', encodeJpeg(mixed(64, 64), { chroma: '4:2:0', quality: 80, progressive: true })],
    ['chroma of half the height alone', encodeJpeg(mixed(64, 64), { chroma: '4:4:0', quality: 80 })],
    ['a picture narrower than a block', encodeJpeg(mixed(7, 64), { chroma: '4:2:0', quality: 80 })],
    [
      'bytes between the data and the end',
      Buffer.concat([plain.subarray(0, -2), Buffer.alloc(9, 5), plain.subarray(-2)]),
    ],
    ['no end', plain.subarray(0, -2)],
    ['JFIF 2', changed(at(0xe0) + 9, 2)],
    ['a scan that is no sequential one', changed(at(0xda) + 12, 62)],
    [
      'a restart interval of three bytes',
      Buffer.concat([plain.subarray(0, 2), Buffer.of(0xff, 0xdd, 0, 5, 0, 1, 0), plain.subarray(2)]),
    ],
    ['a table of quantisation that is not there', changed(at(0xc0) + 12, 3)],
    ['a code of ones alone', changed(at(0xc4) + 5, 2)],
    [
      'two frames',
      Buffer.concat([plain.subarray(0, at(0xda)), plain.subarray(at(0xc0), at(0xc0) + 19), plain.subarray(at(0xda))]),
    ],
  ])('%s', (_, jpeg) => {
    expect(decode(jpeg)).toBeNull();
  });

  test('a picture of another size than the caller expects', () => {
    expect(decode(plain, { width: 64, height: 56 })).toBeNull();
    expect(decode(plain, { width: 72, height: 64 })).toBeNull();
  });

  test('a picture cut short anywhere', () => {
    for (let end = 0; end < plain.length; end += 3) expect(decode(plain.subarray(0, end), readFrame(plain))).toBeNull();
  });

  test('restart markers in another order', () => {
    const jpeg = encodeJpeg(mixed(64, 64), { chroma: '4:4:4', quality: 80, restart: 2 });
    const second = jpeg.indexOf(Buffer.from([0xff, 0xd1]));
    jpeg[second + 1] = 0xd2;
    expect(decode(jpeg)).toBeNull();
  });

  test('all, where the machine lacks what it is made of', () => {
    const script = fileURLToPath(new URL(`${SOURCE}/decoder.ts`, import.meta.url));
    const code = `import(${JSON.stringify(script)}).then(({ SequentialJpeg }) => console.log(SequentialJpeg.load()))`;
    const run = (...flags: string[]) =>
      spawnSync(process.execPath, [...flags, '-e', code], { encoding: 'utf8' }).stdout;
    expect(run()).toContain('SequentialJpeg');
    if (process.arch === 'x64') expect(run('--no-enable-sse4-1')).toBe('null\n');
  });
});

test('of damaged pictures it decodes none that the library refuses, and the others to the same pixels', () => {
  let random = 5;
  const next = (most: number) => {
    random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((random / 2 ** 32) * most);
  };
  const whole = [...variants()].map(([, options]) => encodeJpeg(mixed(40, 40), options));
  const outcomes = { both: 0, neither: 0, library: 0, builtIn: 0, different: 0 };
  for (let i = 0; i < 6_000; i++) {
    const jpeg = Buffer.from(whole[next(whole.length)]!);
    for (let k = 0; k <= next(3); k++) jpeg[2 + next(jpeg.length - 2)]! ^= 1 << next(8);
    const size = { width: 40, height: 40 };
    const [ours, theirs] = [decode(jpeg, size), decodeByLibrary(jpeg, size)];
    if (ours === null) outcomes[theirs === null ? 'neither' : 'library']++;
    else if (theirs === null) outcomes.builtIn++;
    else outcomes[ours.equals(theirs) ? 'both' : 'different']++;
  }
  expect(outcomes).toMatchObject({ builtIn: 0, different: 0 });
  expect(outcomes.both).toBeGreaterThan(1_000);
  expect(outcomes.neither).toBeGreaterThan(1_000);
});

test('the module is what its source compiles to', async () => {
  expect(await readFile(new URL(`${SOURCE}/module.ts`, import.meta.url), 'utf8')).toBe(await buildJpegModule());
});
