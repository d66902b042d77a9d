import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { convertModel, type EmbedOptions, embed, openEncoder, writeRandomDinov2 } from '@nightshift/core';

/** Tiles of the short and the long run; their difference cancels what a run costs once: model load, tissue, plan. */
const SHORT = 100;
const LONG = 400;
const BATCH = 4;
const ROUNDS = 3;

export interface PipelineResult {
  readonly encoderTilesPerSecond: number;
  readonly pipelineTilesPerSecond: number;
  readonly ratio: number;
}

/**
 * End-to-end tiles/s (read, decode, infer, record, vector store) over the tiles/s of the encoder alone, fed from memory, with the
 * same batch size and threads, before and after the run: a machine that others share is not as fast throughout. The model has ViT-S's size (12 blocks, 384 wide, 12 GFLOP a tile) and random weights, so that an
 * encoder run is short enough to be overtaken by a slow reader: a ViT-g hides twenty times more.
 */
export async function benchPipeline(slide: string): Promise<PipelineResult> {
  const dir = await mkdtemp(join(tmpdir(), 'nightshift-bench-'));
  try {
    await writeRandomDinov2(join(dir, 'weights'), { depth: 12, width: 384, heads: 6, seed: 1 });
    const model = join(dir, 'model');
    await convertModel({ from: join(dir, 'weights'), to: model, name: 'bench-random-vit-s' });
    const rounds: { encoder: number; pipeline: number }[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const before = await encoderAlone(model);
      const short = await run(slide, model, join(dir, `short-${round}`), SHORT);
      const long = await run(slide, model, join(dir, `long-${round}`), LONG);
      const after = await encoderAlone(model);
      rounds.push({ encoder: Math.sqrt(before * after), pipeline: (LONG - SHORT) / (long - short) });
    }
    const encoderTilesPerSecond = median(rounds.map(({ encoder }) => encoder));
    const pipelineTilesPerSecond = median(rounds.map(({ pipeline }) => pipeline));
    const ratio = median(rounds.map(({ encoder, pipeline }) => pipeline / encoder));
    return { encoderTilesPerSecond, pipelineTilesPerSecond, ratio };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

async function encoderAlone(model: string): Promise<number> {
  const encoder = await openEncoder({ dir: model, device: 'cpu', threads: availableParallelism(), maxBatch: BATCH });
  try {
    const px = encoder.model.inputPx;
    const tiles = Uint8Array.from({ length: BATCH * px * px * 3 }, (_, i) => (i * 2654435761) >>> 24);
    await encoder.embed(tiles, BATCH);
    const batches = (LONG - SHORT) / BATCH;
    const started = performance.now();
    const waiting = new Set<Promise<unknown>>();
    for (let sent = 0; sent < batches; sent++) {
      const call = encoder.embed(tiles, BATCH).finally(() => waiting.delete(call));
      waiting.add(call);
      if (waiting.size > encoder.lookAhead) await Promise.race(waiting);
    }
    await Promise.all(waiting);
    return (batches * BATCH) / ((performance.now() - started) / 1000);
  } finally {
    await encoder.close();
  }
}

/** Seconds of a whole run. */
async function run(slide: string, model: string, out: string, limit: number): Promise<number> {
  const options: EmbedOptions = {
    sources: [slide],
    model,
    modelDirs: [],
    out,
    tilePx: null,
    mpp: null,
    overlapPx: 0,
    embedding: null,
    tissue: { method: 'auto', min: 0.4 },
    filter: 'none',
    slideMpp: null,
    limit,
    shardTiles: 256,
    batch: BATCH,
    threads: availableParallelism(),
    decodeThreads: null,
    device: 'cpu',
    store: null,
  };
  const started = performance.now();
  const report = await embed(options, { signal: new AbortController().signal });
  if (report.tiles.embedded !== limit) throw new Error(`embedded ${report.tiles.embedded} of ${limit} tiles`);
  return (performance.now() - started) / 1000;
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1];
