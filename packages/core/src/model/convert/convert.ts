import { basename, dirname, resolve } from 'node:path';
import { NightshiftError } from '../../errors.ts';
import type { EmbeddingKind } from '../../plan/plan.ts';
import { CATALOG, type CatalogEntry, catalogEntry } from '../catalog.ts';
import type { ModelInfo, Precision } from '../encoder.ts';
import { MODEL_FILE, modelDigest } from '../info.ts';
import { type Rgb, readCompanions } from './companions/companions.ts';
import { buildGraph } from './graph.ts';
import { recogniseNaming } from './names/naming.ts';
import { POS_INTERPOLATIONS, type PosInterpolation } from './position.ts';
import { isDirectory, openWeights } from './read/open.ts';
import { checkAgainst, chooseSettings, type Settings, type Sources } from './settings.ts';
import { findTransformer, type VisionTransformer } from './transformer.ts';
import { checkTarget, dataBytes, writeFile, writeGraph, writeWhole } from './write.ts';

/** Raise it when the same weights and options give other bytes than before. */
const CONVERTER_VERSION = 1;

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
  /** Default `fp32`. */
  readonly precision?: Precision;
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
  const opened = await openWeights(options.from);
  try {
    const recognised = recogniseNaming(opened);
    if (recognised === null) {
      const some = [...opened.tensors.keys()].slice(0, 3).join(', ');
      throw new NightshiftError('weights-unsupported', `${opened.file}: no known layout has tensors like ${some}`);
    }
    const { naming, weights } = recognised;
    const model = findTransformer(weights, naming);
    const companions = await readCompanions(dir);
    const sources: Sources = { options, companions, entry, naming, weights };
    checkAgainst(model, sources);
    const settings = chooseSettings(model, sources);
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
      info = describe(model, settings, sources, source, files);
      const json = Buffer.from(`${JSON.stringify(info, null, 2)}\n`);
      await writeFile(partial, MODEL_FILE, (append) => append(json));
    });
    onProgress(total, total);
    return info!;
  } finally {
    await opened.close();
  }
}

function requireEntry(id: string): CatalogEntry {
  const entry = catalogEntry(id);
  if (entry !== null) return entry;
  const known = CATALOG.map((entry) => entry.id).join(', ');
  throw new NightshiftError('model-not-found', `no model ${id} in the catalog`, { next: `Known models: ${known}.` });
}

function describe(
  model: VisionTransformer,
  settings: Settings,
  { options, entry, companions, naming }: Sources,
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
    trained: options.trained ?? companions.trained ?? true,
    digest: modelDigest(files.graph, files.data),
    files,
    weights: source,
    precision: settings.precision,
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
      grid === model.storedGrid ? 'none: native size' : `${interpolation}: ${POS_INTERPOLATIONS[interpolation].what}`,
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
