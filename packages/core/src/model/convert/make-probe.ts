import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { NightshiftError } from '../../errors.ts';
import { driftMessage, toleranceOf, within } from '../check.ts';
import type { ModelInfo, Precision } from '../encoder.ts';
import { loadGraph } from '../onnx-engine.ts';
import { compareVectors, PROBE_FILE, PROBE_TILES, probeFile, probeTiles } from '../probe.ts';
import type { OnnxGraph } from './onnx-proto.ts';
import { GRAPH_FILE, writeFile, writeGraph } from './write.ts';

/**
 * Runs the probe's tiles on a graph that was just written into `dir`, and on the float32 graph where that is another, and keeps
 * the latter's vectors in `dir`. The float32 graph is there for so long only.
 *
 * @throws NightshiftError `model-drift` when the precision does not suit the weights, `weights-invalid` when they give no number,
 * `encoder-failed`, `encoder-out-of-memory`
 */
export async function makeProbe(
  dir: string,
  model: { readonly precision: Precision; readonly inputPx: number; readonly dims: number },
  float32: OnnxGraph | null,
  onBytes: (bytes: number) => void,
): Promise<NonNullable<ModelInfo['probe']>> {
  const { precision, inputPx, dims } = model;
  const own = await vectorsOf(join(dir, GRAPH_FILE), inputPx);
  const reference = float32 === null ? own : await inScratch(dir, float32, inputPx, onBytes);
  if (!reference.every(Number.isFinite)) {
    throw new NightshiftError('weights-invalid', 'the model gives vectors with NaN or infinity');
  }
  const difference = compareVectors(own, reference, dims);
  const tolerance = toleranceOf(precision, 'cpu');
  if (!within(difference, tolerance)) {
    const message = driftMessage(`the converted model`, { ...difference, precision, device: 'cpu', tolerance });
    throw new NightshiftError('model-drift', message, { next: 'Convert it with --precision fp32.' });
  }
  const file = await writeFile(dir, PROBE_FILE, async (append) => {
    for (const bytes of probeFile(reference)) await append(bytes);
  });
  return { file, tiles: 1, ...difference };
}

async function inScratch(dir: string, graph: OnnxGraph, inputPx: number, onBytes: (bytes: number) => void) {
  const scratch = join(dir, 'float32');
  await mkdir(scratch);
  await writeGraph(scratch, graph, onBytes);
  const vectors = await vectorsOf(join(scratch, GRAPH_FILE), inputPx);
  await rm(scratch, { recursive: true });
  return vectors;
}

/** float32 [PROBE_TILES, dims] */
async function vectorsOf(graph: string, inputPx: number): Promise<Float32Array> {
  const loaded = await loadGraph({ graph, device: 'cpu', threads: availableParallelism(), inputPx }, 1);
  try {
    const [vectors] = await loaded.run({ tiles: probeTiles(inputPx), count: PROBE_TILES, outputs: ['embedding'] });
    return vectors!;
  } finally {
    await loaded.close();
  }
}
