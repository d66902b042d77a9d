import { existsSync, globSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { composeSource } from '../../packages/core/src/compose.ts';
import { createDecodePool, type DecodePool } from '../../packages/core/src/slide/decode-pool.ts';
import { openSlide } from '../../packages/core/src/slide/open.ts';
import { readTiles } from '../../packages/core/src/slide/tiles.ts';
import { levelPx, tilePx } from '../../packages/core/src/units.ts';
import { succeeds } from '../services/process.ts';

export interface DecodeBench {
  readonly slides: readonly SlideBench[];
}

interface SlideBench {
  readonly slide: string;
  readonly tiles: number;
  /** Tiles of 224 px at level 0 per second of CPU time of all threads: medians over the rounds. */
  readonly ours: number;
  readonly openSlide: number;
  /** The ratio that is wanted. */
  readonly aim: string;
  /** Median of the rounds' ratios: neighbours in time, so that a loaded machine slows both. */
  readonly ratio: number;
}

/** Version of the package that holds OpenSlide 4.0.1. */
const OPENSLIDE_BIN = '4.0.1.2';
const SIDE = 224;
const STRIPE = 32;
const ROUNDS = 7;
const MOST_TILES = 1_024;
/** `passes`: how often a slide is read a round; opened anew each time, or caches would hold the pass before. */
const SLIDES: readonly BenchSlide[] = [
  { path: 'CMU-1-Small-Region.svs', passes: 8, aim: '3.5 or more' },
  { path: 'derived/cmu-mosaic-16x12.svs', passes: 1, aim: '3.5 or more' },
  { path: 'test3-DAPI-2-387.ndpi', passes: 3, aim: '2 or more' },
  { path: 'TCGA-CR-7395-01A-01-TS1.svs', passes: 1, aim: '1 or more' },
  { path: 'dicom-cmu', theirs: 'dicom-cmu/52618416.dcm', library: 'pip', passes: 8, aim: '2 or more' },
];

interface BenchSlide {
  readonly path: string;
  /** The name that OpenSlide opens it by, where that is another. */
  readonly theirs?: string;
  /** OpenSlide 4 from the package registry, where the system's is too old for the format. */
  readonly library?: 'pip';
  readonly passes: number;
  readonly aim: string;
}

/**
 * Decoding speed side by side with OpenSlide through its C interface, pass by pass by turns, in one process: both read the same
 * tiles in the same order (stripes of 32, as plans have them) with one decoding thread, and give RGB. Opening is not counted.
 * Null, with the reason printed, where `../shared/slides` is absent; without a slide whose OpenSlide is. `only`: slides whose path has it.
 */
export async function benchDecode(only = ''): Promise<DecodeBench | null> {
  const folder = join(import.meta.dirname, '../../../shared/slides');
  if (!existsSync(folder)) {
    console.error('decode: skipped, no ../shared/slides');
    return null;
  }
  const pool = createDecodePool({ threads: 1 });
  const slides: SlideBench[] = [];
  for (const { path, theirs: theirPath = path, library = 'system', passes, aim } of SLIDES) {
    if (!path.includes(only)) continue;
    const theirReader = openSlideReader(library);
    if (theirReader === null) {
      console.error(`decode ${path}: skipped, no ${library === 'pip' ? 'OpenSlide 4 from pip' : 'libopenslide'}`);
      continue;
    }
    const file = join(folder, path);
    const corners = await cornersOf(file);
    const ours: number[] = [];
    const theirs: number[] = [];
    // The first round warms up.
    for (let round = -1; round < ROUNDS; round++) {
      // Pass by pass by turns: what else the machine does changes within seconds.
      const [a, b] = [
        { seconds: 0, sum: 0 },
        { seconds: 0, sum: 0 },
      ];
      for (let pass = 0; pass < passes; pass++) {
        add(a, await readOurs(file, corners, pool));
        add(b, await theirReader(join(folder, theirPath), corners));
      }
      if (a.sum !== b.sum) throw new Error(`${path}: the pixels differ`);
      if (round < 0) continue;
      ours.push((passes * corners.length) / a.seconds);
      theirs.push((passes * corners.length) / b.seconds);
    }
    const ratio = median(ours.map((rate, i) => rate / theirs[i]!));
    slides.push({ slide: path, aim, tiles: corners.length, ours: median(ours), openSlide: median(theirs), ratio });
  }
  await pool.close();
  return { slides };
}

type Corners = readonly (readonly [number, number])[];

interface Cost {
  /** CPU time of all threads. */
  readonly seconds: number;
  /** Sum over some of the pixels, to see that both read the same. */
  readonly sum: number;
}

function add(to: { seconds: number; sum: number }, { seconds, sum }: Cost): void {
  to.seconds += seconds;
  to.sum += sum;
}

function cpuSeconds(since: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1e6;
}

async function cornersOf(file: string): Promise<Corners> {
  const slide = await openSlide(await composeSource(file));
  const { width, height } = slide.levels[0]!;
  await slide.close();
  const corners: [number, number][] = [];
  const [columns, rows] = [Math.floor(width / SIDE), Math.floor(height / SIDE)];
  for (let left = 0; left < columns; left += STRIPE) {
    for (let row = 0; row < rows; row++) {
      for (let column = left; column < Math.min(columns, left + STRIPE); column++) {
        if (corners.length < MOST_TILES) corners.push([column * SIDE, row * SIDE]);
      }
    }
  }
  return corners;
}

/** Values that are summed: a few of each tile. Divides the bytes of a tile, so that both readers' sums count the same ones. */
const SAMPLE = 3 * SIDE * 7;

async function readOurs(file: string, corners: Corners, pool: DecodePool): Promise<Cost> {
  const slide = await openSlide(await composeSource(file));
  const request = {
    level: 0,
    readPx: levelPx(SIDE),
    tilePx: tilePx(SIDE),
    filter: 'bilinear' as const,
    fit: null,
    x: Int32Array.from(corners, ([x]) => x),
    y: Int32Array.from(corners, ([, y]) => y),
  };
  let sum = 0;
  const before = process.cpuUsage();
  for await (const { pixels, failures } of readTiles(slide, request, pool)) {
    if (failures.length > 0) throw new Error(failures[0]!.error.message);
    for (let i = 0; i < pixels.length; i += SAMPLE) sum += pixels[i]!;
  }
  const seconds = cpuSeconds(before);
  await slide.close();
  return { seconds, sum };
}

const venv = join(import.meta.dirname, '../../.venv-test/openslide');

/** A library of the system's package, or of the package `openslide-bin`, put into a virtual environment of the project if need be. */
function libraryPath(kind: 'system' | 'pip'): string | null {
  if (kind === 'system') return 'libopenslide.so.0';
  const find = () =>
    existsSync(venv)
      ? globSync(join(venv, 'lib/python3*/site-packages/openslide_bin/libopenslide.so.1'))[0]
      : undefined;
  const python = join(venv, 'bin/python');
  if (find() === undefined && succeeds('python3', ['-m', 'venv', venv])) {
    succeeds(python, [
      '-m',
      'pip',
      'install',
      '--quiet',
      '--disable-pip-version-check',
      `openslide-bin==${OPENSLIDE_BIN}`,
    ]);
  }
  return find() ?? null;
}

function openSlideReader(kind: 'system' | 'pip'): ((file: string, corners: Corners) => Promise<Cost>) | null {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load(libraryPath(kind)!);
  } catch {
    return null;
  }
  const open = library.func('void *openslide_open(const char *path)');
  const close = library.func('void openslide_close(void *slide)');
  const read = library.func(
    'void openslide_read_region(void *slide, uint32_t *out, int64_t x, int64_t y, int32_t level, int64_t w, int64_t h)',
  );
  return async (file, corners) => {
    const slide: unknown = open(file);
    const pixels = new Uint32Array(SIDE * SIDE);
    const rgb = new Uint8Array(3 * SIDE * SIDE);
    let sum = 0;
    const before = process.cpuUsage();
    for (const [x, y] of corners) {
      read(slide, pixels, x, y, 0, SIDE, SIDE);
      for (let i = 0, o = 0; i < pixels.length; i++, o += 3) {
        const argb = pixels[i]!;
        rgb[o] = argb >> 16;
        rgb[o + 1] = argb >> 8;
        rgb[o + 2] = argb;
      }
      for (let i = 0; i < rgb.length; i += SAMPLE) sum += rgb[i]!;
    }
    const seconds = cpuSeconds(before);
    close(slide);
    return { seconds, sum };
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

if (import.meta.main) {
  const result = await benchDecode(process.argv[2]);
  if (result !== null) {
    console.log(`tiles of ${SIDE} px at level 0 per CPU-second, medians of ${ROUNDS} rounds, pass by pass by turns`);
    for (const { slide, tiles, ours, openSlide, ratio } of result.slides) {
      const rates = `nightshift ${ours.toFixed(0)}, OpenSlide ${openSlide.toFixed(0)}`;
      console.log(`${slide} (${tiles} tiles): ${rates}, ratio ${ratio.toFixed(2)}`);
    }
  }
}
