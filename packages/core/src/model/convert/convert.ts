import { basename, dirname, resolve } from 'node:path';
import { NightshiftError } from '../../errors.ts';
import type { EmbeddingKind } from '../../plan/plan.ts';
import { CATALOG, type CatalogEntry, catalogEntry } from '../catalog.ts';
import type { ModelInfo } from '../encoder.ts';
import { MODEL_FILE, modelDigest } from '../info.ts';
import { type Companions, readCompanions } from './companions.ts';
import { buildGraph, type GraphOptions } from './graph.ts';
import { type Naming, recogniseNaming } from './names/naming.ts';
import { POS_INTERPOLATIONS, type PosInterpolation } from './position.ts';
import { isDirectory, openWeights, type Weights } from './read/weights.ts';
import { findTransformer, type VisionTransformer } from './transformer.ts';
import { checkTarget, dataBytes, writeFile, writeGraph, writeWhole } from './write.ts';

/** Raise it when the same weights and options give other bytes than before. */
const CONVERTER_VERSION = 1;

type Rgb = readonly [number, number, number];

/** Everything but `from` and `to` overrides what the checkpoint, the JSON files beside it and the catalog say. */
export interface ConvertOptions {
  /** A `.safetensors` file, or a directory with `model.safetensors`; `config.json` and `preprocessor_config.json` are read where present. */
  readonly from: string;
  /** Model directory to make; another model there is replaced. */
  readonly to: string;
  /** Catalog entry whose preprocessing, embedding and licence hold; its architecture must be that of the weights. */
  readonly id?: string;
  readonly name?: string;
  readonly inputPx?: number;
  readonly embedding?: EmbeddingKind;
  /** Adds the output `patch`. */
  readonly patchGrid?: boolean;
  readonly mean?: Rgb;
  readonly std?: Rgb;
  readonly mpp?: number;
  readonly eps?: number;
  readonly heads?: number;
  readonly posInterpolation?: PosInterpolation;
  readonly trained?: boolean;
  readonly licence?: string;
}

/**
 * Turns published weights into a model directory: `model.onnx`, `model.onnx.data` and `model.json`. Tensors stream through one
 * at a time; the same input gives the same bytes; the directory appears complete or not at all. `onProgress` is told the bytes
 * done and their total.
 *
 * @throws NightshiftError `weights-not-found`, `weights-invalid`, `weights-unsupported`, `usage`, `disk-full`, `out-not-writable`
 */
export async function convertModel(
  options: ConvertOptions,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<ModelInfo> {
  const entry = options.id === undefined ? null : requireEntry(options.id);
  const dir = (await isDirectory(options.from)) ? options.from : dirname(options.from);
  const weights = await openWeights(options.from);
  try {
    const naming = recogniseNaming(weights.tensors);
    if (naming === null) {
      const some = [...weights.tensors.keys()].slice(0, 3).join(', ');
      throw new NightshiftError('weights-unsupported', `${weights.file}: no known layout has tensors like ${some}`);
    }
    const model = findTransformer(weights, naming);
    const companions = await readCompanions(dir);
    checkAgainst(weights, model, companions, entry);
    const settings = chooseSettings(model, naming, weights, companions, entry, options);
    const graph = buildGraph(model, settings);

    const total = weights.size + dataBytes(graph);
    let done = 0;
    const onBytes = (bytes: number) => {
      done += bytes;
      onProgress(done, total);
    };
    await checkTarget(options.to, dataBytes(graph));
    const source = { file: basename(weights.file), sha256: await weights.digest(onBytes) };
    let info: ModelInfo | undefined;
    await writeWhole(options.to, async (partial) => {
      const files = await writeGraph(partial, graph, onBytes);
      info = describe(options, entry, companions, naming, model, settings, source, files);
      const json = Buffer.from(`${JSON.stringify(info, null, 2)}\n`);
      await writeFile(partial, MODEL_FILE, (append) => append(json));
    });
    onProgress(total, total);
    return info!;
  } finally {
    await weights.close();
  }
}

function requireEntry(id: string): CatalogEntry {
  const entry = catalogEntry(id);
  if (entry !== null) return entry;
  const known = CATALOG.map((entry) => entry.id).join(', ');
  throw new NightshiftError('model-not-found', `no model ${id} in the catalog`, { next: `Known models: ${known}.` });
}

/** The numbers that config.json and the catalog state must be those of the tensors. */
function checkAgainst(
  weights: Weights,
  model: VisionTransformer,
  companions: Companions,
  entry: CatalogEntry | null,
): void {
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

type Settings = GraphOptions & Pick<ModelInfo, 'mean' | 'std' | 'preprocessingFrom' | 'resize'>;

const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] } as const;
const HALF = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const;

function chooseSettings(
  model: VisionTransformer,
  naming: Naming,
  weights: Weights,
  companions: Companions,
  entry: CatalogEntry | null,
  options: ConvertOptions,
): Settings {
  const { width, patchPx, storedGrid } = model;
  const midnightLike = isMidnightLike(model, naming);
  const bad = (message: string) => new NightshiftError('usage', message);

  const heads =
    options.heads ?? companions.heads ?? entry?.architecture.heads ?? (width % 64 === 0 ? width / 64 : null);
  if (heads === null) {
    throw new NightshiftError('weights-unsupported', `${weights.file}: the number of heads is not in the tensors`, {
      next: 'Put config.json beside the weights, or state --heads.',
    });
  }
  if (heads < 1 || width % heads !== 0) throw bad(`${heads} heads do not divide the width ${width}`);

  const native = 224 % patchPx === 0 ? 224 : storedGrid * patchPx;
  const inputPx = options.inputPx ?? entry?.inputPx ?? companions.inputPx ?? native;
  if (inputPx < patchPx || inputPx % patchPx !== 0) {
    throw bad(`an input of ${inputPx} px is not a whole number of patches of ${patchPx} px`);
  }
  const embedding = options.embedding ?? entry?.embedding ?? (midnightLike ? 'cls+mean' : 'cls');
  if (embedding === 'patch') throw bad('the patch grid is an output of its own: ask for it with --patch-grid');
  const normalisation = chooseNormalisation(options, entry, companions, midnightLike);
  if (normalisation.std.some((value) => !(value > 0))) throw bad(`--std ${normalisation.std} must be above 0`);
  return {
    inputPx,
    heads,
    embedding,
    eps: options.eps ?? companions.eps ?? entry?.architecture.eps ?? naming.eps,
    patchGrid: options.patchGrid ?? false,
    posInterpolation: options.posInterpolation ?? naming.posInterpolation,
    ...normalisation,
    resize: entry?.resize ?? companions.resize ?? { shortEdge: inputPx, filter: 'bilinear' },
  };
}

/** Midnight is published without a preprocessor_config.json; the other models of its layout have one. */
const isMidnightLike = (model: VisionTransformer, naming: Naming): boolean =>
  naming.id === 'hf-dinov2' && model.blocks[0]!.mlp.kind === 'swiglu' && model.registerCount === 0;

function chooseNormalisation(
  options: ConvertOptions,
  entry: CatalogEntry | null,
  companions: Companions,
  midnightLike: boolean,
): Pick<Settings, 'mean' | 'std' | 'preprocessingFrom'> {
  const { mean, std } = options;
  if ((mean === undefined) !== (std === undefined)) throw new NightshiftError('usage', 'state both --mean and --std');
  if (mean && std) return { mean, std, preprocessingFrom: 'options' };
  if (entry) return { mean: entry.mean, std: entry.std, preprocessingFrom: 'catalog' };
  if (companions.mean && companions.std) {
    return { mean: companions.mean, std: companions.std, preprocessingFrom: 'preprocessor_config.json' };
  }
  return midnightLike
    ? { ...HALF, preprocessingFrom: 'assumed: as Midnight, whose layout this is' }
    : { ...IMAGENET, preprocessingFrom: 'assumed: ImageNet' };
}

function describe(
  options: ConvertOptions,
  entry: CatalogEntry | null,
  companions: Companions,
  naming: Naming,
  model: VisionTransformer,
  settings: Settings,
  source: ModelInfo['weights'],
  files: ModelInfo['files'],
): ModelInfo {
  const { inputPx, heads, eps, mean, std, preprocessingFrom, resize, embedding } = settings;
  const interpolation = settings.posInterpolation;
  const grid = inputPx / model.patchPx;
  return {
    version: 1,
    name: options.name ?? entry?.id ?? nameOf(options.from),
    id: entry?.id ?? null,
    family: naming.id,
    trained: options.trained ?? companions.trained,
    digest: modelDigest(files.graph, files.data),
    files,
    weights: source,
    precision: 'fp32',
    inputPx,
    mean,
    std,
    preprocessingFrom,
    resize,
    mpp: options.mpp ?? entry?.mpp ?? 0.5,
    architecture: {
      depth: model.blocks.length,
      width: model.width,
      heads,
      mlp: model.blocks[0]!.mlp.kind,
      mlpHidden: model.mlpHidden,
      patchPx: model.patchPx,
      registers: model.registerCount,
      layerScale: model.blocks[0]!.scale1 !== null,
      eps,
      storedGrid: model.storedGrid,
      parameters: model.parameters,
      gflopPerTile: gflopPerTile(model, grid),
    },
    posInterpolation:
      grid === model.storedGrid ? 'none: native size' : `${interpolation}: ${POS_INTERPOLATIONS[interpolation]}`,
    embedding,
    dims: embedding === 'cls+mean' ? 2 * model.width : model.width,
    patchGrid: settings.patchGrid ? grid : null,
    licence: options.licence ?? entry?.licence ?? 'not stated',
    licenceNote: entry?.licenceNote ?? null,
    madeBy: `nightshift converter ${CONVERTER_VERSION}`,
  };
}

/** Of the directory, or of the file where it has a name of its own. */
function nameOf(from: string): string {
  const path = resolve(from);
  const file = basename(path, '.safetensors');
  return file === 'model' ? basename(dirname(path)) : file;
}

/** 2 x multiply-adds of the matrix products, attention included, in 10^9. */
function gflopPerTile(model: VisionTransformer, grid: number): number {
  const { width, patchPx, mlpHidden, registerCount, blocks } = model;
  const tokens = 1 + registerCount + grid * grid;
  const mlpLayers = blocks[0]!.mlp.kind === 'swiglu' ? 3 : 2;
  const block = tokens * (4 * width * width + mlpLayers * width * mlpHidden) + 2 * tokens * tokens * width;
  const macs = grid * grid * 3 * patchPx * patchPx * width + blocks.length * block;
  return Math.round((2 * macs) / 1e6) / 1000;
}
