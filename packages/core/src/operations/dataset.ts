import { composeListing, composeSeries, composeSource } from '../compose.ts';
import { isNightshiftError } from '../errors.ts';
import type { SlideRef } from '../plan/plan.ts';
import { slideKey } from '../plan/recipe.ts';
import { listSources } from '../source/list.ts';
import { mpp } from '../units.ts';

/** Slides opened at once while their identities are read. */
const WIDTH = 16;

/**
 * The slides that the sources name, with their identity. A slide that cannot be opened is listed with an empty content id: it
 * fails by name later, and the others go on.
 */
export async function listDataset(
  sources: readonly string[],
  options: { readonly signal: AbortSignal; readonly onWarning: (message: string) => void },
): Promise<SlideRef[]> {
  const entries = await Array.fromAsync(
    listSources(sources, { ...options, objects: composeListing, series: await composeSeries() }),
  );
  const refs = new Array<SlideRef>(entries.length);
  let next = 0;
  async function identify(): Promise<void> {
    for (let i = next++; i < entries.length; i = next++) {
      options.signal.throwIfAborted();
      const { uri, mpp: own, contentId = await contentIdOf(uri) } = entries[i];
      refs[i] = {
        key: slideKey(uri, contentId, own ?? null),
        uri,
        contentId,
        mpp: own === undefined ? null : mpp(own),
      };
    }
  }
  await Promise.all(Array.from({ length: WIDTH }, identify));
  return refs;
}

async function contentIdOf(uri: string): Promise<string> {
  try {
    const source = await composeSource(uri);
    await source.close();
    return source.contentId;
  } catch (error) {
    if (isNightshiftError(error) && error.scope === 'slide') return '';
    throw error;
  }
}
