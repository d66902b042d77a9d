import { describe, expect, test } from 'vitest';
import { cached, coalesce } from '../../../packages/core/src/source/ranges.ts';
import type { ByteRange, ByteSource } from '../../../packages/core/src/source/source.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';

const content = Uint8Array.from({ length: 1_000_000 }, (_, i) => (i * 31 + (i >> 8)) % 251);

function cut(ranges: readonly ByteRange[], options: { maxGap: number; maxLength: number }): Uint8Array[] {
  const { reads, read, offset } = coalesce(ranges, options);
  const parts = reads.map((range) => content.subarray(range.offset, range.offset + range.length));
  return ranges.map(({ length }, i) => parts[read[i]!]!.subarray(offset[i]!, offset[i]! + length));
}

describe('coalesce', () => {
  test('joins neighbours and bridges small gaps only', () => {
    const ranges = [
      { offset: 0, length: 10 },
      { offset: 10, length: 10 },
      { offset: 25, length: 5 },
      { offset: 41, length: 1 },
    ];
    expect(coalesce(ranges, { maxGap: 10, maxLength: 100 }).reads).toEqual([
      { offset: 0, length: 30 },
      { offset: 41, length: 1 },
    ]);
  });

  test('stays within the length, but reads a longer range whole', () => {
    const ranges = [0, 1, 2, 3].map((i) => ({ offset: i * 40, length: 40 }));
    const long = { offset: 160, length: 500 };
    expect(coalesce([...ranges, long], { maxGap: 0, maxLength: 100 }).reads).toEqual([
      { offset: 0, length: 80 },
      { offset: 80, length: 80 },
      { offset: 160, length: 500 },
    ]);
  });

  test('reads a repeated range once', () => {
    const ranges = Array.from({ length: 500 }, () => ({ offset: 700, length: 90 }));
    expect(coalesce(ranges, { maxGap: 0, maxLength: 1 << 20 }).reads).toEqual([{ offset: 700, length: 90 }]);
  });

  test('any order, overlap and repetition gives every range its bytes', () => {
    let random = 7;
    const next = (most: number) => {
      random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
      return random % most;
    };
    const ranges = Array.from({ length: 2_000 }, () => ({ offset: next(990_000), length: next(10_000) }));
    for (const options of [
      { maxGap: 0, maxLength: 1 },
      { maxGap: 100, maxLength: 20_000 },
      { maxGap: 1 << 20, maxLength: 1 << 20 },
    ]) {
      const parts = cut(ranges, options);
      const wrong = ranges.filter(
        ({ offset, length }, i) => !Buffer.from(parts[i]!).equals(content.subarray(offset, offset + length)),
      );
      expect(wrong).toEqual([]);
    }
  });

  test('nothing to read is no read', () => {
    expect(coalesce([], { maxGap: 1, maxLength: 1 }).reads).toEqual([]);
  });
});

describe('cached', () => {
  function counting(): { source: ByteSource; requests: ByteRange[] } {
    const requests: ByteRange[] = [];
    const inner = memorySource(content);
    return {
      requests,
      source: {
        ...inner,
        read: (ranges, signal) => {
          requests.push(...ranges);
          return inner.read(ranges, signal);
        },
      },
    };
  }

  test('many small reads close together are one request', async () => {
    const { source, requests } = counting();
    const header = cached(source);
    for (let i = 0; i < 100; i++) {
      const [part] = await header.read([{ offset: 70_000 + 12 * i, length: 12 }]);
      expect(Buffer.from(part!)).toEqual(Buffer.from(content.subarray(70_000 + 12 * i, 70_012 + 12 * i)));
    }
    expect(requests).toEqual([{ offset: 65_536, length: 65_536 }]);
  });

  test('a read over several blocks, to the last byte, is one request', async () => {
    const { source, requests } = counting();
    const [part] = await cached(source).read([{ offset: 900_000, length: 100_000 }]);
    expect(Buffer.from(part!)).toEqual(Buffer.from(content.subarray(900_000)));
    expect(requests).toEqual([{ offset: 851_968, length: 148_032 }]);
  });

  test('a long read passes through', async () => {
    const { source, requests } = counting();
    await cached(source).read([{ offset: 10, length: 300_000 }]);
    expect(requests).toEqual([{ offset: 10, length: 300_000 }]);
  });

  test('keeps no more blocks than it may, and still answers rightly', async () => {
    const { source, requests } = counting();
    const small = cached(source, { blockBytes: 1_000, maxBlocks: 2 });
    for (const offset of [0, 1_000, 2_000, 0]) {
      const [part] = await small.read([{ offset: offset + 990, length: 20 }]);
      expect(Buffer.from(part!)).toEqual(Buffer.from(content.subarray(offset + 990, offset + 1_010)));
    }
    expect(requests.map(({ offset, length }) => [offset, length])).toEqual([
      [0, 2_000],
      [2_000, 1_000],
      [3_000, 1_000],
      [0, 2_000],
    ]);
  });

  test('what it returns is not what it keeps', async () => {
    const header = cached(memorySource(content));
    const [first] = await header.read([{ offset: 5, length: 5 }]);
    first!.fill(0);
    const [again] = await header.read([{ offset: 5, length: 5 }]);
    expect(Buffer.from(again!)).toEqual(Buffer.from(content.subarray(5, 10)));
  });

  test('a failed read is not remembered', async () => {
    let fail = true;
    const inner = memorySource(content);
    const flaky = cached({
      ...inner,
      read: (ranges) => (fail ? Promise.reject(new Error('down')) : inner.read(ranges)),
    });
    await expect(flaky.read([{ offset: 0, length: 1 }])).rejects.toThrow('down');
    fail = false;
    expect((await flaky.read([{ offset: 0, length: 1 }]))[0]).toHaveLength(1);
  });
});
