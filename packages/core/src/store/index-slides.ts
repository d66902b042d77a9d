import { NightshiftError } from '../errors.ts';
import type { Record } from '../record/record.ts';
import type { TileFile } from '../record/tile-file.ts';
import type { StoreRows, VectorStore } from './store.ts';

/**
 * Brings the rows of a slide file into the store, unless it holds as many of the slide already: what the store holds is asked of
 * the store itself, so that it can be interrupted, or deleted, at any time.
 * @returns what was done
 * @throws `record-corrupt` when there is no whole slide file
 */
export async function indexSlide(
  record: Record,
  recipe: string,
  slide: string,
  store: VectorStore,
): Promise<'written' | 'exists'> {
  const file = await record.readSlide(recipe, slide);
  if (!file) throw new NightshiftError('record-corrupt', `${record.uri} has no slide file of ${slide}`);
  try {
    if ((await store.count(slide)) === file.rows) return 'exists';
    await store.upsertSlide(slide, storeRows(file));
    return 'written';
  } finally {
    await file.close();
  }
}

/** `indexSlide` for many. @returns how many slides were written */
export async function indexSlides(
  record: Record,
  recipe: string,
  slides: AsyncIterable<string> | Iterable<string>,
  store: VectorStore,
): Promise<number> {
  let written = 0;
  for await (const slide of slides) {
    if ((await indexSlide(record, recipe, slide, store)) === 'written') written += 1;
  }
  return written;
}

async function* storeRows(file: TileFile): AsyncGenerator<StoreRows> {
  const { key, uri } = file.info.slide;
  for await (const rows of file.batches()) yield { slide: key, uri, ...rows };
}
