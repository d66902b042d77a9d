import { NightshiftError } from '../../../../errors.ts';

/** What a pickle is made of. Lists, tuples and sets are arrays, dictionaries are Maps. */
export type PyValue = null | boolean | number | bigint | string | Uint8Array | PyValue[] | PyDict | PyObject;
export type PyDict = Map<PyValue, PyValue>;
/** What the whitelist makes: no pickle can make one on its own. */
export interface PyObject {
  readonly made: string;
}

/** A name that a pickle may mention: something it may call, or hand on as it is. */
export interface PyGlobal extends PyObject {
  readonly made: 'global';
  readonly name: string;
  readonly call?: (args: readonly PyValue[]) => PyValue;
}

export interface Unpickling {
  /** The only names that a pickle may mention, as `module name`. */
  readonly globals: ReadonlyMap<string, PyGlobal>;
  /** What a persistent id stands for. */
  readonly persistent: (id: PyValue) => PyValue;
  /** The error for a pickle that breaks the rules: `weights-invalid`, with the name of the file. */
  readonly invalid: (what: string) => NightshiftError;
}

/**
 * A checkpoint of a ViT-g with its optimizer makes 120,000 values. At 170 bytes for the largest (a dictionary) a hostile one
 * stays below 200 MB.
 */
const MAX_VALUES = 1_000_000;
const MAX_GLOBAL_NAME = 200;

/**
 * Runs one pickle of `bytes`, from `start`: protocols 2 to 5, only what tensors need. It is no more than a machine with a stack
 * and a memo: it can call nothing but `globals`, and a name that is not there ends it at once. Nothing recurses; values are
 * counted. Opcodes: Lib/pickletools.py of CPython.
 *
 * @throws NightshiftError `weights-refused` for a foreign name, else what `invalid` makes
 */
export function unpickle(bytes: Buffer, start: number, { globals, persistent, invalid }: Unpickling) {
  const stack: PyValue[] = [];
  const marks: number[] = [];
  const memo = new Map<number, PyValue>();
  let position = start;
  let values = 0;

  const take = (length: number): Buffer => {
    if (length > bytes.length - position) {
      throw invalid(`the pickle ends in the middle of an instruction, after ${bytes.length - start} bytes`);
    }
    position += length;
    return bytes.subarray(position - length, position);
  };
  const takeLength = (width: 1 | 4 | 8): number =>
    width === 8 ? Number(take(8).readBigUInt64LE()) : take(width).readUIntLE(0, width);
  const takeLine = (): string => {
    const end = bytes.indexOf(10, position);
    if (end === -1 || end - position > MAX_GLOBAL_NAME) throw invalid(`no name in its place at byte ${position}`);
    const line = take(end - position).toString('utf8');
    take(1);
    return line;
  };
  const push = (value: PyValue): void => {
    if (++values > MAX_VALUES) throw invalid(`more than ${MAX_VALUES} values: no checkpoint has so many`);
    stack.push(value);
  };
  const pop = (): PyValue => {
    if (stack.length === 0 || stack.length === marks.at(-1)) throw invalid(`nothing on the stack at byte ${position}`);
    return stack.pop()!;
  };
  const peek = (): PyValue => {
    const value = pop();
    stack.push(value);
    return value;
  };
  const popMarked = (): PyValue[] => {
    const mark = marks.pop();
    if (mark === undefined) throw invalid(`no mark on the stack at byte ${position}`);
    return stack.splice(mark);
  };
  const popArray = (): PyValue[] => {
    const value = pop();
    if (!Array.isArray(value)) throw invalid(`something else where a list must be, at byte ${position}`);
    return value;
  };
  const remember = (index: number): void => {
    memo.set(index, peek());
    if (memo.size > MAX_VALUES) throw invalid(`remembers more than ${MAX_VALUES} values: no checkpoint has so many`);
  };
  const recall = (index: number): void => {
    const value = memo.get(index);
    if (value === undefined) throw invalid(`nothing is remembered as ${index}, at byte ${position}`);
    push(value);
  };
  const pushGlobal = (module: string, name: string): void => {
    const known = globals.get(`${module} ${name}`);
    if (known === undefined) throw refused(`${module}.${name}`);
    push(known);
  };
  const refused = (name: string) => {
    const { message } = invalid(`asks for ${printable(name)}, which weights have no use for. Nothing of it was run`);
    return new NightshiftError('weights-refused', message, { data: { global: printable(name) } });
  };
  const call = (args: PyValue, callee: PyValue): PyValue => {
    if (!isGlobal(callee) || callee.call === undefined || !Array.isArray(args)) {
      throw invalid(`calls what cannot be called, at byte ${position}`);
    }
    return callee.call(args);
  };
  const append = (items: readonly PyValue[]): void => {
    const list = peek();
    if (!Array.isArray(list)) throw invalid(`something else where a list must be, at byte ${position}`);
    for (const item of items) list.push(item);
  };
  const setItems = (items: readonly PyValue[]): void => {
    const dict = peek();
    if (!(dict instanceof Map) || items.length % 2 !== 0) throw invalid(`no dictionary at byte ${position}`);
    for (let i = 0; i < items.length; i += 2) dict.set(items[i]!, items[i + 1]!);
  };
  const tuple = (length: number): void => {
    const items: PyValue[] = [];
    for (let i = 0; i < length; i++) items.unshift(pop());
    push(items);
  };

  for (;;) {
    const opcode = take(1)[0]!;
    switch (opcode) {
      case 0x80: {
        // PROTO
        const protocol = take(1)[0]!;
        if (protocol > 5) throw invalid(`pickle protocol ${protocol}`);
        break;
      }
      case 0x95: // FRAME
        take(8);
        break;
      case 0x2e: {
        // STOP
        const value = pop();
        if (stack.length > 0 || marks.length > 0) throw invalid('the pickle ends with values left over');
        return { value, end: position };
      }
      case 0x28: // MARK
        if (++values > MAX_VALUES) throw invalid(`more than ${MAX_VALUES} values: no checkpoint has so many`);
        marks.push(stack.length);
        break;
      case 0x30: // POP
        if (stack.length > 0 && stack.length === marks.at(-1)) marks.pop();
        else pop();
        break;
      case 0x31: // POP_MARK
        popMarked();
        break;
      case 0x32: // DUP
        push(peek());
        break;

      case 0x4e: // NONE
        push(null);
        break;
      case 0x88: // NEWTRUE
        push(true);
        break;
      case 0x89: // NEWFALSE
        push(false);
        break;
      case 0x4b: // BININT1
        push(take(1)[0]!);
        break;
      case 0x4d: // BININT2
        push(take(2).readUInt16LE());
        break;
      case 0x4a: // BININT
        push(take(4).readInt32LE());
        break;
      case 0x8a: // LONG1
        push(integer(take(takeLength(1))));
        break;
      case 0x47: // BINFLOAT
        push(take(8).readDoubleBE());
        break;
      case 0x8c: // SHORT_BINUNICODE
      case 0x55: // SHORT_BINSTRING, the text of Python 2
        push(take(takeLength(1)).toString('utf8'));
        break;
      case 0x58: // BINUNICODE
      case 0x54: // BINSTRING
        push(take(takeLength(4)).toString('utf8'));
        break;
      case 0x8d: // BINUNICODE8
        push(take(takeLength(8)).toString('utf8'));
        break;
      case 0x43: // SHORT_BINBYTES
        push(Uint8Array.from(take(takeLength(1))));
        break;
      case 0x42: // BINBYTES
        push(Uint8Array.from(take(takeLength(4))));
        break;

      case 0x29: // EMPTY_TUPLE
      case 0x5d: // EMPTY_LIST
      case 0x8f: // EMPTY_SET
        push([]);
        break;
      case 0x85: // TUPLE1
        tuple(1);
        break;
      case 0x86: // TUPLE2
        tuple(2);
        break;
      case 0x87: // TUPLE3
        tuple(3);
        break;
      case 0x74: // TUPLE
      case 0x6c: // LIST
      case 0x91: // FROZENSET
        push(popMarked());
        break;
      case 0x61: // APPEND
        append([pop()]);
        break;
      case 0x65: // APPENDS
      case 0x90: // ADDITEMS
        append(popMarked());
        break;
      case 0x7d: // EMPTY_DICT
        push(new Map());
        break;
      case 0x64: // DICT
        {
          const items = popMarked();
          push(new Map());
          setItems(items);
        }
        break;
      case 0x73: {
        // SETITEM
        const value = pop();
        setItems([pop(), value]);
        break;
      }
      case 0x75: // SETITEMS
        setItems(popMarked());
        break;

      case 0x71: // BINPUT
        remember(takeLength(1));
        break;
      case 0x72: // LONG_BINPUT
        remember(takeLength(4));
        break;
      case 0x94: // MEMOIZE
        remember(memo.size);
        break;
      case 0x68: // BINGET
        recall(takeLength(1));
        break;
      case 0x6a: // LONG_BINGET
        recall(takeLength(4));
        break;

      case 0x63: // GLOBAL
        pushGlobal(takeLine(), takeLine());
        break;
      case 0x69: // INST: a name, then a call of it
        pushGlobal(takeLine(), takeLine());
        throw invalid(`an instruction that weights have no use for, at byte ${position}`);
      case 0x93: {
        // STACK_GLOBAL
        const [name, module] = [pop(), pop()];
        if (typeof name !== 'string' || typeof module !== 'string') throw invalid(`no name at byte ${position}`);
        pushGlobal(module, name);
        break;
      }
      case 0x52: // REDUCE
      case 0x81: // NEWOBJ
        push(call(popArray(), pop()));
        break;
      case 0x62: // BUILD: attributes of a state dict (`_metadata`), of no use here
        pop();
        if (!(peek() instanceof Map)) throw invalid(`attributes for what has none, at byte ${position}`);
        break;
      case 0x51: // BINPERSID
        push(persistent(pop()));
        break;
      default:
        throw invalid(`the instruction 0x${opcode.toString(16)} at byte ${position - 1} is not one that weights need`);
    }
  }
}

export const isGlobal = (value: PyValue): value is PyGlobal =>
  typeof value === 'object' && value !== null && 'made' in value && value.made === 'global';

/** Little-endian two's complement. */
function integer(bytes: Buffer): number | bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  if (bytes.length > 0 && bytes.at(-1)! & 0x80) value -= 1n << BigInt(8 * bytes.length);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** A name from a file as it may go to a terminal. */
const printable = (name: string): string => name.slice(0, MAX_GLOBAL_NAME).replace(/[^\x20-\x7e]/g, '?');
