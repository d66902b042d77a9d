import { NightshiftError } from '../errors.ts';

/** One batch to run: uint8 tiles in, the named outputs of the graph out. */
export interface Batch {
  readonly tiles: Uint8Array;
  readonly count: number;
  readonly outputs: readonly string[];
}

export type Outcome =
  | { readonly type: 'done'; readonly outputs: readonly Float32Array[]; readonly seconds: number }
  | { readonly type: 'failed'; readonly message: string; readonly outOfMemory: boolean };

/** A started engine: runs batches in the order they are posted, one outcome each. */
export interface Engine {
  readonly pid: number | null;
  readonly device: string;
  post(batch: Batch): void;
  stop(): Promise<void>;
}

export interface EngineEvents {
  readonly onOutcome: (outcome: Outcome) => void;
  /** It died without being asked to; every batch without an outcome is lost. */
  readonly onDeath: (why: string) => void;
}

export type StartEngine = (events: EngineEvents) => Promise<Engine>;

/** Batches through an engine that may die. */
export interface Calls {
  readonly engine: Engine | null;
  readonly busySeconds: number;
  /** Outputs of a batch. Answered in the order of the calls. */
  run(batch: Batch): Promise<readonly Float32Array[]>;
  close(): Promise<void>;
}

interface Call extends Batch {
  readonly resolve: (outputs: readonly Float32Array[]) => void;
  readonly reject: (error: NightshiftError) => void;
  /** Engines that died while this call was running. */
  deaths: number;
}

const MAX_FAILED_STARTS = 2;

/**
 * Starts the engine and keeps at most `lookAhead` batches with it. When it dies it is started again and given what it had:
 * the batch it was running is tried once more as it is, then in halves, and a single tile that kills two engines is an
 * error. A batch for which the memory does not suffice is halved at once.
 *
 * @throws NightshiftError (from `run`) `encoder-failed`, `encoder-out-of-memory`
 */
export async function createCalls(start: StartEngine, lookAhead: number): Promise<Calls> {
  const waiting: Call[] = [];
  const running: Call[] = [];
  let engine: Engine | null = null;
  let starting = false;
  let failedStarts = 0;
  let closed = false;
  let busySeconds = 0;
  let last: Promise<unknown> = Promise.resolve();

  const events: EngineEvents = {
    onOutcome: (outcome) => {
      const call = running.shift();
      if (!call) return;
      if (outcome.type === 'done') {
        busySeconds += outcome.seconds;
        call.resolve(outcome.outputs);
      } else if (outcome.outOfMemory && call.count > 1) {
        halve(call);
      } else {
        const code = outcome.outOfMemory ? 'encoder-out-of-memory' : 'encoder-failed';
        call.reject(new NightshiftError(code, `inference of ${call.count} tiles failed: ${outcome.message}`));
      }
      pump();
    },
    onDeath: (why) => {
      engine = null;
      const lost = running.splice(0);
      const blamed = lost.shift();
      waiting.unshift(...lost);
      if (blamed) blame(blamed, why);
      pump();
    },
  };

  const blame = (call: Call, why: string) => {
    call.deaths++;
    if (call.deaths === 1) waiting.unshift(call);
    else if (call.count > 1) halve(call);
    else call.reject(new NightshiftError('encoder-failed', `the inference process died twice on one tile: ${why}`));
  };

  const halve = ({ tiles, count, outputs, deaths, resolve, reject }: Call) => {
    const half = Math.ceil(count / 2);
    const cut = (tiles.length / count) * half;
    const first = pending({ tiles: tiles.subarray(0, cut), count: half, outputs }, Math.max(0, deaths - 1));
    const second = pending({ tiles: tiles.subarray(cut), count: count - half, outputs }, Math.max(0, deaths - 1));
    waiting.unshift(first.call, second.call);
    Promise.all([first.promise, second.promise]).then(
      ([a, b]) => resolve(a.map((part, i) => join(part, b[i]!))),
      reject,
    );
  };

  const pump = () => {
    if (engine === null) {
      if (waiting.length > 0 && !starting) void restart();
      return;
    }
    while (running.length < lookAhead && waiting.length > 0) {
      const call = waiting.shift()!;
      running.push(call);
      engine.post(call);
    }
  };

  const restart = async () => {
    starting = true;
    try {
      engine = await start(events);
      failedStarts = 0;
    } catch (error) {
      failedStarts++;
      if (failedStarts >= MAX_FAILED_STARTS) {
        failedStarts = 0;
        const message = `the inference process does not start again: ${(error as Error).message}`;
        for (const call of waiting.splice(0))
          call.reject(new NightshiftError('encoder-failed', message, { cause: error }));
      }
    } finally {
      starting = false;
    }
    pump();
  };

  engine = await start(events);
  return {
    get engine() {
      return engine;
    },
    get busySeconds() {
      return busySeconds;
    },
    run: (batch) => {
      if (closed) return Promise.reject(new NightshiftError('internal', 'the encoder is closed'));
      const { call, promise } = pending(batch, 0);
      waiting.push(call);
      const answer = Promise.allSettled([last, promise]).then(() => promise);
      last = answer;
      pump();
      return answer;
    },
    close: async () => {
      closed = true;
      await Promise.allSettled([last]);
      await engine?.stop();
      engine = null;
    },
  };
}

function pending(batch: Batch, deaths: number) {
  const { promise, resolve, reject } = Promise.withResolvers<readonly Float32Array[]>();
  const call: Call = { ...batch, deaths, resolve, reject };
  return { call, promise };
}

function join(a: Float32Array, b: Float32Array): Float32Array {
  const whole = new Float32Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}
