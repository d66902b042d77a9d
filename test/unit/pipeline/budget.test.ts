import { byteBudget } from '@nightshift/core';
import { describe, expect, it } from 'vitest';

const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('byte budget', () => {
  it('grants in the order asked, as bytes come back', async () => {
    const budget = byteBudget(10);
    const granted: string[] = [];
    const first = await budget.acquire(8);
    const acquire = async (name: string, amount: number) => {
      const release = await budget.acquire(amount);
      granted.push(name);
      return release;
    };
    const second = acquire('second', 5);
    const third = acquire('third', 1);
    await settled();
    expect(granted).toEqual([]);
    first();
    first();
    (await second)();
    (await third)();
    expect(granted).toEqual(['second', 'third']);
    expect(budget.used).toBe(0);
  });

  it('lets one thing larger than the whole pass, alone', async () => {
    const budget = byteBudget(10);
    const small = await budget.acquire(1);
    let large: (() => void) | null = null;
    const asked = budget.acquire(50).then((release) => {
      large = release;
    });
    await settled();
    expect(large).toBeNull();
    small();
    await asked;
    expect(budget.used).toBe(50);
  });

  it('forgets a waiter whose signal aborts', async () => {
    const budget = byteBudget(1);
    const release = await budget.acquire(1);
    const abort = new AbortController();
    const waiting = budget.acquire(1, abort.signal);
    abort.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(budget.waiting).toBe(0);
    release();
    expect(budget.used).toBe(0);
  });
});
