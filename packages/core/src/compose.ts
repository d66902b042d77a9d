import { resolve } from 'node:path';
import { NightshiftError } from './errors.ts';
import type { Encoder } from './model/encoder.ts';
import type { BullQueueOptions } from './queue/bullmq.ts';
import type { Queue } from './queue/queue.ts';
import type { Blobs } from './record/blobs.ts';
import type { ObjectListing } from './source/list.ts';
import type { S3 } from './source/s3-client.ts';
import type { S3Observer } from './source/s3-requests.ts';
import type { SeriesIndex } from './source/series.ts';
import type { ByteSource } from './source/source.ts';
import type { VectorStore } from './store/store.ts';

/**
 * The composition root: the only file that knows which driver serves which URI scheme. Drivers are loaded when they are used,
 * so that `nightshift --help` opens no native library.
 */

function schemeOf(uri: string): string {
  return /^([a-z][a-z0-9+.-]*):\/\//i.exec(uri)?.[1].toLowerCase() ?? 'file';
}

function unsupported(what: string, uri: string, next: string): NightshiftError {
  return new NightshiftError('usage', `${what} ${uri}: the scheme ${schemeOf(uri)}:// is not supported here`, { next });
}

let observer: S3Observer | null = null;
const clients = new Map<string, S3>();

/** Who is told of every request to S3, also of clients that are made later. One for the process. */
export function observeS3(told: S3Observer): void {
  observer = told;
}

/** The process's client of the store that its environment names: one, so that all requests share one limit. */
async function s3Client(): Promise<S3> {
  const [{ s3ConfigFromEnv }, { connectS3 }] = await Promise.all([
    import('./source/s3-config.ts'),
    import('./source/s3-client.ts'),
  ]);
  const config = s3ConfigFromEnv(process.env);
  const name = JSON.stringify(config);
  const known = clients.get(name);
  if (known) return known;
  const client = connectS3(config, {
    observer: {
      request: (operation, statusClass) => observer?.request(operation, statusClass),
      bytes: (count) => observer?.bytes(count),
      retry: (reason) => observer?.retry(reason),
    },
  });
  clients.set(name, client);
  return client;
}

/** The store that a source lies in, for listing; null: none that is known. */
export async function composeListing(uri: string): Promise<ObjectListing | null> {
  if (schemeOf(uri) !== 's3') return null;
  const [{ s3Listing }, client] = await Promise.all([import('./source/s3-list.ts'), s3Client()]);
  return s3Listing(client);
}

let seriesKnown: Promise<SeriesIndex> | null = null;

/** Which series the DICOM files of a folder are of: one memory for the process. */
export function composeSeries(): Promise<SeriesIndex> {
  seriesKnown ??= Promise.all([import('./source/series.ts'), import('./slide/dicom/instance.ts')]).then(
    ([{ seriesIndex }, { readHead }]) => seriesIndex(composeSource, readHead),
  );
  return seriesKnown;
}

/** The bytes of a slide: a file, an object, a folder of DICOM files of either, one series of such a folder, or a .mrxs file with its folder. */
export async function composeSource(uri: string): Promise<ByteSource> {
  const [{ filesOf, isMirax, miraxFolder, openFolder, openMiraxFiles }, { parseSeriesUri }] = await Promise.all([
    import('./source/folder.ts'),
    import('./source/series.ts'),
  ]);
  const named = parseSeriesUri(uri);
  const only = named && { series: named.series, index: await composeSeries() };
  if (schemeOf(uri) === 's3') {
    const [{ openS3 }, { s3Listing }, client] = await Promise.all([
      import('./source/s3.ts'),
      import('./source/s3-list.ts'),
      s3Client(),
    ]);
    const open = (object: string) => openS3(object, client);
    const list = s3Listing(client);
    if (only) return openFolder(uri, list.filesOf(named.folder), open, only);
    if (isMirax(uri)) return openMiraxFiles(uri, list.filesOf(`${miraxFolder(uri)}/`), open);
    return uri.endsWith('/') ? openFolder(uri, list.filesOf(uri), open) : open(uri);
  }
  if (schemeOf(uri) !== 'file') throw unsupported('slide', uri, 'Give a path on this machine.');
  const { openFile } = await import('./source/file.ts');
  const files = await filesOf(uri);
  if (files !== null) return openFolder(resolve(uri), files, openFile);
  if (isMirax(uri)) return openMiraxFiles(resolve(uri), (await filesOf(miraxFolder(uri))) ?? [], openFile);
  const around = only && (await filesOf(named.folder));
  return around ? openFolder(resolve(uri), around, openFile, only) : openFile(uri);
}

/** A record's name that means the same on every machine that reaches it. */
export const recordUri = (out: string): string => (schemeOf(out) === 'file' ? resolve(out) : out.replace(/\/+$/, ''));

/** Where a record lies. */
export async function composeBlobs(out: string): Promise<Blobs> {
  if (schemeOf(out) === 's3') {
    const [{ s3Blobs }, client] = await Promise.all([import('./record/s3.ts'), s3Client()]);
    return s3Blobs(out, client);
  }
  if (schemeOf(out) !== 'file') throw unsupported('--out', out, 'Give a directory on this machine.');
  const { fileBlobs } = await import('./record/files.ts');
  return fileBlobs(resolve(out));
}

export interface QueueOptions extends Omit<BullQueueOptions, 'url'> {
  /** Told once, at opening, what speaks against the server's version and settings: a sentence each. */
  readonly onWarning?: (warning: string) => void;
}

/** The queue: `redis://`, `rediss://` and what else `parseRedisUrl` takes, or `memory:`, which this process has for itself. */
export async function composeQueue(url: string, options: QueueOptions = {}): Promise<Queue> {
  if (url === 'memory:') {
    const { memoryQueue } = await import('./queue/memory.ts');
    return memoryQueue();
  }
  const { openBullQueue } = await import('./queue/bullmq.ts');
  const queue = await openBullQueue({ ...options, url });
  for (const warning of queue.warnings) options.onWarning?.(warning);
  return queue;
}

/** The vector store of a recipe: `lancedb:<dir or s3://>`, `none`, or null for `<out>/store`. */
export async function composeStore(
  store: string | null,
  options: { readonly out: string; readonly recipeId: string; readonly dims: number },
): Promise<VectorStore | null> {
  if (store === 'none') return null;
  const dir = store === null ? `${options.out}/store` : /^lancedb:(.+)$/.exec(store)?.[1];
  if (!dir) throw new NightshiftError('usage', `--store ${store}`, { next: 'Give lancedb:<dir or s3://> or none.' });
  const { openLance } = await import('./store/lancedb.ts');
  const { recipeId: recipe, dims } = options;
  if (schemeOf(dir) === 's3') return openLance({ dir, recipe, dims, storage: await lanceStorage(dir) });
  if (schemeOf(dir) !== 'file') throw unsupported('--store', dir, 'Give lancedb:<dir or s3://>.');
  return openLance({ dir: resolve(dir), recipe, dims });
}

/** The settings of S3 in LanceDB's words. It reads credentials of the environment and the machine, not of AWS profiles. */
async function lanceStorage(dir: string): Promise<Record<string, string>> {
  const { isUnsigned, parseS3Uri, s3ConfigFromEnv } = await import('./source/s3-config.ts');
  const config = s3ConfigFromEnv(process.env);
  const { endpoint, region, pathStyle, requesterPays } = config;
  return {
    ...(endpoint !== null && { aws_endpoint: endpoint, allow_http: String(endpoint.startsWith('http:')) }),
    ...(region !== null && { aws_region: region }),
    aws_virtual_hosted_style_request: String(!pathStyle),
    aws_skip_signature: String(isUnsigned(config, parseS3Uri(dir).bucket)),
    aws_request_payer: String(requesterPays),
  };
}

export interface EncoderOptions {
  readonly dir: string;
  readonly device: string;
  readonly threads: number | null;
  readonly batch: number | null;
}

/** A model ready to run, whose vectors are on this machine what they were where it was converted. */
export async function composeEncoder(options: EncoderOptions): Promise<Encoder> {
  const [{ openEncoder }, { requireFaithful }] = await Promise.all([
    import('./model/onnx.ts'),
    import('./model/check.ts'),
  ]);
  const encoder = await openEncoder({
    dir: options.dir,
    device: options.device,
    ...(options.threads === null ? {} : { threads: options.threads }),
    ...(options.batch === null ? {} : { maxBatch: options.batch }),
  });
  try {
    await requireFaithful(encoder, options.dir);
    return encoder;
  } catch (error) {
    await encoder.close();
    throw error;
  }
}
