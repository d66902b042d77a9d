import type { Hit } from '../store/store.ts';

export interface SearchOptions {
  readonly out: string;
  /** Null: the only one. */
  readonly run: string | null;
  /** A picture file, or a tile of the record. */
  readonly query: { readonly image: string } | { readonly slide: string; readonly x: number; readonly y: number };
  readonly k: number;
  /** Slide keys, file names or stems; empty: all. */
  readonly slides: readonly string[];
  /** Needed for a picture when the run's model lies elsewhere now. */
  readonly model: string | null;
  readonly modelDirs: readonly string[];
  readonly store: string | null;
  /** Where to write the contact sheet (JPEG), or null. */
  readonly contactSheet: string | null;
}

export interface SearchReport {
  readonly version: 1;
  readonly run: string;
  readonly recipe: string;
  readonly hits: readonly Hit[];
  readonly contactSheet: string | null;
}

/** Tiles most like a picture or a tile, best first; the query tile itself is left out. */
export declare function search(options: SearchOptions): Promise<SearchReport>;
