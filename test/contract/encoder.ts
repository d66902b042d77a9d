import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Encoder } from '../../packages/core/src/model/encoder.ts';

/** What every encoder promises. `open` gives one that takes batches of 8, with the patch grid, of a model with finite vectors. */
export function encoderContract(name: string, open: () => Promise<Encoder>): void {
  describe(`encoder: ${name}`, () => {
    let encoder: Encoder;
    let tile: (seed: number) => Uint8Array;
    beforeAll(async () => {
      encoder = await open();
      const bytes = encoder.model.inputPx ** 2 * 3;
      tile = (seed) => {
        const pixels = new Uint8Array(bytes);
        for (let i = 0; i < bytes; i++) pixels[i] = i * (seed * 2 + 1) + (i >> 7) * seed;
        return pixels;
      };
    });
    afterAll(() => encoder.close());

    const batch = (...seeds: number[]) => new Uint8Array(Buffer.concat(seeds.map(tile)));

    it('says what it runs', () => {
      expect(encoder.maxBatch).toBe(8);
      expect(encoder.lookAhead).toBeGreaterThan(0);
      expect(encoder.device).toMatch(/^(cpu|cuda:\d+|webgpu)$/);
      expect(encoder.model.version).toBe(1);
    });

    it('gives a finite vector of the stated length for every tile, and its patch grid', async () => {
      const { dims, patchGrid, architecture } = encoder.model;
      const { embedding, patch } = await encoder.embed(batch(1, 2, 3), 3, { patch: true });
      expect(embedding).toBeInstanceOf(Float32Array);
      expect(embedding.length).toBe(3 * dims);
      expect(patch!.length).toBe(3 * patchGrid! * patchGrid! * architecture.width);
      expect(embedding.every(Number.isFinite)).toBe(true);
      expect(embedding.subarray(0, dims)).not.toEqual(embedding.subarray(dims, 2 * dims));
    });

    it('gives a tile the same vector, bit for bit, in every batch size and position', async () => {
      const { dims } = encoder.model;
      const alone = (await encoder.embed(tile(42), 1)).embedding;
      for (let size = 2; size <= 8; size++) {
        for (const position of new Set([0, size >> 1, size - 1])) {
          const seeds = Array.from({ length: size }, (_, i) => (i === position ? 42 : size * 10 + i));
          const { embedding } = await encoder.embed(batch(...seeds), size);
          expect(embedding.subarray(position * dims, (position + 1) * dims), `${position} of ${size}`).toEqual(alone);
        }
      }
    });

    it('answers overlapping calls in their order, each with its own vectors', async () => {
      const answered: number[] = [];
      const seeds = [5, 6, 7, 8, 9, 10, 11];
      const alone = [];
      for (const seed of seeds) alone.push((await encoder.embed(tile(seed), 1)).embedding);
      const together = await Promise.all(
        seeds.map(async (seed) => {
          const { embedding } = await encoder.embed(tile(seed), 1);
          answered.push(seed);
          return embedding;
        }),
      );
      expect(answered).toEqual(seeds);
      expect(together).toEqual(alone);
    });

    it('reads the tiles while the call is open, not after: they may be reused then', async () => {
      const tiles = Uint8Array.from(tile(3));
      const { embedding } = await encoder.embed(tiles, 1);
      const before = Float32Array.from(embedding);
      tiles.fill(0);
      await encoder.embed(tiles, 1);
      expect(embedding).toEqual(before);
    });

    it('takes tiles that lie in shared memory, and a view into a larger buffer', async () => {
      const { embedding } = await encoder.embed(tile(3), 1);
      const shared = new Uint8Array(new SharedArrayBuffer(tile(3).length));
      shared.set(tile(3));
      expect((await encoder.embed(shared, 1)).embedding).toEqual(embedding);
      const large = batch(1, 3, 2);
      const view = large.subarray(tile(3).length, 2 * tile(3).length);
      expect((await encoder.embed(view, 1)).embedding).toEqual(embedding);
    });

    it('counts the seconds of its runs', async () => {
      const before = encoder.busySeconds;
      await encoder.embed(batch(1, 2), 2);
      expect(encoder.busySeconds).toBeGreaterThan(before);
    });

    it('refuses a batch that is too large, empty, or not of the stated number of tiles', async () => {
      await expect(encoder.embed(batch(1, 2, 3, 4, 5, 6, 7, 8, 9), 9)).rejects.toThrow(/9 tiles/);
      await expect(encoder.embed(new Uint8Array(0), 0)).rejects.toThrow(/0 tiles/);
      await expect(encoder.embed(tile(1), 2)).rejects.toThrow(/2 tiles/);
      expect((await encoder.embed(tile(1), 1)).embedding.length).toBe(encoder.model.dims);
    });

    it('answers what is outstanding before it closes, and nothing afterwards', async () => {
      const own = await open();
      const calls = Array.from({ length: 6 }, (_, i) => own.embed(tile(i), 1));
      await own.close();
      const settled = await Promise.allSettled(calls);
      expect(settled.map(({ status }) => status)).toEqual(calls.map(() => 'fulfilled'));
      await expect(own.embed(tile(1), 1)).rejects.toThrow(/closed/);
      await own.close();
    });
  });
}
