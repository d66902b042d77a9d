import { readFile, realpath, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { CatalogEntry } from '../catalog.ts';
import { type Environment, hubHome } from './token.ts';

/** Weights that the hub's own tools downloaded before. */
export interface CachedWeights {
  readonly dir: string;
  readonly file: string;
  readonly revision: string;
  /** Of the file, as the cache names it; null where it does not. */
  readonly sha256: string | null;
}

/**
 * Looks for a model's weights in the cache of huggingface_hub: `models--<owner>--<name>/snapshots/<commit>/<file>`, a link to
 * `blobs/<digest>`. Only the revision that the catalog names will do.
 */
export async function findCached({ source }: CatalogEntry, env: Environment): Promise<CachedWeights | null> {
  if (source.repository === null) return null;
  const cache = env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(hubHome(env), 'hub');
  const folder = join(cache, `models--${source.repository.replaceAll('/', '--')}`);
  const revision = source.revision ?? (await readFile(join(folder, 'refs/main'), 'utf8').catch(() => '')).trim();
  if (!/^[0-9a-f]{40}$/.test(revision)) return null;
  const dir = join(folder, 'snapshots', revision);
  for (const { path } of source.weights) {
    const file = join(dir, path);
    if (await stat(file).catch(() => null)) {
      const blob = basename(await realpath(file));
      return { dir, file, revision, sha256: /^[0-9a-f]{64}$/.test(blob) ? blob : null };
    }
  }
  return null;
}
