import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isNightshiftError, NightshiftError } from '../../../errors.ts';
import { openFile } from './file.ts';
import { openSafetensors } from './safetensors.ts';
import { openSharded } from './sharded.ts';
import { openTorchArchive } from './torch/archive.ts';
import { LEGACY_MAGIC, openTorchLegacy } from './torch/legacy.ts';
import type { Weights } from './weights.ts';

/** What a directory's checkpoint is usually called, best first: safetensors needs no unpickling. */
const USUAL_NAMES = [
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
];

type Format = 'safetensors' | 'index' | 'zip' | 'legacy';

/**
 * Opens a checkpoint: a file of safetensors or PyTorch (zip, or the pickle of before 1.6), the index of several, or a directory
 * that holds one. The format is recognised by its first bytes, never by the name.
 *
 * @throws NightshiftError `weights-not-found`, `weights-invalid`, `weights-unsupported`, `weights-refused`
 */
export async function openWeights(path: string): Promise<Weights> {
  return openFormat((await isDirectory(path)) ? await checkpointIn(path) : path, [
    'safetensors',
    'index',
    'zip',
    'legacy',
  ]);
}

async function openFormat(path: string, allowed: readonly Format[]): Promise<Weights> {
  const { format, what } = await recognise(path);
  if (format === null || !allowed.includes(format)) {
    throw new NightshiftError('weights-unsupported', `${path} is ${what}, no checkpoint`);
  }
  switch (format) {
    case 'safetensors':
      return openSafetensors(path);
    case 'zip':
      return openTorchArchive(path);
    case 'legacy':
      return openTorchLegacy(path);
    case 'index':
      return openSharded(path, (shard) => openFormat(shard, ['safetensors', 'zip', 'legacy']));
  }
}

/** What people have in place of weights, by its first bytes. */
const STRANGERS: readonly (readonly [start: string, what: string])[] = [
  ['version https://git-lfs', 'a Git LFS pointer (run `git lfs pull` where it was cloned)'],
  ['<', 'a web page or XML (a download that met a login page?)'],
  ['GGUF', 'a GGUF file'],
  ['\x89HDF', 'an HDF5 file'],
  ['\x1f\x8b', 'a gzip file (unpack it first)'],
  ['\x80', 'a pickle that torch.save did not write'],
];

async function recognise(path: string): Promise<{ format: Format | null; what: string }> {
  const file = await openFile(path);
  try {
    const head = (await file.read(0, Math.min(file.size, 512), 'its start')).toString('latin1');
    // The header length of a safetensors file comes first, and could look like anything.
    if (head[8] === '{' && !head.trimStart().startsWith('{')) return { format: 'safetensors', what: 'safetensors' };
    if (head.startsWith('PK\x03\x04')) return { format: 'zip', what: 'a zip archive' };
    if (head.startsWith(LEGACY_MAGIC)) return { format: 'legacy', what: 'a PyTorch checkpoint of before 1.6' };
    if (head.trimStart().startsWith('{')) return { format: 'index', what: 'JSON' };
    if (head === '') return { format: null, what: 'empty' };
    const stranger = STRANGERS.find(([start]) => head.trimStart().startsWith(start));
    return { format: null, what: stranger?.[1] ?? 'neither safetensors nor a file of torch.save' };
  } finally {
    await file.close();
  }
}

/** The checkpoint of a directory: by its usual name, else the only file that is one. */
async function checkpointIn(dir: string): Promise<string> {
  const files = (await readdir(dir)).filter((name) => !name.startsWith('.')).sort();
  const usual = USUAL_NAMES.find((name) => files.includes(name));
  if (usual !== undefined) return join(dir, usual);
  const found: string[] = [];
  for (const name of files) {
    const known = await recognise(join(dir, name)).catch((error) => {
      if (isNightshiftError(error, 'weights-not-found')) return null;
      throw error;
    });
    if (known?.format && known.format !== 'index') found.push(name);
  }
  if (found.length === 1) return join(dir, found[0]!);
  const some = found.length === 0 ? 'no checkpoint' : `${found.length} checkpoints (${found.slice(0, 4).join(', ')})`;
  throw new NightshiftError('weights-not-found', `${dir} holds no ${USUAL_NAMES[0]}, and ${some}`, {
    ...(found.length === 0 ? {} : { next: 'Name the file itself.' }),
  });
}

export async function isDirectory(path: string): Promise<boolean> {
  const stats = await stat(path).catch(() => null);
  if (stats === null) throw new NightshiftError('weights-not-found', `${path} does not exist`);
  return stats.isDirectory();
}
