import { NightshiftError } from '../../errors.ts';
import type { CatalogEntry } from '../catalog.ts';
import type { ModelInfo } from '../encoder.ts';
import type { Companions } from './companions/companions.ts';
import type { ConvertOptions } from './convert.ts';
import type { GraphOptions } from './graph.ts';
import type { Naming } from './names/naming.ts';
import { POS_INTERPOLATIONS } from './position.ts';
import type { Weights } from './read/weights.ts';
import type { VisionTransformer } from './transformer.ts';

/** What decides a graph beside the tensors, and how its input is made. */
export type Settings = GraphOptions & Pick<ModelInfo, 'mean' | 'std' | 'preprocessingFrom' | 'resize'>;

/** What may know it: the person, then (for the architecture) the files, then the catalog; for preprocessing the catalog first. */
export interface Sources {
  readonly options: ConvertOptions;
  readonly companions: Companions;
  readonly entry: CatalogEntry | null;
  readonly naming: Naming;
  readonly weights: Weights;
}

/** The numbers that config.json and the catalog state must be those of the tensors. */
export function checkAgainst(model: VisionTransformer, { weights, companions, entry }: Sources): void {
  const found = {
    depth: model.blocks.length,
    width: model.width,
    patchPx: model.patchPx,
    mlp: model.blocks[0]!.mlp.kind,
    mlpHidden: model.mlpHidden,
    registers: model.registerCount,
    layerScale: model.blocks[0]!.scale1 !== null,
  };
  const check = (who: string, stated: Partial<Record<keyof typeof found, unknown>>) => {
    for (const [what, value] of Object.entries(found)) {
      const other = stated[what as keyof typeof found] ?? value;
      if (other !== value) {
        const message = `${weights.file}: the tensors have ${what} ${value}, ${who} says ${other}`;
        throw new NightshiftError('weights-unsupported', message);
      }
    }
  };
  check('config.json', { width: companions.width, depth: companions.depth, patchPx: companions.patchPx });
  if (entry) check(`the catalog entry ${entry.id}`, entry.architecture);
}

const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
const HALF = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const;

export function chooseSettings(model: VisionTransformer, sources: Sources): Settings {
  const { options, companions, entry, naming } = sources;
  const { width, patchPx, storedGrid } = model;
  const midnightLike = isMidnightLike(model, naming);
  const bad = (message: string) => new NightshiftError('usage', message);

  const heads = chooseHeads(width, sources);
  if (heads < 1 || width % heads !== 0) throw bad(`${heads} heads do not divide the width ${width}`);

  const native = 224 % patchPx === 0 ? 224 : storedGrid * patchPx;
  const inputPx = options.inputPx ?? entry?.inputPx ?? companions.inputPx ?? native;
  if (inputPx < patchPx || inputPx % patchPx !== 0) {
    throw bad(`an input of ${inputPx} px is not a whole number of patches of ${patchPx} px`);
  }
  const posInterpolation =
    options.posInterpolation ?? naming.posInterpolation[model.registerCount > 0 ? 'withRegisters' : 'plain'];
  if (!Object.hasOwn(POS_INTERPOLATIONS, posInterpolation)) {
    throw bad(`--pos-interpolation ${posInterpolation}: give ${Object.keys(POS_INTERPOLATIONS).join(', ')}`);
  }
  const embedding = options.embedding ?? entry?.embedding ?? (midnightLike ? 'cls+mean' : 'cls');
  if (embedding === 'patch') throw bad('the patch grid is an output of its own: ask for it with --patch-grid');
  const normalisation = chooseNormalisation(sources, midnightLike);
  if (normalisation.std.some((value) => !(value > 0))) throw bad(`--std ${normalisation.std} must be above 0`);
  return {
    inputPx,
    heads,
    embedding,
    eps: options.eps ?? companions.eps ?? entry?.architecture.eps ?? naming.eps,
    precision: options.precision ?? 'fp32',
    patchGrid: options.patchGrid ?? false,
    posInterpolation,
    ...normalisation,
    resize: entry?.resize ?? companions.resize ?? { shortEdge: inputPx, filter: 'bilinear' },
  };
}

/** Tensors do not tell the number of heads; where nobody does, heads of 64 are what these models have. */
function chooseHeads(width: number, { options, companions, entry, weights }: Sources): number {
  const stated = companions.heads ?? entry?.architecture.heads;
  if (entry && stated !== entry.architecture.heads) {
    const message = `${weights.file}: config.json says ${stated} heads, the catalog entry ${entry.id} says ${entry.architecture.heads}`;
    throw new NightshiftError('weights-unsupported', message);
  }
  const heads = options.heads ?? stated ?? (width % 64 === 0 ? width / 64 : undefined);
  if (heads !== undefined) return heads;
  throw new NightshiftError('weights-unsupported', `${weights.file}: the number of heads is not in the tensors`, {
    next: 'Put config.json beside the weights, or state --heads.',
  });
}

/** Midnight is published without a preprocessor_config.json; the other models of its layout have one. */
const isMidnightLike = (model: VisionTransformer, naming: Naming): boolean =>
  naming.id === 'hf-dinov2' && model.blocks[0]!.mlp.kind === 'swiglu' && model.registerCount === 0;

function chooseNormalisation(
  { options, entry, companions }: Sources,
  midnightLike: boolean,
): Pick<Settings, 'mean' | 'std' | 'preprocessingFrom'> {
  const { mean, std } = options;
  if ((mean === undefined) !== (std === undefined)) throw new NightshiftError('usage', 'state both --mean and --std');
  if (mean && std) return { mean, std, preprocessingFrom: 'options' };
  if (entry) return { mean: entry.mean, std: entry.std, preprocessingFrom: 'catalog' };
  if (companions.normalisation) {
    const { mean, std, from } = companions.normalisation;
    return { mean, std, preprocessingFrom: from };
  }
  return midnightLike
    ? { ...HALF, preprocessingFrom: 'assumed: as Midnight, whose layout this is' }
    : { ...IMAGENET, preprocessingFrom: 'assumed: ImageNet' };
}
