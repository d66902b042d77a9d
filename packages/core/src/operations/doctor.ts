import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { availableParallelism, freemem, tmpdir, totalmem } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { composeBlobs, composeEncoder } from '../compose.ts';
import { isNightshiftError, toErrorRecord } from '../errors.ts';
import { convertModel } from '../model/convert/convert.ts';
import { writeRandomDinov2 } from '../model/convert/random-weights.ts';
import { readModel } from '../model/info.ts';
import { childEnvironment } from '../model/onnx-engine.ts';
import { loadJpeg } from '../slide/codec/jpeg.ts';
import { findOpenSlide } from '../slide/openslide/process.ts';
import { versions } from './versions.ts';

export interface DoctorOptions {
  /** A directory that a run would write to, or null. */
  readonly out: string | null;
  readonly modelDirs: readonly string[];
}

/** One thing looked at. `missing` is worth knowing and stops nothing; `broken` stops runs. */
export interface Check {
  readonly name: string;
  readonly state: 'good' | 'missing' | 'broken';
  readonly found: string;
  /** One line that mends it; null when it is good. */
  readonly fix: string | null;
}

export interface DoctorReport {
  readonly version: 1;
  readonly checks: readonly Check[];
  /** False when a check is broken. */
  readonly healthy: boolean;
}

/** Looks at everything a run needs, by using it: a tiny model is made, loaded and run on each device. */
export async function doctor(options: DoctorOptions, signal?: AbortSignal): Promise<DoctorReport> {
  const checks = [nodeCheck(), machineCheck(), await jpegCheck(), await openSlideCheck()];
  signal?.throwIfAborted();
  checks.push(...(await engineChecks(signal)), telemetryCheck());
  for (const dir of options.modelDirs) checks.push(await modelsCheck(dir));
  if (options.out !== null) checks.push(await outCheck(options.out));
  return { version: 1, checks, healthy: checks.every(({ state }) => state !== 'broken') };
}

const good = (name: string, found: string): Check => ({ name, state: 'good', found, fix: null });

function nodeCheck(): Check {
  const { node, nightshift } = versions();
  const found = `Node ${node}, nightshift ${nightshift}, ${process.platform} ${process.arch}`;
  if (Number(node.split('.')[0]) >= 24) return good('node', found);
  return { name: 'node', state: 'broken', found, fix: 'Run npm ci, which installs Node 24 beside the packages.' };
}

function machineCheck(): Check {
  const gib = (bytes: number): string => (bytes / 2 ** 30).toFixed(1);
  // Inside a container the limit is the control group's, not the machine's.
  const limit = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  const found = `${availableParallelism()} cores, ${gib(limit)} GiB memory, ${gib(freemem())} GiB free`;
  if (limit >= 2 * 2 ** 30) return good('machine', found);
  return { name: 'machine', state: 'missing', found, fix: 'Give 2 GiB of memory or more (Midnight itself needs 6).' };
}

async function jpegCheck(): Promise<Check> {
  try {
    const { names } = await loadJpeg('auto');
    if (names.includes('native'))
      return good('jpeg decoder', names.length > 1 ? 'built in, and libjpeg-turbo' : 'libjpeg-turbo');
    if (names.includes('built-in')) {
      return good('jpeg decoder', 'built in; progressive JPEG by libjpeg-turbo as WebAssembly, which is slower');
    }
    return {
      name: 'jpeg decoder',
      state: 'missing',
      found: 'libjpeg-turbo as WebAssembly: the same pixels, slower',
      fix: 'Run npm ci without --omit=optional, or install libturbojpeg.',
    };
  } catch (error) {
    const { message, next } = toErrorRecord(error);
    return { name: 'jpeg decoder', state: 'broken', found: message, fix: next };
  }
}

async function openSlideCheck(): Promise<Check> {
  const name = 'OpenSlide';
  const found = await findOpenSlide();
  if (found.state === 'good') return good(name, `${found.version}, for formats that nightshift does not read itself`);
  return {
    name,
    state: 'missing',
    found: `${found.why}; needed only for formats that nightshift does not read itself`,
    fix: 'Install OpenSlide 4.0.1 or later, or name its library with NIGHTSHIFT_OPENSLIDE.',
  };
}

async function engineChecks(signal: AbortSignal | undefined): Promise<Check[]> {
  const folder = await mkdtemp(join(tmpdir(), 'nightshift-doctor-'));
  try {
    const dir = join(folder, 'model');
    await writeRandomDinov2(join(folder, 'weights'), { depth: 1, width: 64 });
    await convertModel({ from: join(folder, 'weights'), to: dir, name: 'doctor-random' });
    const checks: Check[] = [];
    for (const device of ['cpu', 'cuda:0', 'webgpu']) {
      signal?.throwIfAborted();
      checks.push(await deviceCheck(dir, device));
    }
    return checks;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function deviceCheck(dir: string, device: string): Promise<Check> {
  const name = `device ${device}`;
  const runtime = `ONNX Runtime ${versions().onnxruntime}`;
  try {
    const encoder = await composeEncoder({ dir, device, threads: null, batch: 1 });
    try {
      const { embedding } = await encoder.embed(new Uint8Array(encoder.model.inputPx ** 2 * 3), 1);
      if (embedding.every(Number.isFinite)) return good(name, `${runtime} embeds on it`);
      return { name, state: 'broken', found: `${runtime} gives NaN on it`, fix: 'Update the driver of the device.' };
    } finally {
      await encoder.close();
    }
  } catch (error) {
    if (device !== 'cpu' && isNightshiftError(error)) {
      return {
        name,
        state: 'missing',
        found: 'not available here',
        fix: 'Runs use the CPU; nothing to mend without a GPU.',
      };
    }
    return { name, state: 'broken', found: toErrorRecord(error).message, fix: 'Run npm ci again.' };
  }
}

function telemetryCheck(): Check {
  const off = childEnvironment(process.env).ORT_DISABLE_TELEMETRY === '1';
  if (off) return good('telemetry', 'off, before ONNX Runtime is loaded; nightshift itself sends nothing');
  return {
    name: 'telemetry',
    state: 'broken',
    found: 'ONNX Runtime would send data',
    fix: 'Set ORT_DISABLE_TELEMETRY=1.',
  };
}

async function modelsCheck(dir: string): Promise<Check> {
  const name = 'models';
  const entries = await readdir(dir).catch(() => null);
  const fix = `Make one: nightshift model convert <weights> --to ${join(dir, '<name>')}`;
  if (entries === null) return { name, state: 'missing', found: `no directory ${dir}`, fix };
  const names: string[] = [];
  for (const entry of entries.sort()) {
    const info = await readModel(join(dir, entry)).catch(() => null);
    if (info !== null) names.push(info.name);
  }
  return names.length === 0
    ? { name, state: 'missing', found: `no model in ${dir}`, fix }
    : good(name, `${names.join(', ')} in ${dir}`);
}

/** Probes the directory, or the nearest one above it that is there: looking makes nothing. */
async function outCheck(out: string): Promise<Check> {
  let dir = resolve(out);
  while ((await stat(dir).catch(() => null)) === null && dirname(dir) !== dir) dir = dirname(dir);
  try {
    await (await composeBlobs(dir)).probe();
    return good('out', `${dir} can be written`);
  } catch (error) {
    const { message, next } = toErrorRecord(error);
    return { name: 'out', state: 'broken', found: message, fix: next };
  }
}
