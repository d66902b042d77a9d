import { NightshiftError } from '../../../../errors.ts';
import { isGlobal, type PyGlobal, type PyObject, type PyValue, type Unpickling, unpickle } from './pickle.ts';

/** Where a checkpoint keeps elements: a storage that tensors are views of. */
export interface Storage extends PyObject {
  readonly made: 'storage';
  readonly key: string;
  readonly dtype: string;
  /** Elements that are stored under `key`. */
  readonly total: number;
  /** The part of them that this storage is; legacy files may store one storage as a part of another. */
  readonly start: number;
  readonly count: number;
}

/** A view of a storage: nothing is read yet. Offset and strides count elements. */
export interface TensorView extends PyObject {
  readonly made: 'tensor';
  readonly storage: Storage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

interface StorageType extends PyGlobal {
  readonly dtype: string;
}

const DTYPES: Readonly<Record<string, string>> = {
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  DoubleStorage: 'F64',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
};
const MAX_AXES = 8;

/**
 * Unpickles one object of a checkpoint; `file` is for messages, `onStorage` is told of every storage each time it is met.
 *
 * @throws NightshiftError `weights-refused`, `weights-invalid`
 */
export function readObject(
  bytes: Buffer,
  start: number,
  file: string,
  onStorage: (storage: Storage) => void = () => {},
): { value: PyValue; end: number } {
  const invalid = (what: string) => new NightshiftError('weights-invalid', `${file}: ${what}`);
  const persistent = (id: PyValue) => {
    const found = storage(id, invalid);
    onStorage(found);
    return found;
  };
  return unpickle(bytes, start, { invalid, globals: allowedGlobals(invalid), persistent });
}

export const isTensor = (value: PyValue): value is TensorView =>
  typeof value === 'object' && value !== null && 'made' in value && value.made === 'tensor';

const isStorage = (value: PyValue | undefined): value is Storage =>
  typeof value === 'object' && value !== null && 'made' in value && value.made === 'storage';

/** Everything that a pickle may name. */
function allowedGlobals(invalid: Unpickling['invalid']): ReadonlyMap<string, PyGlobal> {
  const rebuildTensor = ([storage, offset, shape, strides]: readonly PyValue[]): PyValue => {
    if (!isStorage(storage)) throw invalid('a tensor without a storage');
    return tensorView(storage, offset, shape, strides, invalid);
  };
  const rebuildParameter = ([tensor]: readonly PyValue[]): PyValue => {
    if (tensor === undefined || !isTensor(tensor)) throw invalid('a parameter without a tensor');
    return tensor;
  };
  const orderedDict = ([pairs = []]: readonly PyValue[]): PyValue => {
    if (!Array.isArray(pairs)) throw invalid('an OrderedDict of something else than pairs');
    return new Map(
      pairs.map((pair): [PyValue, PyValue] => {
        if (!Array.isArray(pair) || pair.length !== 2) throw invalid('an OrderedDict of something else than pairs');
        return [pair[0]!, pair[1]!];
      }),
    );
  };
  const functions = {
    'collections OrderedDict': orderedDict,
    'torch._utils _rebuild_tensor_v2': rebuildTensor,
    'torch._utils _rebuild_parameter': rebuildParameter,
  };
  const globals = new Map<string, PyGlobal>();
  for (const [name, call] of Object.entries(functions)) globals.set(name, { made: 'global', name, call });
  for (const [name, dtype] of Object.entries(DTYPES)) {
    const type: StorageType = { made: 'global', name: `torch ${name}`, dtype };
    globals.set(type.name, type);
  }
  return globals;
}

/** ('storage', type, key, device, count), and in legacy files a view: (key, offset, count) or None. */
function storage(id: PyValue, invalid: Unpickling['invalid']): Storage {
  const [kind, type, key, , count, view] = Array.isArray(id) ? id : [];
  const known = kind === 'storage' && type !== undefined && isGlobal(type) && 'dtype' in type;
  if (!known || !(typeof key === 'string' || isCount(key)) || !isCount(count))
    throw invalid('a storage of no known kind');
  const { dtype } = type as StorageType;
  const whole = { made: 'storage', key: String(key), dtype, total: count, start: 0, count } as const;
  if (view === undefined || view === null) return whole;
  const [, start, length] = Array.isArray(view) ? view : [];
  if (!isCount(start) || !isCount(length) || start + length > count)
    throw invalid(`storage ${key} has a part past its end`);
  return { ...whole, start, count: length };
}

function tensorView(
  storage: Storage,
  offset: PyValue | undefined,
  shape: PyValue | undefined,
  strides: PyValue | undefined,
  invalid: Unpickling['invalid'],
): TensorView {
  const counts = (value: PyValue | undefined): value is number[] => Array.isArray(value) && value.every(isCount);
  if (!isCount(offset) || !counts(shape) || !counts(strides) || shape.length !== strides.length) {
    throw invalid('a tensor of no sensible shape');
  }
  if (shape.length > MAX_AXES) throw invalid(`a tensor of ${shape.length} axes, more than ${MAX_AXES}`);
  const view: TensorView = { made: 'tensor', storage, offset, shape, strides };
  const empty = shape.includes(0);
  const extent = shape.reduce((sum, n, axis) => sum + (n - 1) * strides[axis]!, 1);
  if (offset > storage.count || (!empty && offset + extent > storage.count)) {
    throw invalid(
      `a tensor [${shape}] at ${offset} with strides [${strides}] ends past its storage of ${storage.count}`,
    );
  }
  if (!empty && overlapsItself(view)) {
    throw invalid(`a tensor [${shape}] with strides [${strides}] uses elements of its storage more than once`);
  }
  return view;
}

/** True where two indices may be one element. A tensor that does not is no larger than its storage. */
function overlapsItself({ shape, strides }: TensorView): boolean {
  let span = 1;
  const axes = shape.map((n, i) => ({ n, stride: strides[i]! })).filter(({ n }) => n > 1);
  for (const { n, stride } of axes.sort((a, b) => a.stride - b.stride)) {
    if (stride < span) return true;
    span += (n - 1) * stride;
  }
  return false;
}

const isCount = (value: PyValue | undefined): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
