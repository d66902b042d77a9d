import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, mkdtemp, open, readdir, rename, rm, stat, statfs } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { NightshiftError } from '../../errors.ts';
import type { ModelFile } from '../encoder.ts';
import { MODEL_FILE } from '../info.ts';
import { BYTES_PER_VALUE, type DataRange, encodeModel, type OnnxGraph } from './onnx-proto.ts';

export const GRAPH_FILE = 'model.onnx';
export const DATA_FILE = 'model.onnx.data';

/** ONNX asks for page-aligned external data, so that it can be mapped. */
const ALIGNMENT = 4096;
/** A conversion writes all the time: its directory is dead when nothing was written for this long. */
const DEAD_AFTER_MS = 10 * 60_000;

/** Bytes of the data file of a graph. */
export const dataBytes = (graph: OnnxGraph): number => layOut(graph).at(-1)?.end ?? 0;

function layOut(graph: OnnxGraph): (DataRange & { readonly end: number })[] {
  let end = 0;
  return graph.weights.map(({ type, shape }) => {
    const offset = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
    const length = shape.reduce((product, n) => product * n, BYTES_PER_VALUE[type]);
    end = offset + length;
    return { offset, length, end };
  });
}

/**
 * Writes model.onnx and model.onnx.data into `dir`, one tensor at a time: no more than one tensor is in memory. The same graph
 * gives the same bytes.
 */
export async function writeGraph(
  dir: string,
  graph: OnnxGraph,
  onBytes: (bytes: number) => void,
): Promise<{ graph: ModelFile; data: ModelFile }> {
  const ranges = layOut(graph);
  const data = await writeFile(dir, DATA_FILE, async (append) => {
    for (const [i, { name, shape, read }] of graph.weights.entries()) {
      const { offset, length } = ranges[i]!;
      const values = await read();
      if (values.byteLength !== length) {
        throw new NightshiftError('internal', `${name}: ${values.length} values for the shape [${shape}]`);
      }
      await append(new Uint8Array(offset - (i === 0 ? 0 : ranges[i - 1]!.end)));
      await append(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      onBytes(length);
    }
  });
  const bytes = encodeModel(graph, DATA_FILE, ranges);
  return { data, graph: await writeFile(dir, GRAPH_FILE, (append) => append(bytes)) };
}

/** Writes one file through to the disk, with its size and sha256. */
export async function writeFile(
  dir: string,
  name: string,
  body: (append: (bytes: Uint8Array) => Promise<void>) => Promise<void>,
): Promise<ModelFile> {
  const hash = createHash('sha256');
  let bytes = 0;
  const handle = await open(join(dir, name), 'wx');
  try {
    await body(async (chunk) => {
      hash.update(chunk);
      bytes += chunk.byteLength;
      await writeAll(handle, chunk);
    });
    await handle.sync();
  } finally {
    await handle.close();
  }
  return { name, bytes, sha256: hash.digest('hex') };
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.byteLength; ) {
    done += (await handle.write(chunk, done, chunk.byteLength - done)).bytesWritten;
  }
}

/**
 * Tells early whether `writeWhole` can succeed: only nothing, an empty directory or another model is in the way, and there is room.
 *
 * @throws NightshiftError `disk-full`, `out-not-writable`
 */
export async function checkTarget(to: string, neededBytes: number): Promise<void> {
  const target = resolve(to);
  try {
    await checkReplaceable(target);
    await mkdir(dirname(target), { recursive: true });
    await checkSpace(dirname(target), neededBytes);
  } catch (error) {
    throw asOutError(error, target);
  }
}

/**
 * Makes a directory whole or not at all: `fill` writes into one beside `to`, which is renamed into place when it is complete.
 * What a dead process left behind is removed first. A model directory that is already there is replaced.
 *
 * @throws NightshiftError `disk-full`, `out-not-writable`
 */
export async function writeWhole(to: string, fill: (dir: string) => Promise<void>): Promise<void> {
  const target = resolve(to);
  const [parent, prefix] = [dirname(target), `.${basename(target)}.converting-`];
  let dir: string | undefined;
  try {
    await removeLeftovers(parent, prefix);
    dir = await mkdtemp(join(parent, `${prefix}${hostname()}-${process.pid}-`));
    await fill(dir);
    await moveIntoPlace(dir, target);
  } catch (error) {
    if (dir) await rm(dir, { recursive: true, force: true });
    throw asOutError(error, target);
  }
}

async function checkReplaceable(target: string): Promise<void> {
  const entries = await readdir(target).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  if (entries.length > 0 && !entries.includes(MODEL_FILE)) {
    throw new NightshiftError('out-not-writable', `${target} exists and is not a model directory`, {
      next: 'Choose another directory for the model.',
    });
  }
}

async function moveIntoPlace(dir: string, target: string): Promise<void> {
  const old = `${dir}-replaced`;
  const replaces = await rename(target, old).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );
  await rename(dir, target);
  if (replaces) await rm(old, { recursive: true, force: true });
}

async function checkSpace(parent: string, neededBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(parent);
  if (bavail * bsize < neededBytes) {
    throw new NightshiftError(
      'disk-full',
      `${parent} has ${bavail * bsize} bytes free, the model needs ${neededBytes}`,
    );
  }
}

async function removeLeftovers(parent: string, prefix: string): Promise<void> {
  for (const name of await readdir(parent)) {
    if (name.startsWith(prefix) && (await isDead(parent, name, prefix))) {
      await rm(join(parent, name), { recursive: true, force: true });
    }
  }
}

/** By its process where that ran on this host, else (and for a reused process id) by the age of its last write. */
async function isDead(parent: string, name: string, prefix: string): Promise<boolean> {
  const own = `${prefix}${hostname()}-`;
  if (name.startsWith(own) && !isAlive(Number.parseInt(name.slice(own.length), 10))) return true;
  const dir = join(parent, name);
  const files = [dir, ...(await readdir(dir)).map((file) => join(dir, file))];
  const written = await Promise.all(files.map(async (file) => (await stat(file)).mtimeMs));
  return Date.now() - Math.max(...written) > DEAD_AFTER_MS;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

const FULL = ['ENOSPC', 'EDQUOT', 'EFBIG'];
const NOT_WRITABLE = ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST'];

/** What went wrong on the disk, as an error for people. */
export function asOutError(error: unknown, target: string): unknown {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  const message = (error as Error).message;
  if (FULL.includes(code)) return new NightshiftError('disk-full', `${target}: ${message}`, { cause: error });
  if (NOT_WRITABLE.includes(code)) {
    return new NightshiftError('out-not-writable', `${target}: ${message}`, {
      cause: error,
      next: 'Choose another directory for the model, or change the permissions of this one.',
    });
  }
  return error;
}
