import type { CodeTable } from './header.ts';

/** The layout of a table of codes: see `packages/core/wasm/jpeg.ts`. */
const LOOK_AHEAD = 10;
const FIRST_LONG = 1 << LOOK_AHEAD;
const LONG = FIRST_LONG + 2;
const MOST_LONG = 8_192;
const LATER = 0x8000;
const ENDS = 0x4000;
const END_RUN = 128;
/** One bit, which nobody takes. */
const NO_CODE = LATER | (64 << 6) | 1;
/** Bits behind the first ten. */
const REST = 6;

/** Int32 values of a table. */
export const TABLE_LENGTH = LONG + MOST_LONG;

/**
 * Writes a table by which ten bits give a code, the value behind it and, where it still fits, the end of the block behind that. False where the codes
 * are none (ITU-T T.81 annex C), or more than an encoder makes are longer than ten bits.
 */
export function writeCodeTable({ kind, counts, symbols }: CodeTable, table: Int32Array): boolean {
  table.fill(NO_CODE, 0, FIRST_LONG);
  let code = 0;
  let at = 0;
  let end = { code: 0, length: 0 };
  let firstLong = 2 ** 16;
  for (let length = 1; length <= 16; length++, code <<= 1) {
    if (length === LOOK_AHEAD + 1) firstLong = code << (16 - length);
    // No code is all ones.
    if (counts[length - 1]! > 0 && code + counts[length - 1]! >= 1 << length) return false;
    for (let i = 0; i < counts[length - 1]!; i++, at++, code++) {
      const symbol = symbols[at]!;
      if (kind === 'dc' && symbol > 15) return false;
      const size = symbol & 15;
      const zeros = kind === 'dc' ? 0 : symbol >> 4;
      const isEnd = kind === 'ac' && size === 0 && zeros !== 15;
      if (isEnd && symbol === 0) end = { code, length };
      const run = (isEnd ? END_RUN : zeros) << 6;
      const later = (size << 16) | LATER | run | length;
      if (length > LOOK_AHEAD) {
        const first = LONG + (code << (16 - length)) - firstLong;
        const prefix = code >> (length - LOOK_AHEAD);
        if (table[prefix] !== LATER) {
          const from = LONG + (prefix << REST) - firstLong;
          if (from + (1 << REST) > TABLE_LENGTH) return false;
          table[prefix] = LATER;
          table.fill(NO_CODE, from, from + (1 << REST));
        }
        table.fill(later, first, first + (1 << (16 - length)));
        continue;
      }
      const spare = LOOK_AHEAD - length;
      const first = code << spare;
      if (size > spare) {
        table.fill(later, first, first + (1 << spare));
        continue;
      }
      for (let bits = 0; bits < 1 << size; bits++) {
        const value = size > 0 && bits < 1 << (size - 1) ? bits + 1 - (1 << size) : bits;
        const from = first | (bits << (spare - size));
        table.fill((value << 16) | run | (length + size), from, from + (1 << (spare - size)));
      }
    }
  }
  table[FIRST_LONG] = firstLong;
  table[FIRST_LONG + 1] = end.length;
  if (end.length > 0) joinEnds(table, end);
  return true;
}

/** Takes the end of a block together with the coefficient before it. */
function joinEnds(table: Int32Array, { code, length }: { readonly code: number; readonly length: number }): void {
  for (let bits = 0; bits < FIRST_LONG; bits++) {
    const entry = table[bits]!;
    const left = LOOK_AHEAD - (entry & 63) - length;
    const isCoefficient = (entry & LATER) === 0 && ((entry >> 6) & 0xff) < 64;
    if (isCoefficient && left >= 0 && ((bits >> left) & ((1 << length) - 1)) === code)
      table[bits] = (entry | ENDS) + length;
  }
}
