import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { createDecodePool, type DecodePool } from '../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../packages/core/src/slide/open.ts';
import { findOpenSlide } from '../../packages/core/src/slide/openslide/process.ts';
import { openByOpenSlide } from '../../packages/core/src/slide/openslide/slide.ts';
import type { Slide } from '../../packages/core/src/slide/slide.ts';
import { readRegion } from '../../packages/core/src/slide/tiles.ts';
import { openFile } from '../../packages/core/src/source/file.ts';
import type { ByteSource } from '../../packages/core/src/source/source.ts';
import { bench, run } from '../fixtures/run.ts';
import { describeShared, shared } from '../fixtures/shared.ts';
import { restartJpeg } from '../fixtures/slides/write-ndpi.ts';
import { aperioPages, drawPicture, memorySource, writeTiff } from '../fixtures/slides/write-tiff.ts';
import { OPENSLIDE, openSlideLibrary } from '../services/openslide.ts';

let library: string;
let pool: DecodePool;
const folder = mkdtempSync(join(tmpdir(), 'nightshift-openslide-'));
const path = (name: string) => join(folder, name);

beforeAll(() => {
  library = openSlideLibrary(OPENSLIDE.good);
  pool = createDecodePool({ threads: 2 });
});
afterEach(() => vi.unstubAllEnvs());
afterAll(async () => {
  await pool.close();
  rmSync(folder, { recursive: true, force: true });
});

/** A Hamamatsu VMS slide: a text that names a JPEG with restart markers and a small JPEG of the whole. */
async function writeVms(): Promise<string> {
  const { jpeg } = await restartJpeg(1_024, 512, 128);
  writeFileSync(path('image.jpg'), jpeg);
  writeFileSync(path('map.jpg'), (await restartJpeg(64, 32, 64)).jpeg);
  const facts = {
    ...{ NoLayers: 1, NoJpegColumns: 1, NoJpegRows: 1, ImageFile: 'image.jpg', MapFile: 'map.jpg' },
    ...{ MacroImage: 'map.jpg', PhysicalWidth: 512_000, PhysicalHeight: 256_000, SourceLens: 20 },
  };
  const lines = Object.entries(facts).map(([key, value]) => `${key}=${value}`);
  writeFileSync(path('slide.vms'), ['[Virtual Microscope Specimen]', ...lines, ''].join('\n'));
  return path('slide.vms');
}

const failure = (opening: Promise<unknown>): Promise<{ code: string; message: string; next: string }> =>
  opening.then(
    () => Promise.reject(new Error('it was opened')),
    (error) => error,
  );

describe('a format that is not read here', () => {
  test('is read by OpenSlide: metadata and every pixel', async () => {
    vi.stubEnv('NIGHTSHIFT_OPENSLIDE', library);
    const slide = await openSlide(await openFile(await writeVms()));
    expect(slide).toMatchObject({ format: 'openslide', vendor: 'hamamatsu', objectivePower: 20 });
    expect(slide.mpp).toEqual({ x: 0.5, y: 0.5, source: 'vendor' });
    expect(slide.levels[0]).toMatchObject({ width: 1_024, height: 512, downsample: 1 });
    const jpeg = await sharp(path('image.jpg')).removeAlpha().raw().toBuffer();
    const pixels = await readRegion(slide, 0, 0, 0, 1_024, 512, pool);
    expect(Buffer.from(pixels).equals(jpeg)).toBe(true);
    await slide.close();
  });

  test('is embedded tile by tile as any other', async () => {
    vi.stubEnv('NIGHTSHIFT_OPENSLIDE', library);
    const b = await bench();
    try {
      const tissue = { method: 'none', min: 0.4 } as const;
      const { report } = await run({
        sources: [await writeVms()],
        model: b.model,
        out: b.path('out'),
        mpp: 0.5,
        tissue,
      });
      expect(report).toMatchObject({
        state: 'done',
        failures: [],
        slides: { done: 1 },
        tiles: { planned: 8, embedded: 8 },
      });
    } finally {
      b.dispose();
    }
  });

  test('is refused with what would help where there is no OpenSlide', async () => {
    for (const wish of ['off', path('no-such-library.so')]) {
      vi.stubEnv('NIGHTSHIFT_OPENSLIDE', wish);
      const error = await failure(openSlide(await openFile(await writeVms())));
      expect(error).toMatchObject({ code: 'slide-unsupported', message: expect.stringContaining('Hamamatsu VMS') });
      expect(error.next).toMatch(/Convert it to .*install OpenSlide 4\.0\.1 or later/);
    }
  });

  test('is refused with the reason where OpenSlide is too old', async () => {
    vi.stubEnv('NIGHTSHIFT_OPENSLIDE', openSlideLibrary(OPENSLIDE.old));
    expect(await findOpenSlide()).toMatchObject({ state: 'too-old', why: expect.stringContaining('CVE-2026-48977') });
    const error = await failure(openSlide(await openFile(await writeVms())));
    expect(error).toMatchObject({ code: 'slide-unsupported', next: expect.stringContaining('OpenSlide 4.0.0') });
  });

  test('is refused by name where OpenSlide does not know it either', async () => {
    vi.stubEnv('NIGHTSHIFT_OPENSLIDE', library);
    writeFileSync(
      path('grey.png'),
      await sharp(drawPicture(32, 32).data, { raw: { width: 32, height: 32, channels: 3 } })
        .toColourspace('b-w')
        .png()
        .toBuffer(),
    );
    const error = await failure(openSlide(await openFile(path('grey.png'))));
    expect(error.message).toMatch(/grey .*OpenSlide 4\.0\.1 does not know it/);
  });

  test('is slide-corrupt where OpenSlide cannot open it', async () => {
    vi.stubEnv('NIGHTSHIFT_OPENSLIDE', library);
    await writeVms();
    rmSync(path('map.jpg'));
    expect(await failure(openSlide(await openFile(path('slide.vms'))))).toMatchObject({ code: 'slide-corrupt' });
  });
});

describe('by OpenSlide', () => {
  async function ours(): Promise<{ file: string; slide: Slide; other: Slide }> {
    const file = path('slide.svs');
    writeFileSync(file, writeTiff(await aperioPages({ width: 1_300, height: 700, tile: 256, levels: 2 })));
    return {
      file,
      slide: await openSlide(await openFile(file)),
      other: (await openByOpenSlide(await openFile(file), library))!,
    };
  }
  /** Its processes, children of this one. */
  const processes = () =>
    spawnSync('pgrep', ['-P', String(process.pid), '-f', 'openslide/child'], { encoding: 'utf8' })
      .stdout.split('\n')
      .filter(Boolean)
      .map(Number);

  test('a slide has the levels, the facts and the pixels that it has here', async () => {
    const { slide, other } = await ours();
    expect(other.levels.map(({ width, height, downsample }) => [width, height, downsample])).toEqual(
      slide.levels.map(({ width, height, downsample }) => [width, height, downsample]),
    );
    expect(other).toMatchObject({ vendor: 'aperio', mpp: { x: 0.5, y: 0.5 }, objectivePower: 20 });
    for (const [level, x, y, width, height] of [
      [0, 0, 0, 1_300, 700],
      [0, 500, 500, 600, 30],
      [1, 0, 0, 650, 350],
    ] as const) {
      const theirs = await readRegion(other, level, x, y, width, height, pool);
      const own = await readRegion(slide, level, x, y, width, height, pool);
      expect(Buffer.from(theirs).equals(own), `level ${level} at ${x}, ${y}`).toBe(true);
    }
    await Promise.all([slide.close(), other.close()]);
  });

  test('its process has no credentials, and ends with the slide', async () => {
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'CANARY');
    const { slide, other } = await ours();
    const [pid] = processes();
    expect(readFileSync(`/proc/${pid}/environ`, 'latin1')).not.toMatch(/CANARY|AWS_/);
    await Promise.all([slide.close(), other.close()]);
    expect(processes()).toEqual([]);
  });

  test('a process that hangs fails the square that it was reading; the next one is read by another', async () => {
    const { slide, other } = await ours();
    const [pid] = processes();
    process.kill(pid!, 'SIGSTOP');
    const error = await failure(readRegion(other, 0, 0, 0, 100, 100, pool));
    expect(error).toMatchObject({ code: 'tile-decode-crash', message: expect.stringContaining('no answer in 5 s') });
    const theirs = await readRegion(other, 0, 0, 0, 100, 100, pool);
    expect(Buffer.from(theirs).equals(await readRegion(slide, 0, 0, 0, 100, 100, pool))).toBe(true);
    expect(processes()).not.toContain(pid);
    await Promise.all([slide.close(), other.close()]);
  });

  test('a process that was killed in between is replaced', async () => {
    const { slide, other } = await ours();
    const [pid] = processes();
    process.kill(pid!, 'SIGKILL');
    await vi.waitFor(() => expect(() => process.kill(pid!, 0)).toThrow('ESRCH'), { timeout: 60_000 });
    await expect(readRegion(other, 0, 0, 0, 100, 100, pool)).resolves.toHaveLength(30_000);
    await Promise.all([slide.close(), other.close()]);
  });

  test('a damaged tile fails the squares that touch it and no others', async () => {
    const tiles = await aperioPages({ width: 1_300, height: 700, tile: 256 });
    const damaged = tiles[0]!.tiles.map((tile, i) => (i === 0 ? Buffer.from(tile!).fill(0x55, 700, 1_500) : tile));
    writeFileSync(path('damaged.svs'), writeTiff([{ ...tiles[0]!, tiles: damaged }]));
    const slide = (await openByOpenSlide(await openFile(path('damaged.svs')), library))!;
    expect(await failure(readRegion(slide, 0, 0, 0, 100, 100, pool))).toMatchObject({ code: 'tile-corrupt' });
    await expect(readRegion(slide, 0, 600, 0, 100, 100, pool)).resolves.toHaveLength(30_000);
    await slide.close();
  });

  test('an object of a store is read from a copy, which is made once', async () => {
    vi.stubEnv('NIGHTSHIFT_OPENSLIDE_CACHE', path('cache'));
    const bytes = writeTiff(await aperioPages({ width: 300, height: 200 }));
    let read = 0;
    const source = () => {
      const memory = memorySource(bytes, 's3://bucket/slide.svs');
      const counted: ByteSource['read'] = (ranges) => {
        read += 1;
        return memory.read(ranges);
      };
      return { ...memory, read: counted };
    };
    const slides = [await openByOpenSlide(source(), library), await openByOpenSlide(source(), library)];
    expect(read).toBe(1);
    for (const slide of slides) {
      expect(slide!.source.uri).toBe('s3://bucket/slide.svs');
      await expect(readRegion(slide!, 0, 0, 0, 100, 100, pool)).resolves.toHaveLength(30_000);
      await slide!.close();
    }
  });
});

describeShared('real slides by OpenSlide', () => {
  test('CMU-1-Small-Region.svs: every pixel is that of our own reader', async () => {
    const file = shared('slides/CMU-1-Small-Region.svs');
    const [slide, other] = [
      await openSlide(await openFile(file)),
      (await openByOpenSlide(await openFile(file), library))!,
    ];
    const all = await Promise.all([slide, other].map((one) => readRegion(one, 0, 0, 0, 2_220, 2_967, pool)));
    expect(Buffer.from(all[0]!).equals(all[1]!)).toBe(true);
    await Promise.all([slide.close(), other.close()]);
  });
});
