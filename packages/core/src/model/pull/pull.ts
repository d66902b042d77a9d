import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { isNightshiftError, NightshiftError } from '../../errors.ts';
import { type CatalogEntry, modelPage } from '../catalog.ts';
import { type ConvertOptions, convertModel } from '../convert/convert.ts';
import type { ModelInfo } from '../encoder.ts';
import { checkModelFiles } from '../info.ts';
import { findCached } from './cache.ts';
import { downloadFile } from './download.ts';
import { connectHub, type Hub, type HubOptions, type RemoteFile } from './hub.ts';
import { type Environment, findToken } from './token.ts';

export interface PullOptions {
  readonly entry: CatalogEntry;
  /** Directory of models: the model becomes `<to>/<id of the entry>`. */
  readonly to: string;
  /** Default: `HF_ENDPOINT`, else huggingface.co. */
  readonly endpoint?: string | null;
  /** File with the hub's token, before all other places. */
  readonly tokenFile?: string | null;
  /** A directory or file with the published weights: nothing is downloaded. */
  readonly from?: string | null;
  /** Makes the model again where it is there already. */
  readonly replace?: boolean;
  /** Leaves the downloaded weights in `<to>/.download-<id>`. */
  readonly keepDownload?: boolean;
  readonly convert?: Pick<ConvertOptions, 'embedding' | 'patchGrid' | 'precision' | 'probe'>;
  readonly env?: Environment;
  readonly signal?: AbortSignal;
  readonly patience?: HubOptions['patience'];
}

export interface PullProgress {
  readonly stage: 'download' | 'convert';
  /** File of the hub. */
  readonly file: string | null;
  /** Bytes. */
  readonly done: number;
  readonly total: number | null;
}

export interface Pulled {
  readonly dir: string;
  readonly model: ModelInfo;
  /** Where the weights came from; `here`: the model was there already. */
  readonly source: 'hub' | 'cache' | 'copy' | 'here';
  /** Files that the hub gave without a digest: their size is all that could be checked. */
  readonly unchecked: readonly string[];
}

export const HUB_ENDPOINT = 'https://huggingface.co';

/**
 * Gets a model of the catalog ready: downloads its weights (or takes them from a copy, or the cache of the hub's own tools),
 * checks them, and converts them to `<to>/<id>`. The same call goes on where it stopped, and does nothing once the model is there.
 *
 * @throws NightshiftError `model-not-public`, `hub-*`, `download-*`, and those of `convertModel`
 */
export async function pullModel(
  options: PullOptions,
  onProgress: (progress: PullProgress) => void = () => {},
): Promise<Pulled> {
  const { entry, env = process.env, signal = new AbortController().signal } = options;
  const { id } = entry;
  const dir = join(resolve(options.to), id);
  const here = options.replace ? null : await modelIn(dir, entry);
  if (here) return { dir, model: here, source: 'here', unchecked: [] };

  const convert = async (from: string, more: Pick<ConvertOptions, 'origin' | 'sha256'>) => {
    signal.throwIfAborted();
    const progress = (done: number, total: number) => onProgress({ stage: 'convert', file: null, done, total });
    return convertModel({ from, to: dir, entry, ...options.convert, ...more }, progress);
  };
  const { repository } = entry.source;
  if (options.from != null) {
    return { dir, model: await convert(options.from, {}), source: 'copy', unchecked: [] };
  }
  if (repository === null) {
    throw new NightshiftError('model-not-public', `the weights of ${entry.id} are not public`, {
      next: `Convert them from files that you hold: \`nightshift model pull ${id} --from <file>\`.`,
    });
  }
  const cached = await findCached(entry, env);
  if (cached) {
    const { file, revision, sha256 } = cached;
    const model = await convert(file, { origin: { repository, revision }, ...(sha256 ? { sha256 } : {}) });
    return { dir, model, source: 'cache', unchecked: [] };
  }
  const endpoint = options.endpoint || env.HF_ENDPOINT || HUB_ENDPOINT;
  if (/^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE ?? '')) {
    throw new NightshiftError(
      'hub-unreachable',
      `${id} is not in the cache, and HF_HUB_OFFLINE forbids to download it`,
      {
        next: 'Unset HF_HUB_OFFLINE, or give a copy of the weights with --from.',
      },
    );
  }
  const hub = connectHub({
    endpoint,
    repository,
    revision: entry.source.revision ?? 'main',
    token: await findToken(env, options.tokenFile ?? null),
    page: modelPage(entry)!,
    ...(options.patience ? { patience: options.patience } : {}),
  });
  const download = join(resolve(options.to), `.download-${id}`);
  const { weights, unchecked } = await fetchFiles(hub, entry, download, signal, options.patience?.retry, onProgress);
  const origin = { repository, revision: weights.file.commit ?? entry.source.revision ?? 'main' };
  const { digest } = weights.file;
  const model = await convert(weights.path, { origin, ...(digest?.kind === 'sha256' ? { sha256: digest.hex } : {}) });
  if (!options.keepDownload) await rm(download, { recursive: true, force: true });
  return { dir, model, source: 'hub', unchecked };
}

async function fetchFiles(
  hub: Hub,
  entry: CatalogEntry,
  dir: string,
  signal: AbortSignal,
  retry: number | undefined,
  onProgress: (progress: PullProgress) => void,
) {
  const { weights, companions, repository } = entry.source;
  const file = await firstOf(
    hub,
    weights.map(({ path }) => path),
    signal,
  );
  if (file === null) {
    const names = weights.map(({ path }) => path).join(' or ');
    throw new NightshiftError('hub-not-found', `${repository} has no ${names} at this revision`);
  }
  checkPinned(entry, file);
  const unchecked: string[] = [];
  const get = async (file: RemoteFile) => {
    const onBytes = (done: number) => onProgress({ stage: 'download', file: file.path, done, total: file.bytes });
    const { path, checked } = await downloadFile({ hub, file, dir, signal, onBytes, ...(retry ? { retry } : {}) });
    if (!checked) unchecked.push(file.path);
    return path;
  };
  for (const name of companions) {
    const companion = await hub.locate(name, signal);
    if (companion) await get(companion);
  }
  return { weights: { file, path: await get(file) }, unchecked };
}

async function firstOf(hub: Hub, paths: readonly string[], signal: AbortSignal): Promise<RemoteFile | null> {
  for (const path of paths) {
    const file = await hub.locate(path, signal);
    if (file) return file;
  }
  return null;
}

/** Sees before gigabytes are downloaded that they are others than the catalog knows. */
function checkPinned({ source, id }: CatalogEntry, { path, digest }: RemoteFile): void {
  const pinned = source.weights.find((file) => file.path === path)?.sha256;
  if (pinned === undefined || digest?.kind !== 'sha256' || digest.hex === pinned) return;
  throw new NightshiftError(
    'weights-digest',
    `the hub has ${path} with the sha256 ${digest.hex}, that of ${id} is ${pinned}`,
    {
      next: 'Check the endpoint (--endpoint, HF_ENDPOINT): a mirror may hold other files.',
    },
  );
}

/** The model, where it is there whole and of the catalog's revision. */
async function modelIn(dir: string, { id, source }: CatalogEntry): Promise<ModelInfo | null> {
  try {
    const info = await checkModelFiles(dir);
    const revision = info.weights.origin?.revision ?? source.revision;
    return info.id === id && (source.revision === null || revision === source.revision) ? info : null;
  } catch (error) {
    if (isNightshiftError(error, 'model-not-found', 'model-invalid', 'model-digest')) return null;
    throw error;
  }
}
