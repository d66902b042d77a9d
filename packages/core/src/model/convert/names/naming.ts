import type { PosInterpolation } from '../position.ts';
import type { Weights } from '../read/weights.ts';
import { dinov2 } from './dinov2.ts';
import { hfDinov2 } from './hf-dinov2.ts';
import { hfVit } from './hf-vit.ts';
import { timm } from './timm.ts';

/**
 * How one library names the tensors of a ViT. Linear layers and norms are given without `.weight` / `.bias`. Where there are
 * several candidates the file holds one. Whether an MLP is gated, what the position embedding covers, depth, width and the rest
 * are read from shapes (`transformer.ts`), never from names.
 */
export interface Naming {
  /** Family in model.json. */
  readonly id: string;
  /** Names that only this scheme has all of. */
  readonly signature: readonly RegExp[];
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
  /** LayerScale vectors, in libraries that have them. */
  readonly scales: readonly [string, string] | null;
  /** First and second layer of the MLP. */
  readonly mlpIn: readonly string[];
  readonly mlpOut: readonly string[];
  /** Tensors that inference does not need. */
  readonly unused: readonly string[];
  readonly eps: number;
  /** What the library does to a stored grid of another size; some do something else for a model with registers. */
  readonly posInterpolation: { readonly plain: PosInterpolation; readonly withRegisters: PosInterpolation };
}

/** Tokens before the patches that have a position: the class token, none, or class token and registers. */
export type Positioned = 'cls' | 'none' | 'all';

/** The original DINOv2 comes before timm, which shares most of its names. */
const NAMINGS: readonly Naming[] = [hfDinov2, hfVit, dinov2, timm];

/** What training frameworks put before the names; tensors without the prefix (a student, a head) are not of the model. */
const PREFIXES =
  ' teacher.backbone. teacher. backbone. model. module. state_dict. dinov2. dinov2_with_registers. vit.'.split(' ');

/** The naming scheme of a checkpoint, and the checkpoint without the prefix of its names; or null. */
export function recogniseNaming(weights: Weights): { naming: Naming; weights: Weights } | null {
  for (const prefix of PREFIXES) {
    const names = [...weights.tensors.keys()].filter((name) => name.startsWith(prefix));
    const bare = names.map((name) => name.slice(prefix.length));
    const naming = NAMINGS.find(({ signature }) => signature.every((part) => bare.some((name) => part.test(name))));
    if (naming) return { naming, weights: prefix ? withoutPrefix(weights, prefix) : weights };
  }
  return null;
}

function withoutPrefix(weights: Weights, prefix: string): Weights {
  const own = [...weights.tensors].filter(([name]) => name.startsWith(prefix));
  return {
    ...weights,
    tensors: new Map(own.map(([name, entry]) => [name.slice(prefix.length), entry])),
    read: (name, rows) => weights.read(prefix + name, rows),
  };
}
