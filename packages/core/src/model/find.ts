import { readdir, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { isNightshiftError, NightshiftError } from '../errors.ts';
import { catalogEntry } from './catalog.ts';
import type { ModelInfo } from './encoder.ts';
import { MODEL_FILE, readModel } from './info.ts';

export interface FoundModel {
  readonly dir: string;
  readonly info: ModelInfo;
}

/**
 * The model directory that a person means: a path, or the name or catalog id of a model in one of `searchDirs`, first match.
 *
 * @throws NightshiftError `model-not-found`, telling what was searched and how to get the model; `model-invalid`
 */
export async function findModel(nameOrDir: string, searchDirs: readonly string[]): Promise<FoundModel> {
  if (await exists(join(nameOrDir, MODEL_FILE))) return read(resolve(nameOrDir));
  for (const searchDir of searchDirs) {
    const found = await findIn(resolve(searchDir), nameOrDir);
    if (found) return found;
  }
  throw await notFound(nameOrDir, searchDirs);
}

const read = async (dir: string): Promise<FoundModel> => ({ dir, info: await readModel(dir) });

async function findIn(searchDir: string, name: string): Promise<FoundModel | null> {
  if (isPlainName(name) && (await exists(join(searchDir, name, MODEL_FILE)))) return read(join(searchDir, name));
  return (await listModels([searchDir])).find(({ info }) => info.id === name || info.name === name) ?? null;
}

/** The models of some directories, in their order, then by directory name. What is no model there is passed over. */
export async function listModels(searchDirs: readonly string[]): Promise<FoundModel[]> {
  const found: FoundModel[] = [];
  for (const searchDir of searchDirs) {
    const entries = await readdir(searchDir).catch(() => []);
    for (const entry of entries.filter((entry) => !entry.startsWith('.')).sort()) {
      const model = await read(resolve(searchDir, entry)).catch((error) => {
        if (isNightshiftError(error, 'model-invalid', 'model-not-found')) return null;
        throw error;
      });
      if (model) found.push(model);
    }
  }
  return found;
}

async function notFound(nameOrDir: string, searchDirs: readonly string[]): Promise<NightshiftError> {
  const searched = searchDirs.length > 0 ? `, and not in ${searchDirs.join(', ')}` : '';
  const what = (await exists(nameOrDir))
    ? `is no model directory: it has no ${MODEL_FILE}`
    : `is no directory${searched}`;
  const entry = catalogEntry(nameOrDir);
  if (!entry) return new NightshiftError('model-not-found', `--model ${nameOrDir} ${what}`);
  const next =
    entry.source.access === 'unpublished'
      ? `It is not published: \`nightshift model convert <file> --id ${entry.id} --to models/${entry.id}\` makes it of files you hold.`
      : `Run \`nightshift model pull ${entry.id}\`; it goes to ./models, or name another directory with --to and --models.`;
  return new NightshiftError('model-not-found', `--model ${nameOrDir} ${what}`, { next });
}

const isPlainName = (name: string): boolean => !/[/\\]/.test(name) && !name.startsWith('.');

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  );
