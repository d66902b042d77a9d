import { composeBlobs } from '../compose.ts';
import type { ErrorCode } from '../errors.ts';
import { openRecord } from '../record/record.ts';
import { slideNamed } from './slide-names.ts';

export interface RetryOptions {
  readonly out: string;
  /** Null: the only one. */
  readonly run: string | null;
  /** Only failures of this code; null: of any. */
  readonly code: string | null;
  /** Only these slides, by key, file name or stem; empty: all. */
  readonly slides: readonly string[];
}

export interface RetryReport {
  readonly version: 1;
  readonly run: string;
  /** Slides whose failure was forgotten: they are planned again. */
  readonly slides: readonly string[];
  /** Slides of which the shards with failed tiles are embedded again. */
  readonly reopened: readonly { readonly slide: string; readonly tiles: number }[];
}

/**
 * Forgets failures, so that the next `embed` or `submit` of the same run tries them again. Of a slide with failed tiles only the
 * shards that hold them are opened again; vectors of the others stay.
 */
export async function retry(options: RetryOptions): Promise<RetryReport> {
  const record = await openRecord(await composeBlobs(options.out));
  const run = await record.pickRun(options.run);
  const { recipe, recipeId } = run;
  const dataset = await Array.fromAsync(record.runSlides(run.id));
  const chosen = options.slides.length > 0 ? options.slides.map((name) => slideNamed(name, dataset)) : dataset;
  const fits = (code: ErrorCode) => options.code === null || code === options.code;
  const slides: string[] = [];
  const reopened: { slide: string; tiles: number }[] = [];
  const ledgers = new Set(await Array.fromAsync(record.listFailures(recipeId)));

  for (const slide of chosen) {
    if (!ledgers.has(slide.key)) continue;
    const ledger = await record.getFailures(recipeId, slide.key);
    if (ledger?.slide && fits(ledger.slide.code)) {
      await record.putFailures(recipeId, slide, { slide: null, tiles: [] });
      slides.push(slide.key);
    } else if (ledger?.tiles.some(({ error }) => fits(error.code))) {
      const plan = await record.getPlan(recipeId, slide.key);
      if (!plan) continue;
      const tiles = await record.reopenSlide(recipe, plan, (failure) => fits(failure.error.code));
      if (tiles > 0) reopened.push({ slide: slide.key, tiles });
    }
  }
  return { version: 1, run: run.id, slides, reopened };
}
