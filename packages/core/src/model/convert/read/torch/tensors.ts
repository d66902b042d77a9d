import { NightshiftError } from '../../../../errors.ts';
import { DTYPE_BYTES, toFloat32 } from '../dtypes.ts';
import type { CheckpointFile } from '../file.ts';
import { checkTensorName, type Rows, type TensorEntry, type Weights } from '../weights.ts';
import { isTensor, type Storage, type TensorView } from './objects.ts';
import type { PyDict, PyValue } from './pickle.ts';

const MAX_DEPTH = 6;
const MAX_TENSORS = 100_000;
/** Elements that are read at once of a tensor that does not lie in one piece. */
const WINDOW = 1 << 20;

/**
 * The tensors of an unpickled checkpoint. Nested dictionaries (`state_dict`, `model`, `teacher`) become prefixes of the names,
 * joined by dots, as a flat checkpoint has them. `find` gives the byte where a storage begins, and refuses one that is not there.
 */
export function torchWeights(file: CheckpointFile, root: PyValue, find: (storage: Storage) => number): Weights {
  const views = tensorsOf(file.path, root);
  const tensors = new Map<string, TensorEntry>();
  for (const [name, { storage, shape }] of views) {
    find(storage);
    tensors.set(name, { shape, dtype: storage.dtype });
  }
  return {
    file: file.path,
    size: file.size,
    tensors,
    async read(name, rows) {
      const view = views.get(name);
      if (view === undefined) throw new NightshiftError('weights-unsupported', `${file.path}: no tensor ${name}`);
      const part = rows ? rowsOf(view, rows) : view;
      return readView(file, name, part, find(view.storage));
    },
    digest: file.digest,
    close: file.close,
  };
}

/** Breadth first, every dictionary once: a pickle may hold one in many places. */
function tensorsOf(path: string, root: PyValue): Map<string, TensorView> {
  const invalid = (what: string) => new NightshiftError('weights-invalid', `${path}: ${what}`);
  if (!(root instanceof Map)) throw invalid('not a dictionary of tensors');
  const views = new Map<string, TensorView>();
  const seen = new Set<PyDict>([root]);
  let level: { dict: PyDict; prefix: string }[] = [{ dict: root, prefix: '' }];
  for (let depth = 0; depth < MAX_DEPTH && level.length > 0; depth++) {
    const next: typeof level = [];
    for (const { dict, prefix } of level) {
      for (const [key, value] of dict) {
        if (typeof key !== 'string') continue;
        const name = prefix + key;
        if (value instanceof Map) {
          if (seen.has(value)) continue;
          seen.add(value);
          next.push({ dict: value, prefix: `${name}.` });
        } else if (isTensor(value)) {
          checkTensorName(path, name);
          if (views.has(name)) throw invalid(`two tensors are called ${name}`);
          if (views.size === MAX_TENSORS) throw invalid(`more than ${MAX_TENSORS} tensors`);
          views.set(name, value);
        }
      }
    }
    level = next;
  }
  if (views.size === 0) throw invalid('no tensors in it');
  return views;
}

const rowsOf = (view: TensorView, { from, to }: Rows): TensorView => ({
  ...view,
  offset: view.offset + from * (view.strides[0] ?? 0),
  shape: [to - from, ...view.shape.slice(1)],
});

async function readView(
  file: CheckpointFile,
  name: string,
  view: TensorView,
  storageAt: number,
): Promise<Float32Array> {
  const { storage, shape, strides } = view;
  const width = DTYPE_BYTES.get(storage.dtype)!;
  const start = storage.start + view.offset;
  const read = async (element: number, count: number) => {
    const bytes = await file.read(storageAt + element * width, count * width, `tensor ${name}`);
    return toFloat32(storage.dtype, bytes, name);
  };
  const rowMajor = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, n) => product * n, 1));
  const count = shape.reduce((product, n) => product * n, 1);
  const axes = shape.map((n, i) => ({ n, stride: strides[i]!, step: rowMajor[i]! })).filter(({ n }) => n !== 1);
  if (count === 0 || axes.every(({ stride, step }) => stride === step)) return read(start, count);

  // In the order of the storage, so that windows move forward only.
  axes.sort((a, b) => b.stride - a.stride);
  const inner = axes.pop()!;
  const end = start + axes.reduce((sum, { n, stride }) => sum + (n - 1) * stride, (inner.n - 1) * inner.stride + 1);
  const out = new Float32Array(count);
  const index = axes.map(() => 0);
  let window = new Float32Array(0);
  let windowAt = start;
  for (let runs = count / inner.n; runs > 0; runs--) {
    let element = start;
    let target = 0;
    for (const [i, { stride, step }] of axes.entries()) {
      element += index[i]! * stride;
      target += index[i]! * step;
    }
    for (let i = 0; i < inner.n; i++) {
      if (element >= windowAt + window.length) {
        windowAt = element;
        window = await read(element, Math.min(WINDOW, end - element));
      }
      out[target] = window[element - windowAt]!;
      element += inner.stride;
      target += inner.step;
    }
    for (let axis = axes.length - 1; axis >= 0 && ++index[axis]! === axes[axis]!.n; axis--) index[axis] = 0;
  }
  return out;
}
