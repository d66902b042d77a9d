import { describe, expect, it } from 'vitest';
import { byteSize, duration, rate, table } from '../../../packages/cli/src/format.ts';

describe('format', () => {
  it.each([
    [0.04, '0.0 s'],
    [9.94, '9.9 s'],
    [59.4, '59 s'],
    [59.96, '1m 00s'],
    [187, '3m 07s'],
    [3599.7, '1h 00m'],
    [7500, '2h 05m'],
    [100_000, '1d 3h'],
  ])('%d s is %s', (seconds, shown) => {
    expect(duration(seconds)).toBe(shown);
  });

  it.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1536, '1.5 KiB'],
    [300 * 2 ** 20, '300 MiB'],
    [5 * 2 ** 40, '5.0 TiB'],
  ])('%d bytes are %s', (bytes, shown) => {
    expect(byteSize(bytes)).toBe(shown);
  });

  it('rates keep three digits', () => {
    expect([0.42, 3.1459, 31.4159, 1234.5].map(rate)).toEqual(['0.42', '3.1', '31.4', '1,235']);
  });

  it('a table puts numbers to the right, texts to the left', () => {
    expect(
      table(
        [
          ['a', 1],
          ['long', 100],
        ],
        ['name', 'n'],
      ),
    ).toEqual(['name    n', 'a       1', 'long  100']);
  });
});
