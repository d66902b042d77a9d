import { NightshiftError } from '../../../errors.ts';
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

/** A checkpoint without what comes before the names of its model. */
export interface Recognised {
  readonly naming: Naming;
  readonly weights: Weights;
  /** What was before the names, e.g. `state_dict.teacher.backbone.`; empty for a plain checkpoint. */
  readonly prefix: string;
}

const MAX_MODELS = 20;

/**
 * The model of a checkpoint, or null. Training frameworks nest it: tensors of other prefixes (a student, a head, an optimizer) are
 * not of the model. Where there are several, an average of the weights (teacher, EMA) comes first, then a plain model, and
 * a student last.
 *
 * @throws NightshiftError `weights-unsupported` where none of several comes first
 */
export function recogniseNaming(weights: Weights): Recognised | null {
  const found: Recognised[] = [];
  for (const prefix of prefixesOf(weights)) {
    const bare = [...weights.tensors.keys()]
      .filter((name) => name.startsWith(prefix))
      .map((name) => name.slice(prefix.length));
    const naming = NAMINGS.find(({ signature }) => signature.every((part) => bare.some((name) => part.test(name))));
    if (naming) found.push({ naming, prefix, weights: prefix ? withoutPrefix(weights, prefix) : weights });
  }
  const best = Math.min(...found.map(({ prefix }) => rank(prefix)));
  const [first, second] = found.filter(({ prefix }) => rank(prefix) === best);
  if (first === undefined || second === undefined) return first ?? null;
  throw new NightshiftError(
    'weights-unsupported',
    `${weights.file} holds several models, ${found.map(({ prefix }) => prefix || '(no prefix)').join(' and ')}`,
    { next: 'Save the one you want as a file of its own.' },
  );
}

/** What comes before the patch embedding, which every model has once. */
function prefixesOf(weights: Weights): readonly string[] {
  const prefixes = new Set<string>();
  for (const name of weights.tensors.keys()) {
    for (const { patch } of NAMINGS) {
      const before = name.endsWith(`${patch}.weight`) ? name.slice(0, -`${patch}.weight`.length) : null;
      if (before === '' || before?.endsWith('.')) prefixes.add(before);
    }
    if (prefixes.size > MAX_MODELS) {
      throw new NightshiftError('weights-unsupported', `${weights.file} holds more than ${MAX_MODELS} models`);
    }
  }
  return [...prefixes];
}

function rank(prefix: string): number {
  if (/(^|[._])student([._]|$)/.test(prefix)) return 2;
  return /(^|[._])(teacher|ema)([._]|$)/.test(prefix) ? 0 : 1;
}

function withoutPrefix(weights: Weights, prefix: string): Weights {
  const own = [...weights.tensors].filter(([name]) => name.startsWith(prefix));
  return {
    ...weights,
    tensors: new Map(own.map(([name, entry]) => [name.slice(prefix.length), entry])),
    read: (name, rows) => weights.read(prefix + name, rows),
  };
}
