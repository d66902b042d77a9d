import { NightshiftError } from '../errors.ts';
import { shardsOf } from '../plan/grid.ts';
import type { Plan, Shard } from '../plan/plan.ts';
import { byMeasure } from '../plan/qc.ts';
import { MEASURES } from '../slide/measure/measure.ts';
import type { TileRows } from './arrow.ts';
import type { TileFailure, TileFile } from './tile-file.ts';

/**
 * The shards of a slide file that hold no failure of the wanted kind, with their rows and their other failures, one after the other:
 * what a slide keeps when it is opened again. The others are left out.
 */
export async function* shardsToKeep(
  file: TileFile,
  plan: Plan,
  again: (failure: TileFailure) => boolean,
): AsyncGenerator<{ readonly shard: Shard; readonly rows: TileRows; readonly failures: readonly TileFailure[] }> {
  const failed = new Map(file.info.failures.map((failure) => [`${failure.x},${failure.y}`, failure]));
  const rows = rowsOneByOne(file);
  for (const shard of shardsOf(plan)) {
    const failures: TileFailure[] = [];
    const x: number[] = [];
    const y: number[] = [];
    const vectors = new Float32Array((shard.to - shard.from) * file.dims);
    const patch = new Float16Array((shard.to - shard.from) * file.patch);
    const qc = byMeasure(() => new Float32Array(shard.to - shard.from));
    for (let i = shard.from; i < shard.to; i++) {
      const failure = failed.get(`${plan.x[i]},${plan.y[i]}`);
      if (failure) {
        failures.push(failure);
        continue;
      }
      const { value: row } = await rows.next();
      if (!row || row.x !== plan.x[i] || row.y !== plan.y[i]) {
        throw new NightshiftError(
          'record-corrupt',
          `the slide file of ${plan.slide.key} does not hold tile ${i} of its plan`,
        );
      }
      vectors.set(row.vector, x.length * file.dims);
      if (row.patch) patch.set(row.patch, x.length * file.patch);
      if (row.qc) for (const measure of MEASURES) qc[measure][x.length] = row.qc[measure];
      x.push(row.x);
      y.push(row.y);
    }
    if (failures.some(again)) continue;
    const kept = { x: Int32Array.from(x), y: Int32Array.from(y), vectors: vectors.subarray(0, x.length * file.dims) };
    const grids = file.patch > 0 && { patch: patch.subarray(0, x.length * file.patch) };
    const measured = file.qc && { qc: byMeasure((measure) => qc[measure].subarray(0, x.length)) };
    yield { shard, rows: { ...kept, ...grids, ...measured }, failures };
  }
}

async function* rowsOneByOne(file: TileFile) {
  for await (const { x, y, vectors, patch, qc } of file.batches()) {
    for (let i = 0; i < x.length; i++) {
      const grid = patch?.subarray(i * file.patch, (i + 1) * file.patch);
      const vector = vectors.subarray(i * file.dims, (i + 1) * file.dims);
      yield { x: x[i], y: y[i], vector, patch: grid, qc: qc && byMeasure((measure) => qc[measure][i]) };
    }
  }
}
