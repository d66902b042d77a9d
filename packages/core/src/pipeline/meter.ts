import type { ErrorCode, ErrorRecord } from '../errors.ts';
import type { SlideRef } from '../plan/plan.ts';
import type { Role } from '../queue/queue.ts';
import type { TileStats } from '../slide/tiles.ts';
import type { BatchDone } from './batcher.ts';
import type { RunEvent, RunProgress, Stage } from './progress.ts';

/** Looks at what the pipeline is doing right now, for the question which stage holds the run back. */
export type StageProbe = () => Stage | null;

/** Is told what the roles do. */
export interface Meter {
  slidePlanned(slide: SlideRef, tiles: number, warnings: readonly string[]): void;
  /** The record held the whole slide when this process came. */
  slideFound(slide: SlideRef): void;
  /** Its tiles are in the record and in the vector store. */
  slideDone(slide: SlideRef, counts: { tiles: number; failed: number }): void;
  slideFailed(slide: SlideRef, error: ErrorRecord): void;
  /** Tiles of a shard that the record held already when this process came. */
  tilesFound(count: number): void;
  tilesEmbedded(count: number): void;
  /** It is in the record, with so many vectors and failures. */
  shardDone(
    slide: SlideRef,
    shard: { readonly index: number; readonly of: number },
    tiles: { readonly ok: number; readonly failed: number },
  ): void;
  batch(batch: BatchDone): void;
  /** What reading a chunk of tiles has cost. Needs no `this`. */
  readonly read: (stats: TileStats) => void;
  /** Seconds that one plan, one shard's publishing or one slide's indexing took. */
  stage(stage: 'plan' | 'write' | 'index', seconds: number): void;
  leaseLost(role: Role): void;
  /** Work that failed, whatever becomes of it. */
  error(code: ErrorCode): void;
}

/** A meter that shows a person how far one run is. */
export interface ProgressMeter extends Meter {
  progress(): RunProgress;
  /** Of this process. `found`: slides that were done before it came. */
  readonly totals: { readonly embedded: number; readonly bytesRead: number; readonly found: number };
  close(): void;
}

export interface MeterOptions {
  readonly slides: number;
  readonly probe: StageProbe;
  readonly onEvent?: (event: RunEvent) => void;
  readonly onProgress?: (progress: RunProgress) => void;
  /** Milliseconds, for tests. */
  readonly now?: () => number;
}

/** The rate is taken over this long, and progress told this often, ms. */
const WINDOW = 10_000;
const TICK = 250;

export function createMeter(options: MeterOptions): ProgressMeter {
  const { now = () => performance.now() } = options;
  const started = now();
  const slides = { total: options.slides, planned: 0, done: 0, failed: 0 };
  const found = new Set<string>();
  const tiles = { planned: 0, found: 0, embedded: 0, failed: 0 };
  let bytes = 0;
  let samples: { at: number; embedded: number; stage: Stage | null }[] = [{ at: started, embedded: 0, stage: null }];

  function rate(): number {
    const first = samples[0];
    const seconds = (now() - first.at) / 1000;
    return seconds > 0 ? (tiles.embedded - first.embedded) / seconds : 0;
  }

  /** The stage most often seen while the window lasted. */
  function heldBackBy(): Stage | null {
    const seen = new Map<Stage, number>();
    for (const { stage } of samples) if (stage) seen.set(stage, (seen.get(stage) ?? 0) + 1);
    return [...seen].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null;
  }

  function progress(): RunProgress {
    const tilesPerSecond = rate();
    const plansComplete = slides.planned + slides.failed >= slides.total;
    // Until every plan is cut, slides without one are taken to be like those with one.
    const expected =
      plansComplete || slides.planned === 0 ? tiles.planned : (tiles.planned / slides.planned) * slides.total;
    const left = expected - tiles.found - tiles.embedded - tiles.failed;
    return {
      slides: { total: slides.total, done: slides.done, failed: slides.failed },
      tiles: { planned: tiles.planned, embedded: tiles.found + tiles.embedded, failed: tiles.failed },
      plansComplete,
      tilesPerSecond,
      etaSeconds: slides.planned > 0 && tilesPerSecond > 0 ? Math.max(0, left) / tilesPerSecond : null,
      heldBackBy: heldBackBy(),
    };
  }

  const timer = setInterval(() => {
    const at = now();
    samples.push({ at, embedded: tiles.embedded, stage: options.probe() });
    samples = samples.filter((sample) => at - sample.at <= WINDOW);
    options.onProgress?.(progress());
  }, TICK);

  return {
    slidePlanned(slide, count, warnings) {
      slides.planned += 1;
      tiles.planned += count;
      options.onEvent?.({ type: 'slide-planned', slide, tiles: count, warnings });
    },
    slideFound(slide) {
      found.add(slide.key);
    },
    slideDone(slide, counts) {
      slides.done += 1;
      if (found.has(slide.key)) options.onEvent?.({ type: 'slide-skipped', slide, tiles: counts.tiles });
      else options.onEvent?.({ type: 'slide-done', slide, ...counts });
    },
    slideFailed(slide, error) {
      slides.failed += 1;
      options.onEvent?.({ type: 'slide-failed', slide, error });
    },
    tilesFound(count) {
      tiles.found += count;
    },
    tilesEmbedded(count) {
      tiles.embedded += count;
    },
    shardDone(slide, { index, of }, { failed }) {
      tiles.failed += failed;
      options.onEvent?.({ type: 'shard-done', slide, shard: index, of });
    },
    read({ bytesRead }) {
      bytes += bytesRead;
    },
    batch() {},
    stage() {},
    leaseLost() {},
    error() {},
    progress,
    get totals() {
      return { embedded: tiles.embedded, bytesRead: bytes, found: found.size };
    },
    close() {
      clearInterval(timer);
    },
  };
}
