import { NightshiftError } from '../../errors.ts';

const CLEAR = 256;
const END = 257;
const FIRST = 258;
const CODES = 4_096;

/**
 * LZW as in TIFF 6.0 section 13: codes from the most significant bit, growing from 9 to 12 bits one code early. At most `most` bytes
 * come out. `tile-corrupt` for a code that was not made yet, `tile-truncated` where the data ends before its end code and before
 * `most`.
 */
export function unpackLzw(data: Uint8Array, most: number): Uint8Array {
  const out = new Uint8Array(most);
  // A code's string is `length` bytes of the output from `start`: every string was written out when its code was made.
  const start = new Int32Array(CODES);
  const length = new Int32Array(CODES);
  let next = FIRST;
  let width = 9;
  let previous = -1;
  let previousAt = 0;
  let end = 0;
  let bits = 0;
  let count = 0;
  for (let at = 0; end < most; ) {
    while (count < width) {
      if (at === data.length) throw new NightshiftError('tile-truncated', `the LZW data ends after ${end} bytes`);
      bits = ((bits << 8) | data[at++]!) & 0xff_ff_ff;
      count += 8;
    }
    count -= width;
    const code = (bits >> count) & ((1 << width) - 1);
    if (code === END) return out.subarray(0, end);
    if (code === CLEAR) {
      next = FIRST;
      width = 9;
      previous = -1;
      continue;
    }
    const known = code < CLEAR || (code >= FIRST && code < next);
    if (!known && (code !== next || previous < 0)) {
      throw new NightshiftError('tile-corrupt', `LZW code ${code} before it was made`);
    }
    const from = end;
    const previousLength = previous < 0 ? 0 : previous < CLEAR ? 1 : length[previous]!;
    if (code < CLEAR) out[end++] = code;
    else {
      // The code that is made now is the string before and its own first byte.
      const source = known ? start[code]! : previousAt;
      const bytes = known ? length[code]! : previousLength + 1;
      for (let i = 0; i < bytes && end < most; i++) out[end++] = out[source + i]!;
    }
    if (previous >= 0 && next < CODES) {
      start[next] = previousAt;
      length[next] = previousLength + 1;
      next++;
    }
    previous = code;
    previousAt = from;
    if (next >= (1 << width) - 1 && width < 12) width++;
  }
  return out;
}
