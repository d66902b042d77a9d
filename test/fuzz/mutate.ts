import type { Random } from './random.ts';

/** Inputs do not grow beyond this: limits of the parsers that need larger files have tests of their own. */
export const MOST_INPUT_BYTES = 65_536;

/** Where parsers change their mind: signs, ends of types, the largest safe integer. The length of the input comes on top. */
const BOUNDARIES = [
  ...[0n, 1n, 2n, 7n, 8n, 16n, 0x7fn, 0x80n, 0xffn, 0x100n, 999n, 1_000n, 1_001n, 4_096n, 0x7fffn, 0x8000n, 0xffffn],
  ...[0x1_0000n, 0x10_0000n, 0x10_0001n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_fff0n, 0xffff_ffffn, 0x1_0000_0000n],
  ...[0x1f_ffff_ffff_ffffn, 0x20_0000_0000_0000n, 0x7fff_ffff_ffff_ffffn, 0xffff_ffff_ffff_ffffn],
];

type Mutation = (input: Buffer, random: Random, others: readonly Buffer[], words: readonly string[]) => Buffer;

const MUTATIONS: readonly Mutation[] = [
  function flipBit(input, random) {
    const at = random.below(input.length);
    input[at] = input[at]! ^ (1 << random.below(8));
    return input;
  },
  function setByte(input, random) {
    input[random.below(input.length)] = random.below(256);
    return input;
  },
  function addToField(input, random) {
    const size = random.pick([1, 2, 4]);
    const delta = BigInt(1 + random.below(16)) * (random.below(2) === 0 ? 1n : -1n);
    return changeField(input, random, size, (value) => value + delta);
  },
  function boundaryField(input, random) {
    const value = random.below(8) === 0 ? BigInt(input.length + random.below(3) - 1) : random.pick(BOUNDARIES);
    return changeField(input, random, random.pick([1, 2, 4, 4, 8]), () => value);
  },
  function copyField(input, random) {
    // An offset or a length of something else.
    const size = random.pick([2, 4, 8, 12]);
    const from = random.below(input.length);
    input.copy(input, random.below(input.length), from, from + size);
    return input;
  },
  function truncate(input, random) {
    return input.subarray(0, 1 + random.below(input.length));
  },
  function remove(input, random) {
    const from = random.below(input.length);
    return Buffer.concat([input.subarray(0, from), input.subarray(from + someLength(random))]);
  },
  function repeat(input, random) {
    const from = random.below(input.length);
    const part = input.subarray(from, from + someLength(random));
    const times = 1 + random.below(random.pick([1, 4, 64]));
    return Buffer.concat([input.subarray(0, from), ...Array<Buffer>(times).fill(part), input.subarray(from)]);
  },
  function insert(input, random) {
    const at = random.below(input.length + 1);
    const part = Buffer.alloc(someLength(random), random.pick([0, 0xff, 0x20, random.below(256)]));
    return Buffer.concat([input.subarray(0, at), part, input.subarray(at)]);
  },
  function splice(input, random, others) {
    const other = random.pick(others);
    const from = random.below(other.length);
    const end = random.below(2) === 0 ? other.length : from + someLength(random);
    const at = random.below(input.length);
    const kept = random.below(2) === 0 ? input.subarray(at) : input.subarray(at + end - from);
    return Buffer.concat([input.subarray(0, at), other.subarray(from, end), kept]);
  },
  function word(input, random, _, words) {
    if (words.length === 0) return input;
    const text = Buffer.from(random.pick(words), 'latin1');
    const at = random.below(input.length + 1);
    return Buffer.concat([input.subarray(0, at), text, input.subarray(random.below(2) === 0 ? at : at + text.length)]);
  },
];

/** A changed copy of an input: one to eight changes on top of each other, never empty. */
export function mutate(input: Buffer, random: Random, others: readonly Buffer[], words: readonly string[]): Buffer {
  let out = Buffer.from(input);
  for (let left = random.pick([1, 1, 1, 2, 4, 8]); left > 0; left--) {
    out = Buffer.from(random.pick(MUTATIONS)(out, random, others, words).subarray(0, MOST_INPUT_BYTES));
    if (out.length === 0) out = Buffer.alloc(1);
  }
  return out;
}

function changeField(input: Buffer, random: Random, size: number, change: (value: bigint) => bigint): Buffer {
  if (input.length < size) return input;
  const at = random.below(input.length - size + 1);
  const field = Buffer.from(input.subarray(at, at + size));
  const little = random.below(2) === 0;
  if (little) field.reverse();
  const value = BigInt.asUintN(8 * size, change(BigInt(`0x${field.toString('hex')}`)));
  field.write(value.toString(16).padStart(2 * size, '0'), 'hex');
  if (little) field.reverse();
  field.copy(input, at);
  return input;
}

const someLength = (random: Random): number => 1 + random.below(random.pick([2, 8, 32, 256]));
