import type { EmbeddingKind, Filter } from '../plan/plan.ts';

/** model.json: what a model directory says of itself. Nothing about a model is looked up elsewhere at run time. */
export interface ModelInfo {
  readonly version: 1;
  /** Name of the model, e.g. `midnight-12k`; the person's own for a model of no catalog entry. */
  readonly name: string;
  /** Catalog id, or null. */
  readonly id: string | null;
  readonly family: string;
  /** True only for weights that somebody trained; false for the demo's random ones. */
  readonly trained: boolean;
  /** sha256 (hex) over graph and data file: identifies the vectors. */
  readonly digest: string;
  readonly files: { readonly graph: ModelFile; readonly data: ModelFile };
  /** The weights it was made from. */
  readonly weights: {
    readonly file: string;
    readonly sha256: string;
    /** What was before the names of its tensors, e.g. `teacher.backbone.`: which of several models it is. */
    readonly prefix: string;
    /** Where they were downloaded. */
    readonly origin: { readonly repository: string; readonly revision: string } | null;
  };
  readonly precision: Precision;
  /** Side of the square picture the graph takes, px. */
  readonly inputPx: number;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  /** Where mean and std were found: `options`, `catalog`, `preprocessor_config.json`, or that they were assumed. */
  readonly preprocessingFrom: string;
  /** What the authors do to a tile that is not `inputPx` square: shorter edge to `shortEdge`, centre crop. */
  readonly resize: { readonly shortEdge: number; readonly filter: Filter };
  readonly mpp: number;
  readonly architecture: {
    readonly depth: number;
    readonly width: number;
    readonly heads: number;
    readonly mlp: 'swiglu' | 'gelu';
    readonly mlpHidden: number;
    readonly patchPx: number;
    readonly registers: number;
    readonly layerScale: boolean;
    readonly eps: number;
    readonly storedGrid: number;
    readonly parameters: number;
    readonly gflopPerTile: number;
  };
  /** How the stored position embedding was brought to the input grid. */
  readonly posInterpolation: string;
  /** Embedding of the graph's output `embedding`. A `cls+mean` model also serves `cls` (first half) and `mean` (second). */
  readonly embedding: EmbeddingKind;
  /** Length of `embedding`. */
  readonly dims: number;
  /** Side of the patch grid where the graph has the output `patch`, else null. */
  readonly patchGrid: number | null;
  /** What `nightshift model check` compares with; null for a model that was converted without (`--no-probe`). */
  readonly probe: {
    /** Vectors of the probe's tiles by the float32 graph: safetensors, `embedding` float32 [4, dims]. No part of `digest`. */
    readonly file: ModelFile;
    /** Which tiles: see `probe.ts`. */
    readonly tiles: 1;
    /** Least cosine of this model's own vectors with those, when it was made, on a CPU. 1 for fp32. */
    readonly cosine: number;
    /** Largest difference of a value, as a share of its vector's largest value. */
    readonly maxError: number;
  } | null;
  readonly licence: string;
  readonly licenceNote: string | null;
  readonly madeBy: string;
}

/**
 * Of the weights and matrix products in the blocks; all else is float32. `int8` is a draft: for CPUs, and off by what
 * `ModelInfo.probe` says.
 */
export type Precision = 'fp32' | 'fp16' | 'int8';

export interface ModelFile {
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface Embeddings {
  /** float32 [count, dims], row-major. */
  readonly embedding: Float32Array;
  /** float32 [count, grid, grid, width] where the model has a patch grid and it was asked for. */
  readonly patch?: Float32Array;
}

/** A model ready to run. The vector of a tile does not depend on the batch it rode in. */
export interface Encoder {
  readonly model: ModelInfo;
  /** Execution provider in use: `cpu`, `cuda:0`, `webgpu`. */
  readonly device: string;
  /** Largest batch that `embed` takes. */
  readonly maxBatch: number;
  /**
   * Vectors of `count` tiles: uint8 RGB, [count, inputPx, inputPx, 3]. Calls may overlap and are answered in order; more than
   * `lookAhead` outstanding calls only wait. `tiles` may be reused once the promise settles. `patch` asks for the patch grid too,
   * of a model that has one.
   */
  embed(tiles: Uint8Array, count: number, outputs?: { readonly patch?: boolean }): Promise<Embeddings>;
  readonly lookAhead: number;
  /** Seconds the device spent inside runs since start: what `starved` is measured against. */
  readonly busySeconds: number;
  /** Waits for outstanding calls, then stops the engine. */
  close(): Promise<void>;
}
