import type { EmbeddingKind, TissueOptions } from '../plan/plan.ts';
import type { RunEvent, RunProgress, RunReport } from '../pipeline/progress.ts';

export interface EmbedOptions {
  /** Files, directories, globs, manifests. */
  readonly sources: readonly string[];
  /** A model directory, or a name to look for in `modelDirs`. */
  readonly model: string;
  readonly modelDirs: readonly string[];
  /** The record's directory. */
  readonly out: string;
  /** Tile side in px; null: the model's input. */
  readonly tilePx: number | null;
  /** um/px; null: the model's. */
  readonly mpp: number | null;
  readonly overlapPx: number;
  /** Null: what the model gives. */
  readonly embedding: EmbeddingKind | null;
  readonly tissue: TissueOptions;
  readonly filter: 'none' | 'hsv';
  readonly slideMpp: number | null;
  readonly limit: number | null;
  readonly shardTiles: number;
  /** Tiles a batch; null: 4 on a CPU. */
  readonly batch: number | null;
  /** Inference threads; null: all cores. */
  readonly threads: number | null;
  readonly decodeThreads: number | null;
  readonly device: string;
  /** `lancedb:<dir>`, `none`, or null for `<out>/store`. */
  readonly store: string | null;
}

export interface RunHooks {
  /** Aborting drains the run: shards in flight are handed back, what is committed stays. */
  readonly signal: AbortSignal;
  readonly onProgress?: (progress: RunProgress) => void;
  readonly onEvent?: (event: RunEvent) => void;
}

/**
 * Embeds every slide of the sources on this machine, into a record. The same options again complete what is missing.
 * A slide that fails is in the report and in the record's ledger; the others go on.
 * @throws NightshiftError of scope `run` when nothing can be done: no source, no model, no room, ...
 */
export declare function embed(options: EmbedOptions, hooks: RunHooks): Promise<RunReport>;
