import { describe, expect, it } from 'vitest';
import { ahead } from '../../packages/core/src/ahead.ts';

describe('work ahead', () => {
  it('gives what it made in order, and has no more in work than it may', async () => {
    let most = 0;
    let active = 0;
    const waiting: (() => void)[] = [];
    const results = ahead(Array(20).keys(), 4, async (i) => {
      active += 1;
      most = Math.max(most, active);
      // Those that came last end first.
      await new Promise<void>((resolve) => {
        waiting.push(resolve);
        if (waiting.length === 4 || i >= 16) for (const end of waiting.splice(0).reverse()) end();
      });
      active -= 1;
      return i * i;
    });
    const found: number[] = [];
    for await (const one of results) {
      found.push(one);
      for (const end of waiting.splice(0)) end();
    }
    expect(found).toEqual(Array.from({ length: 20 }, (_, i) => i * i));
    expect(most).toBe(4);
  });

  it('ends with the first error', async () => {
    const results = ahead([1, 2, 3], 2, async (i) => {
      if (i === 2) throw new Error('two');
      return i;
    });
    await expect(Array.fromAsync(results)).rejects.toThrow('two');
  });
});
