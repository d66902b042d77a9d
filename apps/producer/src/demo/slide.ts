import { mkdir, rename, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { paintSlide } from './paint.ts';
import { type Picture, writeSvs } from './svs.ts';
import type { Piece } from './tissue.ts';

/** A slide of the demo: painted, not scanned. */
export interface DemoSlide {
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly pieces: readonly Piece[];
  readonly seed: number;
}

export const DEMO_MPP = 0.5;

export const DEMO_SLIDES: readonly DemoSlide[] = [
  {
    name: 'demo-1',
    width: 6000,
    height: 5000,
    pieces: [
      { x: 0.44, y: 0.5, rx: 0.34, ry: 0.36 },
      { x: 0.86, y: 0.3, rx: 0.08, ry: 0.16 },
    ],
    seed: 3,
  },
  {
    name: 'demo-2',
    width: 6000,
    height: 5000,
    pieces: [
      { x: 0.5, y: 0.28, rx: 0.4, ry: 0.16 },
      { x: 0.48, y: 0.72, rx: 0.38, ry: 0.17 },
    ],
    seed: 4,
  },
];

/** Writes the slide unless it is there. The file appears whole or not at all; an old one keeps its identity. */
export async function makeDemoSlide(
  path: string,
  { width, height, pieces, seed, name }: DemoSlide,
): Promise<'made' | 'kept'> {
  if (await stat(path).catch(() => null)) return 'kept';
  await mkdir(dirname(path), { recursive: true });
  const base = await softened({ width, height, rgb: paintSlide(width, height, pieces, seed) });
  const quarter = await shrunk(base, 4);
  const levels = [base, quarter, await shrunk(quarter, 4)];
  const part = `${path}.part`;
  await writeSvs(part, levels, { mpp: DEMO_MPP, objectivePower: 20, title: `${name}, painted by nightshift demo` });
  await rename(part, path);
  return 'made';
}

const raw = ({ width, height, rgb }: Picture): Sharp => sharp(rgb, { raw: { width, height, channels: 3 } });

/** The blur of a lens. */
async function softened(picture: Picture): Promise<Picture> {
  return { ...picture, rgb: await raw(picture).blur(0.7).raw().toBuffer() };
}

async function shrunk(picture: Picture, factor: number): Promise<Picture> {
  const width = Math.floor(picture.width / factor);
  const height = Math.floor(picture.height / factor);
  const rgb = await raw(picture).resize(width, height, { fit: 'fill', kernel: 'cubic' }).raw().toBuffer();
  return { width, height, rgb };
}
