import { NightshiftError } from '../../../../errors.ts';
import { DTYPE_BYTES } from '../dtypes.ts';
import { openFile } from '../file.ts';
import type { Weights } from '../weights.ts';
import { readObject } from './objects.ts';
import { torchWeights } from './tensors.ts';
import { readZip } from './zip.ts';

/** A checkpoint of a ViT-g with optimizer has 1 MB; the bound is on memory (see `unpickle`). */
export const MAX_PICKLE_BYTES = 16 << 20;

/**
 * What `torch.save` writes since 1.6: a zip archive of `data.pkl` and one stored entry a storage (`data/0`, ...).
 * Source: torch/serialization.py, caffe2/serialize/inline_container.cc.
 *
 * @throws NightshiftError `weights-not-found`, `weights-invalid`, `weights-unsupported`, `weights-refused`
 */
export async function openTorchArchive(path: string): Promise<Weights> {
  const file = await openFile(path);
  try {
    const invalid = (what: string) => new NightshiftError('weights-invalid', `${path}: ${what}`);
    const entries = await readZip(file);
    const pickles = [...entries.values()].filter(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
    const pickle = pickles[0];
    if (pickle === undefined || pickles.length > 1) {
      throw new NightshiftError('weights-unsupported', `${path}: a zip archive, but not one of torch.save`);
    }
    const root = pickle.name.slice(0, -'data.pkl'.length);
    if (entries.has(`${root}constants.pkl`)) {
      throw new NightshiftError('weights-unsupported', `${path}: a TorchScript archive, which is a program`, {
        next: 'Save its state_dict() with torch.save, or better as safetensors.',
      });
    }
    const order = entries.get(`${root}byteorder`);
    const orderText = order
      ? (await file.read(order.position, Math.min(order.bytes, 16), 'byteorder')).toString()
      : 'little';
    if (orderText !== 'little') throw new NightshiftError('weights-unsupported', `${path}: not in little-endian order`);
    if (pickle.bytes > MAX_PICKLE_BYTES)
      throw invalid(`a pickle of ${pickle.bytes} bytes, more than ${MAX_PICKLE_BYTES}`);

    const { value, end } = readObject(await file.read(pickle.position, pickle.bytes, pickle.name), 0, path);
    if (end !== pickle.bytes) throw invalid(`${pickle.bytes - end} bytes after the end of the pickle`);
    return torchWeights(file, value, ({ key, dtype, total }) => {
      const entry = entries.get(`${root}data/${key}`);
      if (entry === undefined) throw invalid(`storage ${key} is not in the archive`);
      const needed = total * DTYPE_BYTES.get(dtype)!;
      if (needed !== entry.bytes)
        throw invalid(`storage ${key} claims ${needed} bytes, the archive holds ${entry.bytes}`);
      return entry.position;
    });
  } catch (error) {
    await file.close();
    throw error;
  }
}
