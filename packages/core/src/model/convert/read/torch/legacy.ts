import { NightshiftError } from '../../../../errors.ts';
import { DTYPE_BYTES } from '../dtypes.ts';
import { type CheckpointFile, openFile } from '../file.ts';
import type { Weights } from '../weights.ts';
import { MAX_PICKLE_BYTES } from './archive.ts';
import { readObject, type Storage } from './objects.ts';
import type { PyValue } from './pickle.ts';
import { torchWeights } from './tensors.ts';

/** A pickle of the number 0x1950a86a20f9469cfc6c. */
export const LEGACY_MAGIC = '\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.';
const PROTOCOL = 1001;

/**
 * What `torch.save` wrote before 1.6: pickles of a magic number, a protocol version, the machine, the object and the keys of its
 * storages; then, in the order of the keys, a storage's count of elements (int64) and its elements.
 * Source: torch/serialization.py, `_legacy_save` and `_legacy_load`.
 *
 * @throws NightshiftError `weights-not-found`, `weights-invalid`, `weights-unsupported`, `weights-refused`
 */
export async function openTorchLegacy(path: string): Promise<Weights> {
  const file = await openFile(path);
  try {
    const invalid = (what: string) => new NightshiftError('weights-invalid', `${path}: ${what}`);
    const bytes = await file.read(0, Math.min(file.size, MAX_PICKLE_BYTES), 'the pickles');
    const storages = new Map<string, Storage>();
    let at = LEGACY_MAGIC.length;
    const next = (): PyValue => {
      const { value, end } = readObject(bytes, at, path, (storage) => note(storages, storage, invalid));
      at = end;
      return value;
    };
    const version = next();
    if (version !== PROTOCOL) throw invalid(`not version ${PROTOCOL} of the format`);
    const machine = next();
    if (machine instanceof Map && machine.get('little_endian') === false) {
      throw new NightshiftError('weights-unsupported', `${path}: not in little-endian order`);
    }
    const root = next();
    const keys = next();
    if (!Array.isArray(keys)) throw invalid('there is no list of storages');
    const positions = await findStorages(file, at, keys, storages, invalid);
    return torchWeights(file, root, ({ key }) => {
      const position = positions.get(key);
      if (position === undefined) throw invalid(`storage ${key} is not in the file`);
      return position;
    });
  } catch (error) {
    await file.close();
    throw error;
  }
}

type Invalid = (what: string) => NightshiftError;

/** A storage may be met many times, and must be the same each time. */
function note(storages: Map<string, Storage>, storage: Storage, invalid: Invalid): void {
  const known = storages.get(storage.key) ?? storage;
  if (known.dtype !== storage.dtype || known.total !== storage.total)
    throw invalid(`storage ${storage.key} is two things`);
  storages.set(storage.key, known);
}

async function findStorages(
  file: CheckpointFile,
  start: number,
  keys: readonly PyValue[],
  storages: ReadonlyMap<string, Storage>,
  invalid: Invalid,
): Promise<ReadonlyMap<string, number>> {
  const positions = new Map<string, number>();
  let at = start;
  for (const key of keys) {
    const storage = typeof key === 'string' ? storages.get(key) : undefined;
    if (typeof key !== 'string' || storage === undefined || positions.has(key)) {
      throw invalid('the list of storages names one that no tensor has, or one twice');
    }
    if (at + 8 > file.size) throw invalid(`the file ends before storage ${key}: it is truncated`);
    const count = Number((await file.read(at, 8, `storage ${key}`)).readBigInt64LE());
    if (count !== storage.total)
      throw invalid(`storage ${key} has ${count} elements, the pickle says ${storage.total}`);
    positions.set(key, at + 8);
    at += 8 + count * DTYPE_BYTES.get(storage.dtype)!;
    if (at > file.size) throw invalid(`storage ${key} ends ${at - file.size} bytes after the file: it is truncated`);
  }
  if (at !== file.size) throw invalid(`${file.size - at} bytes after the last storage`);
  return positions;
}
