import { describe, expect, it } from 'vitest';
import {
  POS_INTERPOLATIONS,
  type PosInterpolation,
  resampleGrid,
} from '../../../packages/core/src/model/convert/position.ts';
import { readTensorFile } from '../../fixtures/model/tensors.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';

const METHODS = Object.keys(POS_INTERPOLATIONS) as PosInterpolation[];

describe('resampling a position embedding', () => {
  it.each(METHODS)('%s: leaves a grid of the right size alone, bit for bit', (method) => {
    const grid = Float32Array.from({ length: 5 * 5 * 3 }, Math.sin);
    expect(resampleGrid(grid, 5, 5, 3, method)).toEqual(grid);
  });

  it.each(METHODS.flatMap((method) => [16, 28, 50].map((to) => [method, to] as const)))(
    '%s: keeps a constant, and the two axes and the features apart (37 to %i)',
    (method, to) => {
      const grid = new Float32Array(37 * 37 * 3);
      for (let i = 0; i < 37; i++) for (let j = 0; j < 37; j++) grid.set([7, i, j], (i * 37 + j) * 3);
      const out = resampleGrid(grid, 37, to, 3, method);
      for (let i = 0; i < to; i++) {
        for (let j = 0; j < to; j++) {
          const [constant, row, column] = out.subarray((i * to + j) * 3);
          expect(Math.abs(constant! - 7)).toBeLessThan(2e-5);
          // Inside, a cubic reproduces a ramp: the value is the sampling point.
          const inside = (n: number) => n > 0.2 * to && n < 0.8 * to;
          if (inside(i)) expect(Math.abs(row! - ((i + 0.5) * (37 / to) - 0.5))).toBeLessThan(0.25);
          if (inside(j)) expect(Math.abs(column! - ((j + 0.5) * (37 / to) - 0.5))).toBeLessThan(0.25);
        }
      }
    },
  );
});

describeShared('antialiased bicubic against torch and PIL', () => {
  it('enlarges as torch interpolate(antialias=True) does (256 to 392 px)', () => {
    const input = readTensorFile(shared('golden/resize/resize.safetensors')).u8('b256.input');
    const expected = readTensorFile(shared('golden/resize/norm_bicubic392.safetensors'));
    const normalised = Float32Array.from(input, (value) => (value / 255 - 0.5) / 0.5);
    const out = resampleGrid(normalised, 256, 392, 3, 'bicubic-antialias');
    const values = expected.f32('values');
    let worst = 0;
    for (let c = 0; c < 3; c++) {
      for (let i = 0; i < 49; i++) {
        for (let x = 0; x < 392; x++) {
          const found = out[(i * 8 * 392 + x) * 3 + c]!;
          worst = Math.max(worst, Math.abs(found - values[(c * 49 + i) * 392 + x]!));
        }
      }
    }
    // The reference was computed in double, where the sampling points are not rounded to float32.
    expect(worst).toBeLessThan(2e-5);
  });

  it('shrinks as PIL does, but for its rounding and clipping to bytes between the passes (448 to 224 px)', () => {
    const file = readTensorFile(shared('golden/resize/resize.safetensors'));
    const expected = file.u8('a448.bicubic224');
    const out = resampleGrid(Float32Array.from(file.u8('a448.input')), 448, 224, 3, 'bicubic-antialias');
    const differences = out.map((value, i) => Math.abs(Math.min(Math.max(value, 0), 255) - expected[i]!));
    expect(differences.filter((difference) => difference > 1.2).length / differences.length).toBeLessThan(0.005);
  });
});
