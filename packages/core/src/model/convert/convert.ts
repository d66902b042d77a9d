import { basename, dirname, resolve } from 'node:path';
import { NightshiftError } from '../../errors.ts';
import type { EmbeddingKind } from '../../plan/plan.ts';
import { type CatalogEntry, gflopPerTile, requireEntry } from '../catalog.ts';
import type { ModelInfo, Precision } from '../encoder.ts';
import { MODEL_FILE, modelDigest } from '../info.ts';
import { type Rgb, readCompanions } from './companions/companions.ts';
import { buildGraph } from './graph.ts';
import { makeProbe } from './make-probe.ts';
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
  /**
   * A checkpoint of safetensors or PyTorch, or a directory that holds one; `config.json` and `preprocessor_config.json` are read
   * where present.
   */
  readonly from: string;
  /** Model directory to make; another model there is replaced. */
  readonly to: string;
  /** Catalog entry whose preprocessing, embedding and licence hold; its architecture must be that of the weights. */
  readonly id?: string;
  /** The same, for a model that the catalog lacks. */
  readonly entry?: CatalogEntry;
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
  /** Runs the model on a few tiles and keeps their vectors, which every machine is then checked against. Default true. */
  readonly probe?: boolean;
  readonly trained?: boolean;
  readonly licence?: string;
  /** What the weights must hash to. */
  readonly sha256?: string;
  /** Where the weights were published, for model.json. */
  readonly origin?: { readonly repository: string; readonly revision: string };
}

/**
 * Bytes done and their total. `probing` begins when the model is written: loading it takes seconds, and for a precision other than
 * fp32 the float32 graph is written first.
 */
export type ConvertProgress = (done: number, total: number, stage: 'converting' | 'probing') => void;

/**
 * Turns published weights into a model directory: `model.onnx`, `model.onnx.data`, `probe.safetensors` and `model.json`. Tensors
 * stream through one at a time; the same input gives the same bytes; the directory appears complete or not at all.
 *
 * @throws NightshiftError `weights-not-found`, `weights-invalid`, `weights-unsupported`, `weights-refused`, `weights-digest`, `usage`,
 * `disk-full`, `out-not-writable`; from the probe `model-drift`, `encoder-failed`, `encoder-out-of-memory`
 */
export async function convertModel(
  options: ConvertOptions,
  onProgress: ConvertProgress = () => {},
): Promise<ModelInfo> {
  const entry = options.id === undefined ? (options.entry ?? null) : requireEntry(options.id);
  const dir = (await isDirectory(options.from)) ? options.from : dirname(options.from);
  const opened = await openWeights(options.from);
  try {
    const recognised = recogniseNaming(opened);
    if (recognised === null) {
      const some = [...opened.tensors.keys()].slice(0, 3).join(', ');
      throw new NightshiftError('weights-unsupported', `${opened.file}: no known layout has tensors like ${some}`);
    }
    const { naming, weights, prefix } = recognised;
    const model = findTransformer(weights, naming);
    const companions = await readCompanions(dir);
    const sources: Sources = { options, companions, entry, naming, weights };
    checkAgainst(model, sources);
    const settings = chooseSettings(model, sources);
    const graph = buildGraph(model, settings);
    const { precision = 'fp32', probe: wantsProbe = true } = options;
    const float32 =
      wantsProbe && precision !== 'fp32'
        ? buildGraph(model, { ...settings, precision: 'fp32', patchGrid: false })
        : null;

    const written = dataBytes(graph) + (float32 === null ? 0 : dataBytes(float32));
    const total = weights.size + written;
    let done = 0;
    let stage: Parameters<ConvertProgress>[2] = 'converting';
    const onBytes = (bytes: number) => {
      done += bytes;
      onProgress(done, total, stage);
    };
    await checkTarget(options.to, written);
    const file = basename(weights.file);
    const sha256 = await weights.digest(onBytes);
    checkDigest(file, sha256, { expected: options.sha256, entry });
    const source = { file, sha256, prefix, origin: options.origin ?? null };
    let info: ModelInfo | undefined;
    await writeWhole(options.to, async (partial) => {
      const files = await writeGraph(partial, graph, onBytes);
      const made = describe(model, settings, sources, source, files);
      if (wantsProbe) {
        stage = 'probing';
        onProgress(done, total, stage);
      }
      const probe = wantsProbe ? await makeProbe(partial, made, float32, onBytes) : null;
      info = { ...made, probe };
      const json = Buffer.from(`${JSON.stringify(info, null, 2)}\n`);
      await writeFile(partial, MODEL_FILE, (append) => append(json));
    });
    onProgress(total, total, stage);
    return info!;
  } finally {
    await opened.close();
  }
}

/** Weights whose digest is known must be those, before a tensor of them is used. */
function checkDigest(
  file: string,
  sha256: string,
  { expected, entry }: { expected: string | undefined; entry: CatalogEntry | null },
): void {
  const published = entry?.source.weights.find(({ path }) => basename(path) === file)?.sha256;
  const wrong = [expected, published].find((known) => known !== undefined && known !== sha256);
  if (wrong === undefined) return;
  throw new NightshiftError('weights-digest', `${file} has the sha256 ${sha256}, and should have ${wrong}`);
}

function describe(
  model: VisionTransformer,
  settings: Settings,
  { options, entry, companions, naming }: Sources,
  source: ModelInfo['weights'],
  files: ModelInfo['files'],
): Omit<ModelInfo, 'probe'> {
  const { inputPx, heads, eps, mean, std, preprocessingFrom, resize, embedding } = settings;
  const interpolation = settings.posInterpolation;
  const grid = inputPx / model.patchPx;
  const architecture = {
    depth: model.blocks.length,
    width: model.width,
    heads,
    mlp: model.blocks[0]!.mlp.kind,
    mlpHidden: model.mlpHidden,
    patchPx: model.patchPx,
    registers: model.registerCount,
    layerScale: model.blocks[0]!.scale1 !== null,
    eps,
  };
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
      ...architecture,
      storedGrid: model.storedGrid,
      parameters: model.parameters,
      gflopPerTile: gflopPerTile(architecture, inputPx),
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
  const file = basename(path).replace(/\.(safetensors|bin|pth|pt|ckpt|torch|index\.json)$/, '');
  return ['model', 'pytorch_model', 'model.safetensors'].includes(file) ? basename(dirname(path)) : file;
}
