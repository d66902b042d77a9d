import { NightshiftError } from '../errors.ts';
import type { EmbeddingKind, Filter } from '../plan/plan.ts';
import { CATALOG } from './catalog-entries.ts';

/** What a model's authors publish about it, beyond what its tensors say. Data only: the converter checks it against shapes. */
export interface CatalogEntry {
  readonly id: string;
  readonly title: string;
  readonly source: {
    /** Hugging Face repository; null where the weights are not public. */
    readonly repository: string | null;
    /** Commit; null where none could be found, and the newest is taken. */
    readonly revision: string | null;
    /** The same weights in one format or another, best first. */
    readonly weights: readonly PublishedFile[];
    /** JSON files that say more about them; a repository need not have them. */
    readonly companions: readonly string[];
    /** `gated`: the authors must grant access first. `unpublished`: convert files that you hold. */
    readonly access: 'open' | 'gated' | 'unpublished';
  };
  readonly licence: string;
  /** Whether a converted model may be given to others, as far as the licence says. */
  readonly derivatives: 'allowed' | 'forbidden' | 'unclear';
  /** What the licence forbids that a person would not expect. */
  readonly licenceNote: string | null;
  readonly architecture: Architecture;
  /** Values of the tensors, rounded. */
  readonly parameters: number;
  readonly inputPx: number;
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  /** Of a tile that is not `inputPx` square: shorter edge to `shortEdge`, then the centre of `inputPx`. */
  readonly resize: { readonly shortEdge: number; readonly filter: Filter };
  /** Where the authors do something else than that, or others do. */
  readonly resizeNote: string | null;
  readonly mpp: number;
  /** The authors' own. */
  readonly embedding: 'cls' | 'cls+mean';
  /** What it can give instead, with --embedding or --patch-grid. */
  readonly otherEmbeddings: readonly EmbeddingKind[];
  /** Length of the authors' embedding. */
  readonly dims: number;
  readonly gflopPerTile: number;
  /** Paths of facts above that were not seen in the authors' own files. */
  readonly unverified: readonly string[];
}

export interface PublishedFile {
  readonly path: string;
  /** Only where independent public sources agree on it. */
  readonly bytes?: number;
  readonly sha256?: string;
}

export interface Architecture {
  readonly depth: number;
  readonly width: number;
  readonly heads: number;
  readonly mlp: 'swiglu' | 'gelu';
  readonly mlpHidden: number;
  readonly patchPx: number;
  readonly registers: number;
  readonly layerScale: boolean;
  readonly eps: number;
}

export { CATALOG };

/** The entry of an id, or null. */
export const catalogEntry = (id: string): CatalogEntry | null => CATALOG.find((entry) => entry.id === id) ?? null;

/** @throws NightshiftError `model-not-found`, telling the ids there are */
export function requireEntry(id: string): CatalogEntry {
  const entry = catalogEntry(id);
  if (entry !== null) return entry;
  const known = CATALOG.map((entry) => entry.id).join(', ');
  throw new NightshiftError('model-not-found', `no model ${id} in the catalog`, { next: `Known models: ${known}.` });
}

/** Whether a fact of an entry, by its path (`resize.filter`), was not seen in the authors' own files. */
export const isUnverified = ({ unverified }: CatalogEntry, path: string): boolean =>
  unverified.some((part) => path === part || path.startsWith(`${part}.`));

/** Where a person reads about the model and asks for access; null where it is not public. */
export const modelPage = ({ source }: CatalogEntry): string | null =>
  source.repository === null ? null : `https://huggingface.co/${source.repository}`;

/** 2 x multiply-adds of the matrix products, attention included, in 10^9. */
export function gflopPerTile(
  architecture: Omit<Architecture, 'eps' | 'heads' | 'layerScale'>,
  inputPx: number,
): number {
  const { depth, width, mlp, mlpHidden, patchPx, registers } = architecture;
  const patches = (inputPx / patchPx) ** 2;
  const tokens = 1 + registers + patches;
  const mlpLayers = mlp === 'swiglu' ? 3 : 2;
  const block = tokens * (4 * width * width + mlpLayers * width * mlpHidden) + 2 * tokens * tokens * width;
  const macs = patches * 3 * patchPx * patchPx * width + depth * block;
  return Math.round((2 * macs) / 1e6) / 1000;
}
