import type { Filter } from '../plan/plan.ts';

/** What a model's authors publish about it, beyond what its tensors say. Data only: the converter checks it against shapes. */
export interface CatalogEntry {
  readonly id: string;
  readonly title: string;
  readonly source: {
    /** Hugging Face repository. */
    readonly repository: string;
    readonly revision: string;
    readonly files: readonly string[];
    /** True where the authors must grant access first. */
    readonly gated: boolean;
  };
  readonly licence: string;
  readonly licenceNote: string | null;
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
  };
  readonly inputPx: number;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  readonly resize: { readonly shortEdge: number; readonly filter: Filter };
  readonly mpp: number;
  /** The authors' own. */
  readonly embedding: 'cls' | 'cls+mean';
  readonly dims: number;
  readonly gflopPerTile: number;
  /** Facts above that were not seen in the authors' own files. */
  readonly unverified: readonly string[];
}

export const CATALOG: readonly CatalogEntry[] = [
  {
    id: 'midnight-12k',
    title: 'Midnight-12k (Kaiko): DINOv2 ViT-g/14',
    source: {
      repository: 'kaiko-ai/midnight',
      revision: 'adc6b15679c981cce6f9b018bbad09d16eeeda9f',
      files: ['config.json', 'model.safetensors'],
      gated: false,
    },
    licence: 'MIT',
    licenceNote: null,
    architecture: {
      depth: 40,
      width: 1536,
      heads: 24,
      mlp: 'swiglu',
      mlpHidden: 4096,
      patchPx: 14,
      registers: 0,
      layerScale: true,
      eps: 1e-6,
    },
    inputPx: 224,
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
    resize: { shortEdge: 224, filter: 'bilinear' },
    mpp: 0.5,
    embedding: 'cls+mean',
    dims: 3072,
    gflopPerTile: 598.8,
    unverified: ['architecture.eps', 'mpp'],
  },
];

/** The entry of an id, or null. */
export const catalogEntry = (id: string): CatalogEntry | null => CATALOG.find((entry) => entry.id === id) ?? null;
