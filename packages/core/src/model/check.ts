import { NightshiftError } from '../errors.ts';
import type { Encoder, Precision } from './encoder.ts';
import { compareVectors, type Difference, PROBE_TILES, probeTiles, readProbe } from './probe.ts';

/**
 * How far a model's vectors may be from those of its float32 graph, at conversion and on every machine that runs it.
 *
 * fp32 on a CPU: kernels of another width sum in another order. fp32 elsewhere: CUDA multiplies in TF32, ten bits of mantissa, as
 * fp16 has. int8: what a draft may be off by; unrelated tiles lie far below.
 */
const TOLERANCE: Readonly<Record<'fp32' | 'half' | 'int8', Difference>> = {
  fp32: { cosine: 0.99999, maxError: 0.002 },
  half: { cosine: 0.999, maxError: 0.1 },
  int8: { cosine: 0.95, maxError: 0.5 },
};

export function toleranceOf(precision: Precision, device: string): Difference {
  if (precision === 'int8') return TOLERANCE.int8;
  return precision === 'fp32' && device === 'cpu' ? TOLERANCE.fp32 : TOLERANCE.half;
}

export const within = ({ cosine, maxError }: Difference, tolerance: Difference): boolean =>
  cosine >= tolerance.cosine && maxError <= tolerance.maxError;

export interface CheckReport extends Difference {
  readonly version: 1;
  readonly model: string;
  readonly digest: string;
  readonly precision: Precision;
  readonly device: string;
  /** Tiles of the probe that were run. */
  readonly tiles: number;
  readonly tolerance: Difference;
  readonly ok: boolean;
  /** What the same comparison gave when the model was made, on a CPU. */
  readonly atConversion: Difference;
  readonly seconds: number;
}

/**
 * Runs the first `tiles` tiles of a model's probe and compares the vectors with the stored ones, those of the float32 graph.
 * @returns null for a model that was converted without a probe
 * @throws NightshiftError `model-digest` when the probe file is not the one that model.json speaks of
 */
export async function checkModel(encoder: Encoder, dir: string, tiles = PROBE_TILES): Promise<CheckReport | null> {
  const { name, digest, precision, dims, inputPx, probe } = encoder.model;
  if (probe === null) return null;
  const reference = await readProbe(dir, probe);
  const pixels = probeTiles(inputPx);
  const tileBytes = pixels.length / PROBE_TILES;
  const found = new Float32Array(tiles * dims);
  const started = performance.now();
  for (let from = 0; from < tiles; from += encoder.maxBatch) {
    const to = Math.min(tiles, from + encoder.maxBatch);
    const { embedding } = await encoder.embed(pixels.subarray(from * tileBytes, to * tileBytes), to - from);
    found.set(embedding, from * dims);
  }
  const difference = compareVectors(found, reference, dims);
  const tolerance = toleranceOf(precision, encoder.device);
  return {
    version: 1,
    model: name,
    digest,
    precision,
    device: encoder.device,
    tiles,
    ...difference,
    tolerance,
    ok: within(difference, tolerance),
    atConversion: { cosine: probe.cosine, maxError: probe.maxError },
    seconds: (performance.now() - started) / 1000,
  };
}

/** Half of a probe shows a wrong kernel or driver as well as all of it, and a ViT-g takes seconds a tile on a CPU. */
const TILES_AT_START = 2;

/**
 * Refuses a model whose vectors are not its own on this machine, in this precision. A model without a probe passes.
 * @throws NightshiftError `model-drift`, `model-digest`
 */
export async function requireFaithful(encoder: Encoder, dir: string): Promise<void> {
  const report = await checkModel(encoder, dir, TILES_AT_START);
  if (report === null || report.ok) return;
  throw new NightshiftError('model-drift', driftMessage(dir, report), { data: { ...report } });
}

/** What a check that failed found. */
export function driftMessage(
  what: string,
  {
    device,
    precision,
    cosine,
    maxError,
    tolerance,
  }: Pick<CheckReport, 'device' | 'precision' | 'cosine' | 'maxError' | 'tolerance'>,
): string {
  return (
    `${what} does not give the vectors of its float32 graph: in ${precision} on ${device} they have cosine ` +
    `${cosine.toFixed(6)} (at least ${tolerance.cosine}) and error ${maxError.toPrecision(2)} (at most ${tolerance.maxError})`
  );
}
