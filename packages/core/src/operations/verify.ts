import { composeBlobs, composeStore } from '../compose.ts';
import { openRecord } from '../record/record.ts';
import { type VerifyReport, verifyRecord } from '../record/verify.ts';

export interface VerifyOptions {
  readonly out: string;
  /** Null: the only one. */
  readonly run: string | null;
  readonly store: string | null;
  /** After each slide. */
  readonly onSlide?: (done: number, total: number) => void;
}

/** Recounts a record: plans against rows, failures, vectors and the vector store. Changes nothing. */
export async function verify(options: VerifyOptions): Promise<VerifyReport> {
  const record = await openRecord(await composeBlobs(options.out));
  const run = await record.pickRun(options.run);
  const store = await composeStore(options.store, {
    out: options.out,
    recipeId: run.recipeId,
    dims: run.recipe.model.dims,
  });
  try {
    return await verifyRecord(record, run, { store, onSlide: options.onSlide });
  } finally {
    await store?.close();
  }
}
