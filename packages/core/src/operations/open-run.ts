import { composeBlobs, composeStore } from '../compose.ts';
import { NightshiftError } from '../errors.ts';
import type { ModelInfo } from '../model/encoder.ts';
import type { Run } from '../pipeline/context.ts';
import type { Job } from '../queue/queue.ts';
import { openRecord, type Record } from '../record/record.ts';
import type { RunFile } from '../record/run.ts';
import type { VectorStore } from '../store/store.ts';
import { fitOf } from './recipe-options.ts';

/** A run of a record as the roles see it. `model` is the one that this process knows, or null. */
export function asRun(out: string, record: Record, run: RunFile, model: ModelInfo | null): Run {
  const { id, recipe, recipeId, options } = run;
  const known = model?.digest === recipe.model.digest ? model : null;
  let store: Promise<VectorStore | null> | null = null;
  return {
    id,
    out,
    recipe,
    recipeId,
    record,
    store() {
      store ??= composeStore(options.store, { out, recipeId, dims: recipe.model.dims });
      return store;
    },
    fit: known && fitOf(recipe, known),
    shardTiles: options.shardTiles,
    qc: options.qc === true,
  };
}

/** Runs that a process works for, each opened once. */
export interface RunRegistry {
  runOf(job: Pick<Job, 'out' | 'run'>): Promise<Run>;
}

export function runRegistry(model: ModelInfo | null): RunRegistry {
  const runs = new Map<string, Promise<Run>>();

  async function open({ out, run: id }: Pick<Job, 'out' | 'run'>): Promise<Run> {
    const record = await openRecord(await composeBlobs(out));
    const run = await record.getRun(id);
    if (!run) throw new NightshiftError('run-not-found', `${out} holds no run ${id}`);
    return asRun(out, record, run, model);
  }

  return {
    runOf(job) {
      const key = `${job.out}\n${job.run}`;
      const known = runs.get(key);
      if (known) return known;
      const opening = open(job);
      runs.set(key, opening);
      // A failed opening is not remembered: the store may be back.
      opening.catch(() => runs.delete(key));
      return opening;
    },
  };
}
