import { describe, expect, test } from 'vitest';
import { copierWithin } from '../../../packages/core/src/slide/copy-rectangle.ts';
import { bufferOf, ReadMemory, type SharedMemory } from '../../../packages/core/src/slide/memory.ts';

const memories: [string, () => SharedMemory][] = [
  ['WebAssembly', () => new ReadMemory(1).borrow(1 << 16)],
  ['plain memory', () => new SharedArrayBuffer(1 << 16)],
];

describe.each(memories)('rectangles in %s', (_, allocate) => {
  test.each([
    [0, 30, 1_000, 30, 30, 7],
    [5, 40, 2_000, 12, 11, 9],
    [60, 100, 20_000, 64, 64, 33],
    [3, 1, 40_000, 17, 1, 1],
    [3, 8, 40_000, 17, 5, 0],
  ])('from %i by %i to %i by %i: rows of %i bytes, %i of them', (from, fromRow, to, toRow, bytes, rows) => {
    const memory = allocate();
    const buffer = bufferOf(memory);
    for (let i = 0; i < 1 << 16; i++) buffer[i] = (i * 7 + (i >> 8)) & 0xff;
    const right = Buffer.from(buffer);
    for (let row = 0; row < rows; row++) {
      for (let i = 0; i < bytes; i++) right[to + row * toRow + i] = right[from + row * fromRow + i]!;
    }
    copierWithin(memory)(from, fromRow, to, toRow, bytes, rows);
    expect(buffer.equals(right)).toBe(true);
  });
});
