import { describe, expect, it } from 'vitest';
import { type Batch, createCalls, type EngineEvents, type Outcome } from '../../../packages/core/src/model/calls.ts';

type Verdict = Outcome | 'dies';

/** An engine by script: what happens to each batch, told by its tiles. A tile is one byte; its output is that byte. */
function scripted(judge: (tiles: number[]) => Verdict | undefined) {
  const log: string[] = [];
  const state = { starts: 0, failStarts: 0, most: 0 };
  const start = async (events: EngineEvents) => {
    state.starts++;
    if (state.failStarts > 0 && state.starts > 1) {
      state.failStarts--;
      throw new Error('no memory to start');
    }
    const inside: Batch[] = [];
    let alive = true;
    const work = () => {
      const next = inside[0];
      if (!next || !alive) return;
      const tiles = [...next.tiles];
      log.push(tiles.join(''));
      const verdict = judge(tiles) ?? { type: 'done', outputs: [Float32Array.from(tiles)], seconds: 1 };
      if (verdict === 'dies') {
        alive = false;
        events.onDeath('killed by SIGKILL');
        return;
      }
      inside.shift();
      events.onOutcome(verdict);
      if (inside.length > 0) setImmediate(work);
    };
    return {
      pid: state.starts,
      device: 'cpu',
      post: (batch: Batch) => {
        inside.push(batch);
        state.most = Math.max(state.most, inside.length);
        if (inside.length === 1) setImmediate(work);
      },
      stop: async () => {
        alive = false;
        log.push('stopped');
      },
    };
  };
  return { start, log, state };
}

const run = async (calls: Awaited<ReturnType<typeof createCalls>>, ...tiles: number[]) => [
  ...(await calls.run({ tiles: Uint8Array.from(tiles), count: tiles.length, outputs: ['embedding'] }))[0]!,
];

/** Dies at every batch in which `tile` is, the first `times` times. */
const diesAt = (tile: number, times: number, most = Number.POSITIVE_INFINITY) => {
  let left = times;
  return (tiles: number[]): Verdict | undefined =>
    tiles.includes(tile) && tiles.length <= most && left-- > 0 ? 'dies' : undefined;
};

describe('calls to an engine that may die', () => {
  it('keeps at most lookAhead batches with the engine, and answers in order', async () => {
    const { start, state } = scripted(() => undefined);
    const calls = await createCalls(start, 2);
    const answers = await Promise.all([run(calls, 1), run(calls, 2), run(calls, 3, 4), run(calls, 5)]);
    expect(answers).toEqual([[1], [2], [3, 4], [5]]);
    expect(state.most).toBe(2);
    expect(calls.busySeconds).toBe(4);
  });

  it('runs a lost batch once more, and those behind it, on a new engine', async () => {
    const { start, log, state } = scripted(diesAt(1, 1));
    const calls = await createCalls(start, 2);
    expect(await Promise.all([run(calls, 1, 2), run(calls, 3), run(calls, 4)])).toEqual([[1, 2], [3], [4]]);
    expect(state.starts).toBe(2);
    expect(log).toEqual(['12', '12', '3', '4']);
  });

  it('halves a batch that killed two engines, and keeps the order of the answers', async () => {
    const { start, log } = scripted((tiles) => (tiles.includes(3) && tiles.length > 1 ? 'dies' : undefined));
    const calls = await createCalls(start, 2);
    const order: number[] = [];
    const answers = await Promise.all(
      [[1, 2, 3, 4, 5], [6]].map(async (tiles, i) => {
        const answer = await run(calls, ...tiles);
        order.push(i);
        return answer;
      }),
    );
    expect(answers).toEqual([[1, 2, 3, 4, 5], [6]]);
    expect(order).toEqual([0, 1]);
    expect(log).toContain('3');
  });

  it('gives up on a single tile that kills two engines, and goes on with the others', async () => {
    const { start } = scripted((tiles) => (tiles.includes(2) ? 'dies' : undefined));
    const calls = await createCalls(start, 2);
    const [bad, good] = await Promise.allSettled([run(calls, 2), run(calls, 7)]);
    expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'encoder-failed' } });
    expect((bad as PromiseRejectedResult).reason.message).toContain('SIGKILL');
    expect(good).toMatchObject({ status: 'fulfilled', value: [7] });
  });

  it('halves a batch that the memory does not suffice for, on the same engine', async () => {
    const { start, state, log } = scripted((tiles) =>
      tiles.length > 2 ? { type: 'failed', message: 'bad_alloc', outOfMemory: true } : undefined,
    );
    const calls = await createCalls(start, 1);
    expect(await run(calls, 1, 2, 3, 4, 5)).toEqual([1, 2, 3, 4, 5]);
    expect(state.starts).toBe(1);
    expect(log).toEqual(['12345', '123', '12', '3', '45']);
  });

  it('names a single tile that the memory does not suffice for', async () => {
    const { start } = scripted(() => ({ type: 'failed', message: 'bad_alloc', outOfMemory: true }));
    const calls = await createCalls(start, 1);
    await expect(run(calls, 1, 2)).rejects.toMatchObject({ code: 'encoder-out-of-memory' });
  });

  it('hands on any other failure of a run without trying again', async () => {
    const { start, log } = scripted(() => ({ type: 'failed', message: 'invalid shape', outOfMemory: false }));
    const calls = await createCalls(start, 2);
    await expect(run(calls, 1, 2)).rejects.toMatchObject({
      code: 'encoder-failed',
      message: expect.stringContaining('invalid shape'),
    });
    expect(log).toEqual(['12']);
  });

  it('tries a second start', async () => {
    const { start, state } = scripted(diesAt(1, 1));
    const calls = await createCalls(start, 2);
    state.failStarts = 1;
    expect(await run(calls, 1)).toEqual([1]);
    expect(state.starts).toBe(3);
  });

  it('fails what waits when the engine does not start twice in a row, and recovers when it can', async () => {
    const { start, state } = scripted(diesAt(1, 1));
    const calls = await createCalls(start, 2);
    state.failStarts = 2;
    const lost = await Promise.allSettled([run(calls, 1), run(calls, 2)]);
    for (const call of lost) {
      expect(call).toMatchObject({ status: 'rejected', reason: { code: 'encoder-failed' } });
      expect((call as PromiseRejectedResult).reason.message).toContain('no memory to start');
    }
    expect(await run(calls, 3)).toEqual([3]);
  });

  it('starts again after the engine died idle', async () => {
    let events: EngineEvents | undefined;
    const { start, state } = scripted(() => undefined);
    const calls = await createCalls((given) => {
      events = given;
      return start(given);
    }, 2);
    events!.onDeath('killed by SIGKILL');
    expect(calls.engine).toBeNull();
    expect(await run(calls, 1)).toEqual([1]);
    expect(state.starts).toBe(2);
  });

  it('closes after the outstanding calls, once', async () => {
    const { start, log } = scripted(() => undefined);
    const calls = await createCalls(start, 1);
    const answers = Promise.all([run(calls, 1), run(calls, 2)]);
    await calls.close();
    expect(await answers).toEqual([[1], [2]]);
    await expect(run(calls, 3)).rejects.toThrow(/closed/);
    await calls.close();
    expect(log).toEqual(['1', '2', 'stopped']);
  });
});
