/** Random numbers that a seed decides: the demo's slides are the same on every machine. */

/** Uniform in [0, 1). mulberry32: 32 bits of state, enough for a picture. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const SIZE = 512;
const MASK = SIZE - 1;

/** Fractal noise, 0 to 1, with features of 2 to 64 px, repeating every 512 px. */
export type Noise = (x: number, y: number) => number;

/** Value noise: octaves of smoothly interpolated random lattices, each half as strong as the coarser one. */
export function fractalNoise(random: () => number): Noise {
  const values = new Float32Array(SIZE * SIZE);
  let lowest = Number.POSITIVE_INFINITY;
  let highest = Number.NEGATIVE_INFINITY;
  let strength = 1;
  for (let cell = 64; cell >= 2; cell /= 2) {
    const cells = SIZE / cell;
    const lattice = Float32Array.from({ length: cells * cells }, random);
    for (let y = 0; y < SIZE; y++) {
      const row = Math.floor(y / cell);
      const fy = smooth((y % cell) / cell);
      const top = row * cells;
      const bottom = ((row + 1) % cells) * cells;
      for (let x = 0; x < SIZE; x++) {
        const left = Math.floor(x / cell);
        const right = (left + 1) % cells;
        const fx = smooth((x % cell) / cell);
        const a = lattice[top + left]! * (1 - fx) + lattice[top + right]! * fx;
        const b = lattice[bottom + left]! * (1 - fx) + lattice[bottom + right]! * fx;
        values[y * SIZE + x]! += strength * (a * (1 - fy) + b * fy);
      }
    }
    strength /= 2;
  }
  for (const value of values) {
    lowest = Math.min(lowest, value);
    highest = Math.max(highest, value);
  }
  for (let i = 0; i < values.length; i++) values[i] = (values[i]! - lowest) / (highest - lowest);
  return (x, y) => {
    const left = Math.floor(x);
    const top = Math.floor(y);
    const fx = x - left;
    const fy = y - top;
    const row = (top & MASK) * SIZE;
    const below = ((top + 1) & MASK) * SIZE;
    const column = left & MASK;
    const next = (left + 1) & MASK;
    const a = values[row + column]! * (1 - fx) + values[row + next]! * fx;
    const b = values[below + column]! * (1 - fx) + values[below + next]! * fx;
    return a * (1 - fy) + b * fy;
  };
}

const smooth = (t: number): number => t * t * (3 - 2 * t);
