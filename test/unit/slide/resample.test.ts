import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Filter, type Fit, fitTile, type Rgb, resize } from '../../../packages/core/src/slide/resample.ts';
import { readTensorFile } from '../../fixtures/model/tensors.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';

describeShared('golden resize', () => {
  const golden = readTensorFile(shared('golden/resize/resize.safetensors'));
  const crops = ['a448', 'b256', 'c300x260'];
  const fits: [string, Fit][] = [
    ['bilinear224', { shortEdge: 224, filter: 'bilinear', crop: 224 }],
    ['bicubic224', { shortEdge: 224, filter: 'bicubic', crop: 224 }],
    ['box224', { shortEdge: 224, filter: 'box', crop: 224 }],
    ['bicubic256_crop224', { shortEdge: 256, filter: 'bicubic', crop: 224 }],
  ];
  for (const crop of crops) {
    test.each(fits)(`${crop} by %s equals PIL and torchvision in every value`, (name, fit) => {
      const [height, width] = golden.shape(`${crop}.input`) as [number, number];
      const result = fitTile({ width, height, data: golden.u8(`${crop}.input`) }, fit);
      expect([result.width, result.height]).toEqual([224, 224]);
      expect(maxDifference(result.data, golden.u8(`${crop}.${name}`))).toBe(0);
    });
  }
});

function maxDifference(a: Uint8Array, b: Uint8Array): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);
}

function ramp(width: number, height: number): Rgb {
  const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => (i * 37 + (i >> 7) * 11) % 256);
  return { width, height, data };
}

describe('resize', () => {
  test.each<Filter>(['box', 'bilinear', 'bicubic'])('%s to the same size is the picture itself', (filter) => {
    const image = ramp(50, 40);
    expect(resize(image, 50, 40, filter).data).toBe(image.data);
  });

  test.each<Filter>(['box', 'bilinear', 'bicubic'])('%s of one colour is that colour, larger and smaller', (filter) => {
    for (const colour of [0, 1, 127, 254, 255]) {
      const image = { width: 33, height: 47, data: new Uint8Array(3 * 33 * 47).fill(colour) };
      for (const [width, height] of [
        [7, 5],
        [100, 90],
        [1, 1],
      ] as const) {
        expect(new Set(resize(image, width, height, filter).data)).toEqual(new Set([colour]));
      }
    }
  });

  const { cases } = JSON.parse(
    readFileSync(join(import.meta.dirname, '../../fixtures/slides/pil-resize.json'), 'utf8'),
  ) as { cases: { width: number; height: number; to: number; filter: Filter; sha256: string }[] };
  test.each(cases)(
    'of $width x $height to $to square by $filter equals PIL',
    ({ width, height, to, filter, sha256 }) => {
      const { data } = resize(ramp(width, height), to, to, filter);
      expect(createHash('sha256').update(data).digest('hex')).toBe(sha256);
    },
  );

  test('box by a whole factor is the mean of each box, rounded after each pass', () => {
    const data = Uint8Array.from([0, 1, 2, 3].flatMap((v) => [v, 10 * v, 80 * v]));
    expect([...resize({ width: 2, height: 2, data }, 1, 1, 'box').data]).toEqual([2, 15, 120]);
  });
});

describe('fitTile', () => {
  test('an odd surplus is cropped as Python rounds: half to even', () => {
    const starts = [225, 227, 229, 231].map((width) => {
      const data = Uint8Array.from({ length: 3 * width * 224 }, (_, i) => Math.floor(i / 3) % width);
      return fitTile({ width, height: 224, data }, { shortEdge: 224, filter: 'box', crop: 224 }).data[0];
    });
    expect(starts).toEqual([0, 2, 2, 4]);
  });

  test('a picture smaller than the crop is padded with black, as torchvision does', () => {
    const white = { width: 3, height: 3, data: new Uint8Array(27).fill(255) };
    const { data } = fitTile(white, { shortEdge: 3, filter: 'bilinear', crop: 6 });
    const lit = [...data].flatMap((value, i) => (value === 255 && i % 3 === 0 ? [i / 3] : []));
    expect(lit).toEqual([7, 8, 9, 13, 14, 15, 19, 20, 21]);
  });
});
