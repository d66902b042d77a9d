import { NightshiftError } from '../../../errors.ts';

/** Bytes of an element, by the name that safetensors gives its type. */
export const DTYPE_BYTES: ReadonlyMap<string, number> = new Map([
  ...['BOOL', 'U8', 'I8', 'F8_E4M3', 'F8_E5M2'].map((name) => [name, 1] as const),
  ...['U16', 'I16', 'F16', 'BF16'].map((name) => [name, 2] as const),
  ...['U32', 'I32', 'F32'].map((name) => [name, 4] as const),
  ...['U64', 'I64', 'F64'].map((name) => [name, 8] as const),
]);

/**
 * Little-endian elements as float32; F32, F16 and BF16 only. `bytes` must start its ArrayBuffer. Little-endian hosts only.
 *
 * @throws NightshiftError `weights-unsupported` for another type, naming the `tensor`
 */
export function toFloat32(dtype: string, bytes: Buffer<ArrayBuffer>, tensor: string): Float32Array<ArrayBuffer> {
  switch (dtype) {
    case 'F32':
      return new Float32Array(bytes.buffer);
    case 'BF16':
      return widenBf16(new Uint16Array(bytes.buffer));
    case 'F16':
      return widenF16(new Uint16Array(bytes.buffer));
    default:
      throw new NightshiftError('weights-unsupported', `tensor ${tensor} is ${dtype}, not F32, F16 or BF16`);
  }
}

function widenBf16(source: Uint16Array): Float32Array<ArrayBuffer> {
  const bits = new Uint32Array(source.length);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
  return new Float32Array(bits.buffer);
}

let halves: Float32Array | undefined;

function widenF16(source: Uint16Array): Float32Array<ArrayBuffer> {
  halves ??= Float32Array.from({ length: 1 << 16 }, (_, half) => float16(half));
  const out = new Float32Array(source.length);
  for (let i = 0; i < source.length; i++) out[i] = halves[source[i]!]!;
  return out;
}

function float16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
