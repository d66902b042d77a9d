import type { Encoder } from '../model/encoder.ts';

/** Where the vector of one tile goes. */
export interface TileSink {
  /** Whether `vector` also needs the tile's patch grid. */
  readonly patch: boolean;
  vector(values: Float32Array, patch?: Float32Array): void;
  failed(error: unknown): void;
}

/**
 * Fills batches with tiles of whatever shard comes, so that every batch but the last is full, and keeps the encoder fed one
 * batch ahead. Pixels are copied once, into the batch.
 */
export interface Batcher {
  /** Takes one tile, uint8 [inputPx, inputPx, 3]; waits while the encoder is `lookAhead` batches behind. */
  push(pixels: Uint8Array, sink: TileSink): Promise<void>;
  /** Says whether anybody can bring more tiles soon. While nobody can, a partial batch goes once the encoder is idle. */
  expectMore(expected: boolean): void;
  /** Refuses what was not handed to the encoder yet, and all that comes, with this error. */
  abort(error: unknown): void;
  /** Batches that are with the encoder. */
  readonly outstanding: number;
  readonly stats: BatchStats;
}

export interface BatchStats {
  batches: number;
  tiles: number;
  /** Batches that went with fewer tiles than fit. */
  partial: number;
}

interface Batch {
  readonly pixels: Uint8Array;
  readonly sinks: TileSink[];
}

/** One batch that came back. */
export interface BatchDone {
  readonly tiles: number;
  readonly capacity: number;
  /** From the hand-over to the answer: queueing at the device included. */
  readonly seconds: number;
}

export function createBatcher(encoder: Encoder, onBatch: (batch: BatchDone) => void = () => {}): Batcher {
  const tileBytes = encoder.model.inputPx ** 2 * 3;
  const capacity = encoder.maxBatch;
  const stats: BatchStats = { batches: 0, tiles: 0, partial: 0 };
  // One buffer fills while `lookAhead` are with the encoder: bytes in flight are this many batches, whatever the slides.
  const free: Batch[] = Array.from({ length: encoder.lookAhead + 1 }, () => ({
    pixels: new Uint8Array(capacity * tileBytes),
    sinks: [],
  }));
  let waiting: (() => void)[] = [];
  let filling: Batch | null = null;
  let outstanding = 0;
  let more = true;
  let refused: { error: unknown } | null = null;

  function send(batch: Batch): void {
    filling = null;
    outstanding += 1;
    const count = batch.sinks.length;
    stats.batches += 1;
    stats.tiles += count;
    if (count < capacity) stats.partial += 1;
    const sinks = batch.sinks.splice(0);
    const started = performance.now();
    encoder
      .embed(batch.pixels.subarray(0, count * tileBytes), count, { patch: sinks.some((sink) => sink.patch) })
      .then(
        ({ embedding, patch }) => {
          onBatch({ tiles: count, capacity, seconds: (performance.now() - started) / 1000 });
          const of = (values: Float32Array, i: number) =>
            values.subarray((i * values.length) / count, ((i + 1) * values.length) / count);
          sinks.forEach((sink, i) => {
            sink.vector(of(embedding, i), patch && of(patch, i));
          });
        },
        (error: unknown) => {
          for (const sink of sinks) sink.failed(error);
        },
      )
      .finally(() => {
        outstanding -= 1;
        free.push(batch);
        wake();
        flushIfIdle();
      });
  }

  /** All of them: one may end its shard in the middle of the batch that it begins. */
  function wake(): void {
    const woken = waiting;
    waiting = [];
    for (const resolve of woken) resolve();
  }

  function flushIfIdle(): void {
    if (!more && outstanding === 0 && filling && filling.sinks.length > 0) send(filling);
  }

  return {
    stats,
    get outstanding() {
      return outstanding;
    },
    async push(pixels, sink) {
      while (!filling && !refused) {
        filling = free.pop() ?? null;
        if (!filling) await new Promise<void>((resolve) => waiting.push(resolve));
      }
      if (refused || !filling) throw refused?.error;
      filling.pixels.set(pixels, filling.sinks.length * tileBytes);
      filling.sinks.push(sink);
      if (filling.sinks.length === capacity) send(filling);
    },
    expectMore(expected) {
      more = expected;
      flushIfIdle();
    },
    abort(error) {
      refused ??= { error };
      for (const sink of filling?.sinks.splice(0) ?? []) sink.failed(error);
      wake();
    },
  };
}
