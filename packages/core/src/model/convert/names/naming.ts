import type { PosInterpolation } from '../position.ts';
import { hfDinov2 } from './hf-dinov2.ts';

/**
 * How one library names the tensors of a ViT. Linear layers and norms are given without `.weight` / `.bias`. Where there are
 * several candidates the file holds one. Whether an MLP is gated, what the position embedding covers, depth, width and the rest
 * are read from shapes (`transformer.ts`), never from names.
 */
export interface Naming {
  /** Family in model.json. */
  readonly id: string;
  /** Names that only this scheme has all of. */
  readonly signature: readonly string[];
  readonly cls: string;
  readonly registers: readonly string[];
  readonly position: string;
  /** Which tokens before the patches the position embedding may have rows for. */
  readonly positioned: readonly Positioned[];
  readonly patch: string;
  readonly norm: string;
  /** Matches the prefix of a block's tensors; group `index` is its number. */
  readonly block: RegExp;
  readonly norm1: string;
  readonly norm2: string;
  /** One fused layer of [query; key; value] rows, or three. */
  readonly qkv: string | readonly [query: string, key: string, value: string];
  readonly projection: string;
  /** LayerScale vectors, where there are any. */
  readonly scale1: string;
  readonly scale2: string;
  /** First and second layer of the MLP. */
  readonly mlpIn: readonly string[];
  readonly mlpOut: readonly string[];
  /** Tensors that inference does not need. */
  readonly unused: readonly string[];
  readonly eps: number;
  readonly posInterpolation: PosInterpolation;
}

/** Tokens before the patches that have a position: the class token, none, or class token and registers. */
export type Positioned = 'cls' | 'none' | 'all';

const NAMINGS: readonly Naming[] = [hfDinov2];

/** The naming scheme of a checkpoint, or null. */
export function recogniseNaming(names: { has(name: string): boolean }): Naming | null {
  return NAMINGS.find((naming) => naming.signature.every((name) => names.has(name))) ?? null;
}
