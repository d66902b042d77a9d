import { composeBlobs, composeListing } from '../compose.ts';
import { type FoundModel, findModel } from '../model/find.ts';
import type { Recipe } from '../plan/plan.ts';
import { recipeId } from '../plan/recipe.ts';
import { openRecord, type Record } from '../record/record.ts';
import { type RunFile, runId } from '../record/run.ts';
import { outlineFolder } from '../source/outlines.ts';
import { type Dataset, listDataset, type MppRule, type OutlineSource } from './dataset.ts';
import { type RecipeOptions, recipeOf } from './recipe-options.ts';
import { versions } from './versions.ts';

export interface SealOptions extends RecipeOptions {
  /** Files, directories, globs, manifests. */
  readonly sources: readonly string[];
  /** A model directory, or a name to look for in `modelDirs`. */
  readonly model: string;
  readonly modelDirs: readonly string[];
  /** Where the record lies. */
  readonly out: string;
  /** A folder or prefix with a GeoJSON outline a slide, for the tissue method `outline`. */
  readonly tissueOutlines?: string | null;
  /** um/px of the slides that fit a pattern; a manifest's own goes before, `slideMpp` after. */
  readonly slideMpps?: readonly MppRule[];
  /** Tiles a shard, at most. */
  readonly shardTiles: number;
  /** Whether tiles are measured for QC: columns in the slide files, and no other vectors. */
  readonly qc?: boolean;
  /** `lancedb:<dir>`, `none`, or null for `<out>/store`. */
  readonly store: string | null;
}

/** A run whose dataset is written down: `record.runSlides` gives it. */
export interface SealedRun {
  readonly run: RunFile;
  readonly record: Record;
  readonly model: FoundModel;
}

/**
 * Lists the slides, derives recipe and run from them, and writes both down. The same options on the same slides give the same run;
 * what an earlier command wrote stays.
 */
export async function sealRun(
  options: SealOptions,
  hooks: { readonly signal: AbortSignal; readonly onNotice: (message: string) => void },
): Promise<SealedRun> {
  const model = await findModel(options.model, options.modelDirs);
  const recipe = recipeOf(options, model.info);
  // Where nothing can be listed there is no record, unless outlines were to be kept.
  let opening: Promise<Record> | null = null;
  const opened = () => {
    opening ??= composeBlobs(options.out).then((blobs) => openRecord(blobs, { create: true }));
    return opening;
  };
  const dataset = await listDataset(options.sources, {
    signal: hooks.signal,
    onWarning: hooks.onNotice,
    slideMpps: options.slideMpps ?? [],
    outlines: await outlinesOf(options, async (outline) => (await opened()).putOutline(outline)),
  });
  try {
    const record = await opened();
    const run = await seal(record, recipe, dataset, options, model, hooks.onNotice);
    return { run, record, model };
  } finally {
    await dataset.close();
  }
}

/** The folder of outlines that the options name, or null. @throws `source-not-found` */
export async function outlinesOf(
  { tissueOutlines = null }: SealOptions,
  keep: OutlineSource['keep'],
): Promise<OutlineSource | null> {
  return tissueOutlines === null ? null : { folder: await outlineFolder(tissueOutlines, composeListing), keep };
}

async function seal(
  record: Record,
  recipe: Recipe,
  dataset: Dataset,
  options: SealOptions,
  model: FoundModel,
  onNotice: (message: string) => void,
): Promise<RunFile> {
  const id = recipeId(recipe);
  const { digest, slides } = dataset;
  const run: RunFile = {
    version: 1,
    id: runId(digest, id),
    recipeId: id,
    recipe,
    dataset: { digest, slides },
    sealed: true,
    options: { shardTiles: options.shardTiles, ...(options.qc ? { qc: true } : {}), store: options.store },
    versions: versions(),
  };
  for (const other of await record.listRuns()) {
    if (other.recipeId === id) continue;
    onNotice(
      `This record also holds run ${other.id} of another recipe (${other.recipe.model.name}); the two are kept apart.`,
    );
  }
  await record.putModel(id, model.info);
  await record.putRun(run, dataset.refs());
  if (dataset.described > 0) await record.putMetadata(run.id, dataset.metadata());
  return run;
}
