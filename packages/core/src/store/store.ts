import type { BasePx } from '../units.ts';

/** One tile of the index. Its id is derived from (slide, recipe, x, y), so an upsert can be repeated. */
export interface StoreRows {
  readonly slide: string;
  readonly uri: string;
  readonly x: Int32Array;
  readonly y: Int32Array;
  /** float32 [rows, dims]. */
  readonly vectors: Float32Array;
}

export interface Hit {
  readonly slide: string;
  readonly uri: string;
  readonly x: BasePx;
  readonly y: BasePx;
  /** Cosine similarity, -1 to 1. */
  readonly score: number;
}

/** A vector index of one recipe. Derived from the record: it can be dropped and rebuilt. */
export interface VectorStore {
  readonly uri: string;
  /**
   * Replaces the rows of one slide by these; none removes it. Whole or not at all, as long as the slide fits one commit of the
   * driver; a larger one may be seen in part while it is written, and after a kill its `count` tells. Rows arrive in batches so
   * that memory stays flat. @returns the rows written
   */
  upsertSlide(slide: string, rows: AsyncIterable<StoreRows>): Promise<number>;
  /** Rows held of one slide. */
  count(slide: string): Promise<number>;
  /** Rows held per slide. */
  slides(): Promise<Map<string, number>>;
  /** Nearest tiles by cosine, best first. `slides` restricts to these keys. */
  search(vector: Float32Array, options: { readonly k: number; readonly slides?: readonly string[] }): Promise<Hit[]>;
  /** Compacts, and builds the vector index when the count warrants it. */
  optimize(): Promise<{ readonly rows: number; readonly indexed: boolean }>;
  close(): Promise<void>;
}
