import type { Noise } from './noise.ts';
import type { Stains } from './stains.ts';
import { FAT, GLANDS, kindAt, LYMPHOID, MUSCLE, STROMA, type TissueMap, TUMOUR } from './tissue.ts';

/** Half axes in px at 0.5 um/px, and how far apart nuclei lie. */
interface Population {
  readonly kind: number;
  readonly spacing: number;
  readonly share: number;
  readonly long: number;
  readonly short: number;
  /** How much sizes differ, 0 to 1. */
  readonly variety: number;
  readonly depth: number;
  /** Direction they lie in, or null for any. */
  readonly angle: number | null;
}

const POPULATIONS: readonly Population[] = [
  { kind: STROMA, spacing: 62, share: 0.75, long: 15, short: 3.6, variety: 0.4, depth: 150, angle: -0.15 },
  { kind: GLANDS, spacing: 58, share: 0.7, long: 13, short: 4, variety: 0.4, depth: 145, angle: -0.15 },
  { kind: MUSCLE, spacing: 95, share: 0.7, long: 19, short: 3.2, variety: 0.3, depth: 140, angle: Math.PI / 2 },
  { kind: TUMOUR, spacing: 24, share: 0.9, long: 9, short: 7, variety: 0.4, depth: 140, angle: null },
  { kind: LYMPHOID, spacing: 15.5, share: 0.95, long: 6.2, short: 5.8, variety: 0.15, depth: 185, angle: null },
  { kind: FAT, spacing: 130, share: 0.35, long: 7, short: 3, variety: 0.3, depth: 140, angle: null },
];

/** The nuclei of each kind of tissue, on jittered grids. */
export function paintNuclei(stains: Stains, map: TissueMap, random: () => number, noise: Noise): void {
  for (const { kind, spacing, share, long, short, variety, depth, angle } of POPULATIONS) {
    for (let gy = 0; gy < stains.height; gy += spacing) {
      for (let gx = 0; gx < stains.width; gx += spacing) {
        const x = gx + (random() - 0.5) * spacing * 0.9;
        const y = gy + (random() - 0.5) * spacing * 0.9;
        const size = 1 + variety * (2 * random() - 1);
        const turn = angle === null ? random() * Math.PI : angle + 0.8 * (random() - 0.5);
        const dark = depth * (0.8 + 0.35 * random());
        if (random() > share || kindAt(map, x, y, noise) !== kind) continue;
        paintNucleus(
          stains,
          { x, y, long: long * size, short: short * size * (0.85 + 0.3 * random()), turn, dark },
          noise,
        );
      }
    }
  }
}

interface Nucleus {
  readonly x: number;
  readonly y: number;
  readonly long: number;
  readonly short: number;
  /** Radians. */
  readonly turn: number;
  readonly dark: number;
}

/** An ellipse with a darker membrane, mottled chromatin and soft edges. */
function paintNucleus(stains: Stains, { x, y, long, short, turn, dark }: Nucleus, noise: Noise): void {
  const cos = Math.cos(turn);
  const sin = Math.sin(turn);
  eachPixel(stains, x, y, long + 2, (i, px, py) => {
    const u = ((px - x) * cos + (py - y) * sin) / long;
    const v = ((py - y) * cos - (px - x) * sin) / short;
    const r = Math.sqrt(u * u + v * v) + 0.2 * (noise(px * 1.1, py * 1.1) - 0.5);
    const cover = Math.min(1, Math.max(0, ((1.06 - r) * short) / 1.6));
    if (cover === 0) return;
    const chromatin = 0.4 + 0.9 * noise(px * 4.3 + 40, py * 4.3) + (r > 0.75 ? 0.14 : 0);
    stains.haematoxylin[i] = (1 - cover) * stains.haematoxylin[i]! + cover * dark * chromatin;
    stains.eosin[i] = (1 - cover) * stains.eosin[i]! + cover * 34;
  });
}

/** Glands: a lumen, columnar cells around it with their nuclei at the outer end, a rim. */
export function paintGlands(stains: Stains, map: TissueMap, random: () => number, noise: Noise): void {
  const spacing = 215;
  for (let gy = spacing / 2; gy < stains.height; gy += spacing) {
    for (let gx = spacing / 2; gx < stains.width; gx += spacing) {
      const x = gx + (random() - 0.5) * 90;
      const y = gy + (random() - 0.5) * 90;
      const radius = 70 + 45 * random();
      const lumen = 0.3 + 0.25 * random();
      if (kindAt(map, x, y, noise) !== GLANDS) continue;
      const stretch = 0.75 + 0.5 * random();
      const shape = outlineOf(random);
      paintGland(stains, { x, y, radius, lumen, stretch, shape }, random, noise);
    }
  }
}

interface Gland {
  readonly x: number;
  readonly y: number;
  readonly radius: number;
  readonly lumen: number;
  readonly stretch: number;
  /** Radius at an angle, as a factor. */
  readonly shape: (angle: number) => number;
}

function outlineOf(random: () => number): (angle: number) => number {
  const waves = [2, 3, 5].map((turns) => ({ turns, phase: 2 * Math.PI * random(), height: 0.22 / turns }));
  return (angle) => waves.reduce((sum, wave) => sum + wave.height * Math.sin(wave.turns * angle + wave.phase), 1);
}

function paintGland(stains: Stains, gland: Gland, random: () => number, noise: Noise): void {
  const { x, y, radius, lumen, stretch, shape } = gland;
  eachPixel(stains, x, y, radius * 1.7, (i, px, py) => {
    const dx = px - x;
    const dy = (py - y) / stretch;
    const r = Math.sqrt(dx * dx + dy * dy) / (radius * shape(Math.atan2(dy, dx)));
    if (r > 1.06) return;
    const grain = noise(px * 1.6, py * 1.6);
    if (r > 1) {
      stains.eosin[i] = 92;
      stains.haematoxylin[i] = 10;
    } else if (r > lumen + 0.08 * (grain - 0.5)) {
      stains.eosin[i] = 34 + 22 * grain + 14 * r;
      stains.haematoxylin[i] = 16 + 16 * grain;
    } else {
      stains.eosin[i] = grain > 0.62 ? 10 : 1;
      stains.haematoxylin[i] = 0;
    }
  });
  const around = Math.floor((2 * Math.PI * radius) / 12);
  for (let n = 0; n < around; n++) {
    const angle = (2 * Math.PI * (n + 0.5 * random())) / around;
    const reach = radius * shape(angle) * (0.76 + 0.12 * random());
    const nucleus = { long: 9.5 + 3 * random(), short: 4.6 + 1.4 * random(), dark: 150 + 40 * random() };
    const [cx, cy] = [x + reach * Math.cos(angle), y + reach * Math.sin(angle) * stretch];
    paintNucleus(stains, { ...nucleus, x: cx, y: cy, turn: angle }, noise);
  }
}

/** Small vessels in stroma and muscle: a wall, and red cells inside. */
export function paintVessels(stains: Stains, map: TissueMap, random: () => number, noise: Noise): void {
  const spacing = 700;
  for (let gy = 0; gy < stains.height; gy += spacing) {
    for (let gx = 0; gx < stains.width; gx += spacing) {
      const x = gx + random() * spacing;
      const y = gy + random() * spacing;
      const radius = 28 + 42 * random();
      const stretch = 0.55 + 0.6 * random();
      const shape = outlineOf(random);
      const kind = kindAt(map, x, y, noise);
      if (kind !== STROMA && kind !== MUSCLE) continue;
      eachPixel(stains, x, y, radius * 1.5, (i, px, py) => {
        const dx = px - x;
        const dy = (py - y) / stretch;
        const r = Math.sqrt(dx * dx + dy * dy) / (radius * shape(Math.atan2(dy, dx)));
        if (r > 1) return;
        const wall = r > 0.78;
        stains.haematoxylin[i] = wall ? 12 : 0;
        stains.eosin[i] = wall ? 96 + 30 * noise(px, py) : 4;
      });
      for (let n = 0; n < radius; n++) {
        const angle = 2 * Math.PI * random();
        const reach = 0.68 * radius * Math.sqrt(random());
        paintRedCell(stains, x + reach * Math.cos(angle), y + reach * Math.sin(angle) * stretch);
      }
    }
  }
}

function paintRedCell(stains: Stains, x: number, y: number): void {
  eachPixel(stains, x, y, 7, (i, px, py) => {
    const r = Math.hypot(px - x, py - y) / 6.5;
    if (r > 1) return;
    stains.eosin[i] = 128 + 40 * r;
    stains.haematoxylin[i] = 0;
  });
}

/** Calls `visit` for the pixels of the square around (x, y) that lie on the slide. */
function eachPixel(
  { width, height }: Stains,
  x: number,
  y: number,
  reach: number,
  visit: (index: number, px: number, py: number) => void,
): void {
  const right = Math.min(width - 1, Math.ceil(x + reach));
  const bottom = Math.min(height - 1, Math.ceil(y + reach));
  for (let py = Math.max(0, Math.floor(y - reach)); py <= bottom; py++) {
    for (let px = Math.max(0, Math.floor(x - reach)); px <= right; px++) visit(py * width + px, px, py);
  }
}
