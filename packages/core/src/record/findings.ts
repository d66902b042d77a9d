import { keys } from './layout.ts';

/** What a finding says. Codes are part of `--json`: never rename one. */
export type FindingCode =
  // slides
  | 'slide-missing'
  | 'slide-unfinished'
  | 'slide-unexpected'
  | 'slide-corrupt'
  | 'plan-missing'
  | 'plan-corrupt'
  | 'plan-duplicate-tiles'
  | 'recipe-mismatch'
  | 'model-mismatch'
  // tiles
  | 'tiles-lost'
  | 'tiles-twice'
  | 'tiles-in-rows-and-failures'
  | 'tiles-unplanned'
  | 'failures-missing'
  | 'failures-corrupt'
  // counters
  | 'reads-corrupt'
  // measures
  | 'qc-missing'
  | 'qc-wrong'
  // vectors
  | 'vectors-wrong-dims'
  | 'vectors-not-finite'
  | 'vectors-zero'
  | 'vectors-equal'
  // leftovers
  | 'shards-left'
  | 'temporary-files-left'
  // vector store
  | 'store-empty'
  | 'store-rows-missing'
  | 'store-rows-extra'
  | 'store-slide-unexpected';

export interface Finding {
  /** `error`: a promise of the record is broken. `warning`: worth knowing. */
  readonly severity: 'error' | 'warning';
  readonly code: FindingCode;
  /** Key of the slide, or null. */
  readonly slide: string | null;
  readonly message: string;
  /** What to do about it. */
  readonly next: string;
}

/** Notes a finding about the slide in hand. */
export type Find = (code: FindingCode, message: string, next: string, severity?: Finding['severity']) => void;

export const AGAIN = 'Run the same command again: it makes what is missing.';
export const REBUILD_STORE =
  'Run the same command again; if it stays, remove the vector store, which is rebuilt from the record.';
export const remakeSlide = (recipe: string, slide: string): string =>
  `Remove ${keys.slide(recipe, slide)} and run the same command again.`;
