import type { ErrorRecord } from '../errors.ts';
import type { PlanCounts, SlideRef } from '../plan/plan.ts';
import type { QcSummary } from '../plan/qc.ts';
import type { SlideReads } from '../source/counted.ts';

/** The stage that a run waits for. */
export type Stage = 'planning' | 'reading' | 'decoding' | 'inference' | 'writing';

/** How far a run is, at one moment. */
export interface RunProgress {
  readonly slides: { readonly total: number; readonly done: number; readonly failed: number };
  /** `planned` grows until `plansComplete`. `embedded` and `failed` count tiles that are in the record, earlier runs' too. */
  readonly tiles: { readonly planned: number; readonly embedded: number; readonly failed: number };
  readonly plansComplete: boolean;
  /** Over the last ten seconds. */
  readonly tilesPerSecond: number;
  /** Null while it cannot be told. */
  readonly etaSeconds: number | null;
  /** The stage that the device waits for; `inference` when the device itself is the limit. */
  readonly heldBackBy: Stage | null;
}

/** What happened, one line each. */
export type RunEvent =
  | {
      readonly type: 'slide-planned';
      readonly slide: SlideRef;
      readonly tiles: number;
      readonly warnings: readonly string[];
    }
  | { readonly type: 'shard-done'; readonly slide: SlideRef; readonly shard: number; readonly of: number }
  | { readonly type: 'slide-done'; readonly slide: SlideRef; readonly tiles: number; readonly failed: number }
  | { readonly type: 'slide-skipped'; readonly slide: SlideRef; readonly tiles: number }
  | { readonly type: 'slide-failed'; readonly slide: SlideRef; readonly error: ErrorRecord }
  | { readonly type: 'notice'; readonly message: string };

/** Tiles that plans left out, and why. */
export interface LeftOut {
  readonly rejectedByTissue: number;
  readonly rejectedByFilter: number;
  /** Of the tiles looked at those that fail each filter of the recipe; one may fail several. */
  readonly filters: PlanCounts['filters'] & object;
}

/** What was measured, of slides that were planned with `--qc`; null of no tiles. */
export interface QcReport {
  /** Of the tiles with a vector, of slides that are done. */
  readonly embedded: QcSummary | null;
  /** Of the tiles that filters dropped. */
  readonly dropped: QcSummary | null;
}

export interface RunReport {
  readonly version: 1;
  readonly run: string;
  readonly recipe: string;
  readonly model: string;
  readonly out: string;
  /** `submitted`: the jobs are queued, and nobody waited. */
  readonly state: 'done' | 'interrupted' | 'submitted';
  readonly slides: {
    readonly total: number;
    readonly done: number;
    readonly failed: number;
    /** Done, and without tissue. */
    readonly empty: number;
    /** Done by an earlier run of the same command. */
    readonly skipped: number;
  };
  readonly tiles: LeftOut & { readonly planned: number; readonly embedded: number; readonly failed: number };
  /** Null where no slide was planned with `--qc`. */
  readonly qc: QcReport | null;
  readonly failures: readonly SlideFailure[];
  /** Folder of the overlay pictures, `<slide key>.jpg`. */
  readonly overlays: string;
  readonly warnings: readonly { readonly slide: string; readonly message: string }[];
  readonly seconds: number;
  /** Tiles embedded by this process per second of its life. */
  readonly tilesPerSecond: number;
  /** Share of the embedding time in which the device was inside a run, 0 to 1; null where this process embedded nothing. */
  readonly deviceBusy: number | null;
  /** Of this process, for tiles. */
  readonly bytesRead: number;
  /** What reading the slides that are done has cost, by whatever process, and the bytes that they hold. */
  readonly reads: SlideReads;
}

/** What went wrong with one slide: the slide itself, or so many of its tiles for one reason. */
export interface SlideFailure {
  readonly slide: string;
  readonly uri: string;
  readonly scope: 'slide' | 'tile';
  readonly tiles: number;
  readonly error: ErrorRecord;
}
