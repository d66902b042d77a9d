import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type Hold, lockKeeper } from '../../../packages/core/src/queue/lock-keeper.ts';

const hold = (id: string): Hold => ({ queue: 'embed', id, token: `token-${id}` });
const LEASE = 12_000;

describe('locks of held jobs', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function keeperWith(renew: (holds: readonly Hold[]) => Promise<readonly boolean[]>) {
    const lost: string[] = [];
    const keeper = lockKeeper({ leaseMs: LEASE, renew, onLost: ({ id }, why) => lost.push(`${id}: ${why}`) });
    return { keeper, lost };
  }

  it('are renewed together, at a third of the lease, for as long as they are held', async () => {
    const calls: string[] = [];
    const { keeper, lost } = keeperWith(async (holds) => {
      calls.push(holds.map(({ id }) => id).join());
      return holds.map(() => true);
    });
    keeper.keep(hold('a'), performance.now());
    const b = keeper.keep(hold('b'), performance.now());
    await vi.advanceTimersByTimeAsync(LEASE);
    expect(calls).toEqual(['a,b', 'a,b', 'a,b']);
    b.drop();
    await vi.advanceTimersByTimeAsync(LEASE);
    expect(calls.slice(3)).toEqual(['a', 'a', 'a']);
    expect(lost).toEqual([]);
    keeper.close();
  });

  it('abort their signal when another process has the job', async () => {
    const { keeper, lost } = keeperWith(async (holds) => holds.map(({ id }) => id !== 'a'));
    const [a, b] = [keeper.keep(hold('a'), performance.now()), keeper.keep(hold('b'), performance.now())];
    await vi.advanceTimersByTimeAsync(LEASE / 2);
    expect([a.signal.aborted, b.signal.aborted]).toEqual([true, false]);
    expect(lost).toEqual([expect.stringContaining('a: another process')]);
    expect(keeper.size).toBe(1);
    keeper.close();
  });

  it('count as lost after a lease without renewal, and calls do not pile up meanwhile', async () => {
    let calls = 0;
    const { keeper, lost } = keeperWith(() => {
      calls += 1;
      return new Promise(() => {});
    });
    const kept = keeper.keep(hold('a'), performance.now());
    await vi.advanceTimersByTimeAsync(LEASE - 1);
    expect(kept.signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(LEASE / 12 + 1);
    expect(kept.signal.aborted).toBe(true);
    expect(calls).toBe(1);
    expect(lost).toEqual(['a: not renewed in time']);
    keeper.close();
  });

  it('survive errors that are shorter than the lease', async () => {
    let broken = true;
    const { keeper, lost } = keeperWith(async (holds) => {
      if (broken) throw new Error('LOADING');
      return holds.map(() => true);
    });
    keeper.keep(hold('a'), performance.now());
    await vi.advanceTimersByTimeAsync(LEASE * 0.8);
    broken = false;
    await vi.advanceTimersByTimeAsync(LEASE * 3);
    expect(lost).toEqual([]);
    keeper.close();
  });

  it('are lost at the first tick after the process was frozen for longer than a lease', async () => {
    const renew = vi.fn(async (holds: readonly Hold[]) => holds.map(() => true));
    const { keeper, lost } = keeperWith(renew);
    keeper.keep(hold('a'), performance.now() - LEASE);
    await vi.advanceTimersByTimeAsync(LEASE / 12);
    expect(lost).toEqual(['a: not renewed in time']);
    expect(renew).not.toHaveBeenCalled();
    keeper.close();
  });
});
