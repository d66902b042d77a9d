/**
 * A decoder of sequential Huffman-coded JPEG (ITU-T T.81, 8 bits, three components in one scan) in AssemblyScript. Its pixels are those of
 * libjpeg-turbo with the accurate DCT and smooth upsampling: the same integers in the same order, wrapped and saturated where its SIMD is.
 *
 * It decodes clean data only. Whatever is odd makes it give up, and the caller asks libjpeg-turbo what to make of it.
 *
 * Faster than libjpeg-turbo because a code and the bits behind it, and the end of the block behind those, are one look-up; because the data
 * is freed of stuffed bytes first; and because most blocks have few coefficients, for which there is a transform of their own.
 */

// ---- Memory: what is here is at fixed places, strips of rows and the data lie behind it.

/** Tables of codes: those of DC coefficients by their number, then those of AC. */
const TABLE_BYTES: i32 = 4 * (1024 + 2 + 8192);
const TABLES = memory.data(8 * TABLE_BYTES, 16);
/** For each component and coefficient in zigzag order: its byte in a block, and its step of quantisation from bit 16. */
const STEPS = memory.data(3 * 64 * 4, 16);
/** The blocks of an MCU. */
const BLOCK_BYTES: i32 = 32;
const BLOCKS = memory.data(6 * BLOCK_BYTES, 16);
/** Of each component the DC coefficient before. */
const DC_BEFORE = memory.data(3 * 4, 16);
/** int16 [8, 8], 0 between blocks. */
const COEFFICIENTS = memory.data(128, 16);
/** Between the two passes of a transform, int16 [8, 8], and behind the second, int32 [2, 8, 4]: four rows each. */
const WORK = memory.data(128, 16);
const SUMS = memory.data(256, 16);

export const tables: usize = TABLES;
export const steps: usize = STEPS;

// A table of codes. An entry of the first part, found by the next ten bits, or of the last part, found by sixteen:
//   bits 0-5    bits to take; 0: the code is longer than ten bits, see the last part
//   bits 6-13   coefficients of 0 before this one; 128: end of block; 64: no such code
//   bit 14      an end of block follows, and is taken too
//   bit 15      bits of the value are still to be read; their number stands in its place
//   bits 16-31  the value, signed
const LOOK_AHEAD: i32 = 10;
const FIRST_LONG: i32 = 4 << LOOK_AHEAD; // the first code of more than ten bits, with sixteen bits
const END_BITS: i32 = FIRST_LONG + 4; // bits of the end of block
const LONG: i32 = FIRST_LONG + 8;
const LATER: u32 = 0x8000;
const ENDS: u32 = 0x4000;
const END_RUN: u32 = 128;
const NO_CODE: u32 = 64 << 6;

// A block of an MCU.
const DC_TABLE: i32 = 0;
const AC_TABLE: i32 = 4;
const STEPS_OF: i32 = 8;
const BEFORE: i32 = 12;
const TO: i32 = 16;
const STRIDE: i32 = 20;
const ADVANCE: i32 = 24;

// ---- The picture.

let width: i32 = 0;
let height: i32 = 0;
/** Log2 of how many samples of luma there are for one of chroma, across and down. */
let acrossShift: i32 = 0;
let downShift: i32 = 0;
let yCbCr: bool = false;
let blocksEnd: usize = 0;
let mcusAcross: i32 = 0;
let mcuRows: i32 = 0;
let interval: i32 = 0;

/** Planes of samples are rings of rows: one row of MCUs, or two where the one below or above is needed to upsample. */
let plane0: usize = 0;
let plane1: usize = 0;
let plane2: usize = 0;
let stride0: i32 = 0;
let stride1: i32 = 0;
let ring0: i32 = 0;
let ring1: i32 = 0;
let chroma1: usize = 0;
let chroma2: usize = 0;
let pixels: usize = 0;

let data: usize = 0;
let dataEnd: usize = 0;
let top: usize = 0;

const MARGIN: i32 = 32;
const PAGE: usize = 65536;

/**
 * Prepares for a picture; its scan's data goes to the address that comes back, with 64 bytes to spare. 0 where there is no memory for it.
 * `across` and `down`: log2 of the subsampling. `restart`: MCUs between restart markers, 0: there are none. Tables: two bits each, those of DC first.
 */
export function prepare(w: i32, h: i32, across: i32, down: i32, colour: bool, restart: i32, tableOf: i32, bytes: i32): usize {
  width = w;
  height = h;
  acrossShift = across;
  downShift = down;
  yCbCr = colour;
  mcusAcross = (w + (8 << across) - 1) >> (3 + across);
  mcuRows = (h + (8 << down) - 1) >> (3 + down);
  interval = restart ? restart : mcusAcross * mcuRows;
  ring0 = down ? 32 : 8;
  ring1 = down ? 16 : 8;
  stride0 = (mcusAcross << (3 + across)) + MARGIN;
  stride1 = (mcusAcross << 3) + 2 * MARGIN;
  plane0 = (__heap_base + 63) & ~63;
  plane1 = plane0 + stride0 * ring0;
  plane2 = plane1 + stride1 * ring1;
  chroma1 = plane2 + stride1 * ring1;
  chroma2 = chroma1 + stride0;
  pixels = chroma2 + stride0;
  data = (pixels + 3 * w * ((8 << down) + 1) + 2 * 64) & ~63;
  dataEnd = data + bytes;
  top = dataEnd + 64 + bytes + 64;
  const missing = <i32>((top + PAGE - 1) / PAGE) - memory.size();
  if (missing > 0 && memory.grow(missing) < 0) return 0;

  let block = BLOCKS;
  for (let i = 0; i < 3; i++) {
    const here = i == 0 ? 1 << (across + down) : 1;
    for (let j = 0; j < here; j++) {
      store<u32>(block, TABLES + ((tableOf >> (2 * i)) & 3) * TABLE_BYTES, DC_TABLE);
      store<u32>(block, TABLES + (4 + ((tableOf >> (6 + 2 * i)) & 3)) * TABLE_BYTES, AC_TABLE);
      store<u32>(block, STEPS + 256 * i, STEPS_OF);
      store<u32>(block, DC_BEFORE + 4 * i, BEFORE);
      store<u32>(block, i == 0 ? stride0 : stride1, STRIDE);
      store<u32>(block, i == 0 ? 8 << across : 8, ADVANCE);
      block += BLOCK_BYTES;
    }
  }
  blocksEnd = block;
  return data;
}

/** Where `next` puts pixels. */
export function output(): usize {
  return pixels;
}

// ---- Reading: a row of MCUs at a time.

let row: i32 = 0;
let untilMarker: i32 = 0;
let markers: i32 = 0;

/** Begins the picture; false where its data is not clean. */
export function begin(): bool {
  memory.fill(dataEnd, 0, 64);
  memory.fill(COEFFICIENTS, 0, 128);
  row = 0;
  markers = 0;
  untilMarker = interval;
  return openInterval();
}

/**
 * Decodes the next row of MCUs. Gives how many rows of pixels are ready, uint8 RGB without gaps; after the last row of MCUs all that are left.
 * -1: the data is not clean.
 */
export function next(): i32 {
  placeBlocks();
  for (let left = mcusAcross; left > 0; ) {
    if (untilMarker == 0) {
      if (!closeInterval(0xd0 + (markers & 7)) || !openInterval()) return -1;
      markers++;
      untilMarker = interval;
    }
    const count = min(left, untilMarker);
    if (!decodeMcus(count)) return -1;
    left -= count;
    untilMarker -= count;
  }
  const done = downShift ? 16 * row - 1 : 8 * row;
  row++;
  const last = row == mcuRows;
  if (last && !closeInterval(0xd9)) return -1;
  const ready = last ? height : downShift ? 16 * row - 1 : 8 * row;
  const first = max(0, done);
  for (let y = first, to = pixels; y < ready; y++, to += 3 * width) emitRow(y, to);
  return ready - first;
}

/** Tells the blocks where in the rings this row of MCUs begins. */
function placeBlocks(): void {
  const luma = plane0 + (row * (8 << downShift) & (ring0 - 1)) * stride0;
  const chroma = MARGIN + (row * 8 & (ring1 - 1)) * stride1;
  let block = BLOCKS;
  for (let v = 0; v <= downShift; v++) {
    for (let h = 0; h <= acrossShift; h++) {
      store<u32>(block, luma + 8 * v * stride0 + 8 * h, TO);
      block += BLOCK_BYTES;
    }
  }
  store<u32>(block, plane1 + chroma, TO);
  store<u32>(block + BLOCK_BYTES, plane2 + chroma, TO);
}

// ---- Bits.

/** The next bits, from the highest. */
let bits: u64 = 0;
/** How many of them are the data's. */
let bitCount: u64 = 0;
/** The eight bytes behind them: the data lies backwards, so that its first byte is the highest of a load. */
let next8: usize = 0;
/** Behind the last byte. */
let low: usize = 0;

const TURNED = memory.data<u8>([15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);

/** Turns the data up to the next marker round and frees it of the zeros behind 0xff. False where there is no marker. */
function openInterval(): bool {
  let from = data;
  let to = top;
  const ff = i8x16.splat(-1);
  while (from < dataEnd) {
    const bytes = v128.load(from);
    const found = i8x16.bitmask(i8x16.eq(bytes, ff));
    v128.store(to - 16, i8x16.swizzle(bytes, v128.load(TURNED)));
    if (found == 0) {
      from += 16;
      to -= 16;
      continue;
    }
    const at = <usize>ctz(found);
    if (load<u8>(from + at + 1) == 0) {
      from += at + 2;
      to -= at + 1;
      continue;
    }
    data = from + at;
    low = to - at;
    next8 = top - 8;
    bits = 0;
    bitCount = 0;
    memory.fill(DC_BEFORE, 0, 12);
    return true;
  }
  return false;
}

/** True where all bytes of the interval were needed, no others, and `marker` follows. */
function closeInterval(marker: i32): bool {
  const left = 8 * (<i32>next8 + 8 - <i32>low) + <i32>bitCount;
  if (left < 0 || left > 7 || data + 2 > dataEnd || load<u8>(data + 1) != marker) return false;
  data += 2;
  return true;
}

// @ts-ignore: decorator
@inline
function longEntry(table: usize, ahead: u64): u32 {
  return load<u32>(table + ((<u32>(ahead >> 48) - load<u32>(table, FIRST_LONG)) << 2), LONG);
}

/** The value that `size` bits stand for (T.81 F.2.2.1), 1 to 15 of them, the highest of `ahead`. */
// @ts-ignore: decorator
@inline
function extend(ahead: u64, size: u32): i32 {
  const value = <i32>(ahead >> <u64>(64 - size));
  return value < 1 << (size - 1) ? value + 1 - (1 << size) : value;
}

/** Decodes MCUs to where their blocks point. A loop without calls but for a block's transform: V8 would keep the bits on the stack otherwise. */
function decodeMcus(count: i32): bool {
  let ahead = bits;
  let have = bitCount;
  let from = next8;
  // One MCU that runs past its data takes 6 blocks x 64 coefficients x 31 bits, which is less than what lies before.
  const end = low - 64;
  for (; count > 0; count--) {
    for (let block: usize = BLOCKS; block < blocksEnd; block += BLOCK_BYTES) {
      const dcTable = <usize>load<u32>(block, DC_TABLE);
      // 56 bits or more from here: a code and its value are 31 at most.
      ahead |= load<u64>(from) >> have;
      from -= <usize>((63 - have) >> 3);
      have |= 56;
      let entry = load<u32>(dcTable + (<usize>(ahead >> (64 - LOOK_AHEAD)) << 2));
      let value = <i32>entry >> 16;
      if (entry & LATER) {
        if (!(entry & 63)) entry = longEntry(dcTable, ahead);
        if (entry & NO_CODE) return false;
        ahead <<= <u64>entry;
        have -= <u64>(entry & 63);
        entry >>= 16;
        value = entry ? extend(ahead, entry) : 0;
      }
      ahead <<= <u64>entry;
      have -= <u64>(entry & 63);
      const before = <usize>load<u32>(block, BEFORE);
      value += load<i32>(before);
      store<i32>(before, value);
      const stepsOf = <usize>load<u32>(block, STEPS_OF);
      const dc = value * (load<u32>(stepsOf) >> 16);
      // Eight times what 8 bits can mean: see `exceeds`.
      if (<u32>(dc + 8192) > 16383) return false;

      const acTable = <usize>load<u32>(block, AC_TABLE);
      let k: u32 = 1;
      do {
        ahead |= load<u64>(from) >> have;
        from -= <usize>((63 - have) >> 3);
        have |= 56;
        entry = load<u32>(acTable + (<usize>(ahead >> (64 - LOOK_AHEAD)) << 2));
        let value = <i32>entry >> 16;
        if (entry & LATER) {
          if (!(entry & 63)) entry = longEntry(acTable, ahead);
          ahead <<= <u64>entry;
          have -= <u64>(entry & 63);
          const size = entry >> 16;
          value = size ? extend(ahead, size) : 0;
          entry = (entry & 0x3fc0) | size;
        }
        k += (entry >> 6) & 0xff;
        if (k > 62) {
          if (k > 63) {
            if (k < 128) return false;
            ahead <<= <u64>entry;
            have -= <u64>(entry & 63);
            break;
          }
          // Behind the last coefficient no end of block follows.
          if (entry & ENDS) entry -= ENDS + load<u32>(acTable, END_BITS);
        }
        ahead <<= <u64>entry;
        have -= <u64>(entry & 63);
        const step = load<u32>(stepsOf + (k << 2));
        store<i16>(COEFFICIENTS + (step & 0xffff), <i16>(value * (step >> 16)));
        k += 1 + ((entry >> 7) & END_RUN);
      } while (k < 64);

      const to = <usize>load<u32>(block, TO);
      const stride = <usize>load<u32>(block, STRIDE);
      store<u32>(block, <u32>to + load<u32>(block, ADVANCE), TO);
      // 129 more than the last coefficient's number, or 64 where that is the last of all.
      if (k == 129) flat(dc, to, stride);
      else {
        store<i16>(COEFFICIENTS, <i16>dc);
        const last = k - 129;
        if (!(last < 3 ? transformThree(to, stride) : last < 10 ? transformCorner(to, stride) : transform(to, stride))) return false;
      }
    }
    if (from < end) return false;
  }
  bits = ahead;
  bitCount = have;
  next8 = from;
  return true;
}

// ---- The inverse DCT: jidctint.c of libjpeg, "accurate", as its SIMD computes it.

// @ts-ignore: decorator
@inline
function interleaveLow16(a: v128, b: v128): v128 {
  return i16x8.shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
// @ts-ignore: decorator
@inline
function interleaveHigh16(a: v128, b: v128): v128 {
  return i16x8.shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
// @ts-ignore: decorator
@inline
function interleaveLow32(a: v128, b: v128): v128 {
  return i32x4.shuffle(a, b, 0, 4, 1, 5);
}
// @ts-ignore: decorator
@inline
function interleaveHigh32(a: v128, b: v128): v128 {
  return i32x4.shuffle(a, b, 2, 6, 3, 7);
}
// @ts-ignore: decorator
@inline
function lowHalves(a: v128, b: v128): v128 {
  return i64x2.shuffle(a, b, 0, 2);
}
// @ts-ignore: decorator
@inline
function highHalves(a: v128, b: v128): v128 {
  return i64x2.shuffle(a, b, 1, 3);
}
// @ts-ignore: decorator
@inline
function interleaveLow8(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
// @ts-ignore: decorator
@inline
function interleaveHigh8(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// Constants of jidctint.c, 13 bits behind the point.
const F0298: i16 = 2446;
const F0390: i16 = 3196;
const F0541: i16 = 4433;
const F0765: i16 = 6270;
const F0899: i16 = 7373;
const F1175: i16 = 9633;
const F1501: i16 = 12299;
const F1847: i16 = 15137;
const F1961: i16 = 16069;
const F2053: i16 = 16819;
const F2562: i16 = 20995;
const F3072: i16 = 25172;
const ONE: i16 = 8192;

// Constants come from memory: V8 makes one that stands in the code anew at each use, with four instructions.
const PAIRS = memory.data<i16>([
  // Even rows or columns: 2 and 6; 0 and 2 where 4 and 6 are 0.
  /*  0 */ F0541, F0541 - F1847,
  /*  1 */ F0541 + F0765, F0541,
  /*  2 */ ONE, F0541 + F0765,
  /*  3 */ ONE, F0541,
  /*  4 */ ONE, -F0541,
  /*  5 */ ONE, -F0541 - F0765,
  // Odd ones: the sums 7 + 3 and 5 + 1; 7 and 1; 5 and 3; 3 and 1 where 5 and 7 are 0.
  /*  6 */ F1175 - F1961, F1175,
  /*  7 */ F1175, F1175 - F0390,
  /*  8 */ F0298 - F0899, -F0899,
  /*  9 */ -F0899, F1501 - F0899,
  /* 10 */ F2053 - F2562, -F2562,
  /* 11 */ -F2562, F3072 - F2562,
  /* 12 */ F1175 - F1961, F1175 - F0899,
  /* 13 */ F1175 - F2562, F1175 - F0390,
  /* 14 */ F1175 - F1961 + F3072 - F2562, F1175,
  /* 15 */ F1175, F1175 - F0390 + F1501 - F0899,
  // Green of YCbCr.
  /* 16 */ -22554, 18734,
]);
const GREEN: usize = PAIRS + 4 * 16;

// @ts-ignore: decorator
@inline
function dot(a: v128, pair: i32): v128 {
  return i32x4.dot_i16x8_s(a, v128.load32_splat(PAIRS + 4 * pair));
}

/** What a DC coefficient and the one behind it add to each of eight rows or columns. */
const FIRST_TWO = memory.data<i16>([
  ONE, F1175 - F0390 + F1501 - F0899,
  ONE, F1175,
  ONE, F1175 - F0390,
  ONE, F1175 - F0899,
  ONE, F0899 - F1175,
  ONE, F0390 - F1175,
  ONE, -F1175,
  ONE, F0899 - F1501 + F0390 - F1175,
]);

/** What is added before the two passes' shifts, so that they round; the bound of coefficients; the sign bits of bytes. */
const ROUND1 = memory.data<i32>([1 << 10]);
const ROUND2 = memory.data<i32>([1 << 17]);
const MOST = memory.data<i16>([8191, 8191]);
const SIGNS = memory.data<u32>([0x80808080]);

/** A block whose only coefficient is DC. */
// @ts-ignore: decorator
@inline
function flat(dc: i32, to: usize, stride: usize): void {
  const value = max(0, min(255, ((dc + 4) >> 3) + 128));
  const eight = <u64>value * 0x0101010101010101;
  store<u64>(to, eight);
  store<u64>(to + stride, eight);
  store<u64>(to + 2 * stride, eight);
  store<u64>(to + 3 * stride, eight);
  to += 4 * stride;
  store<u64>(to, eight);
  store<u64>(to + stride, eight);
  store<u64>(to + 2 * stride, eight);
  store<u64>(to + 3 * stride, eight);
}

/** Where the first row holds more than any encoder writes, libjpeg-turbo's short cut for blocks of that row alone overflows as nothing here does. */
// @ts-ignore: decorator
@inline
function exceeds(firstRow: v128): bool {
  return i16x8.bitmask(i16x8.gt_s(i16x8.abs(firstRow), v128.load32_splat(MOST))) != 0;
}

/** Four columns of the first pass, from the sums of its even and odd rows: shifted, and stored as four rows of eight int16. */
// @ts-ignore: decorator
@inline
function turn(e0: v128, e1: v128, e2: v128, e3: v128, o0: v128, o1: v128, o2: v128, o3: v128, to: usize): void {
  const r04 = i16x8.narrow_i32x4_s(i32x4.shr_s(i32x4.add(e0, o0), 11), i32x4.shr_s(i32x4.sub(e3, o3), 11));
  const r15 = i16x8.narrow_i32x4_s(i32x4.shr_s(i32x4.add(e1, o1), 11), i32x4.shr_s(i32x4.sub(e2, o2), 11));
  const r26 = i16x8.narrow_i32x4_s(i32x4.shr_s(i32x4.add(e2, o2), 11), i32x4.shr_s(i32x4.sub(e1, o1), 11));
  const r37 = i16x8.narrow_i32x4_s(i32x4.shr_s(i32x4.add(e3, o3), 11), i32x4.shr_s(i32x4.sub(e0, o0), 11));
  const r01 = interleaveLow16(r04, r15);
  const r23 = interleaveLow16(r26, r37);
  const r45 = interleaveHigh16(r04, r15);
  const r67 = interleaveHigh16(r26, r37);
  const upper01 = interleaveLow32(r01, r23);
  const upper23 = interleaveHigh32(r01, r23);
  const lower01 = interleaveLow32(r45, r67);
  const lower23 = interleaveHigh32(r45, r67);
  v128.store(to, lowHalves(upper01, lower01));
  v128.store(to, highHalves(upper01, lower01), 16);
  v128.store(to, lowHalves(upper23, lower23), 32);
  v128.store(to, highHalves(upper23, lower23), 48);
}

/** Four rows of the second pass, from the same sums: shifted, and stored as eight columns of four int32. */
// @ts-ignore: decorator
@inline
function keep(e0: v128, e1: v128, e2: v128, e3: v128, o0: v128, o1: v128, o2: v128, o3: v128, to: usize): void {
  v128.store(to, i32x4.shr_s(i32x4.add(e0, o0), 18));
  v128.store(to, i32x4.shr_s(i32x4.add(e1, o1), 18), 16);
  v128.store(to, i32x4.shr_s(i32x4.add(e2, o2), 18), 32);
  v128.store(to, i32x4.shr_s(i32x4.add(e3, o3), 18), 48);
  v128.store(to, i32x4.shr_s(i32x4.sub(e3, o3), 18), 64);
  v128.store(to, i32x4.shr_s(i32x4.sub(e2, o2), 18), 80);
  v128.store(to, i32x4.shr_s(i32x4.sub(e1, o1), 18), 96);
  v128.store(to, i32x4.shr_s(i32x4.sub(e0, o0), 18), 112);
}

/** A column of the second pass. */
// @ts-ignore: decorator
@inline
function column(i: i32): v128 {
  return i16x8.narrow_i32x4_s(v128.load(SUMS + 16 * i), v128.load(SUMS + 128 + 16 * i));
}

/** The columns of the second pass as rows of samples. */
// @ts-ignore: decorator
@inline
function storeSamples(to: usize, stride: usize): void {
  const signs = v128.load32_splat(SIGNS);
  const c04 = i8x16.narrow_i16x8_s(column(0), column(4));
  const c15 = i8x16.narrow_i16x8_s(column(1), column(5));
  const c26 = i8x16.narrow_i16x8_s(column(2), column(6));
  const c37 = i8x16.narrow_i16x8_s(column(3), column(7));
  const c01 = interleaveLow8(c04, c15);
  const c45 = interleaveHigh8(c04, c15);
  const c23 = interleaveLow8(c26, c37);
  const c67 = interleaveHigh8(c26, c37);
  const left0 = v128.xor(interleaveLow16(c01, c23), signs);
  const left4 = v128.xor(interleaveHigh16(c01, c23), signs);
  const right0 = v128.xor(interleaveLow16(c45, c67), signs);
  const right4 = v128.xor(interleaveHigh16(c45, c67), signs);
  storeTwo(interleaveLow32(left0, right0), to, stride);
  storeTwo(interleaveHigh32(left0, right0), to + 2 * stride, stride);
  storeTwo(interleaveLow32(left4, right4), to + 4 * stride, stride);
  storeTwo(interleaveHigh32(left4, right4), to + 6 * stride, stride);
}

/** Two rows of eight samples. */
// @ts-ignore: decorator
@inline
function storeTwo(rows: v128, to: usize, stride: usize): void {
  v128.store64_lane(to, rows, 0);
  v128.store64_lane(to + stride, rows, 1);
}

/** A pass over four columns or rows of which 4 to 7 are 0: 0 and 2, 3 and 1. */
// @ts-ignore: decorator
@inline
function cornerPass(even: v128, odd: v128, first: bool, to: usize): void {
  const round = v128.load32_splat(first ? ROUND1 : ROUND2);
  const e0 = i32x4.add(dot(even, 2), round);
  const e1 = i32x4.add(dot(even, 3), round);
  const e2 = i32x4.add(dot(even, 4), round);
  const e3 = i32x4.add(dot(even, 5), round);
  const o0 = dot(odd, 15);
  const o1 = dot(odd, 14);
  const o2 = dot(odd, 13);
  const o3 = dot(odd, 12);
  if (first) turn(e0, e1, e2, e3, o0, o1, o2, o3, to);
  else keep(e0, e1, e2, e3, o0, o1, o2, o3, to);
}

/** A pass over four columns or rows: 0 + 4 and 0 - 4 shifted by 16 bits, then pairs, and the sums 7 + 3 and 5 + 1. */
// @ts-ignore: decorator
@inline
function pass(sum04: v128, difference04: v128, i26: v128, i71: v128, i53: v128, sums: v128, first: bool, to: usize): void {
  const round = v128.load32_splat(first ? ROUND1 : ROUND2);
  const t0 = i32x4.add(i32x4.shr_s(sum04, 3), round);
  const t1 = i32x4.add(i32x4.shr_s(difference04, 3), round);
  const t2 = dot(i26, 0);
  const t3 = dot(i26, 1);
  const z3 = dot(sums, 6);
  const z4 = dot(sums, 7);
  const e0 = i32x4.add(t0, t3);
  const e1 = i32x4.add(t1, t2);
  const e2 = i32x4.sub(t1, t2);
  const e3 = i32x4.sub(t0, t3);
  const o0 = i32x4.add(dot(i71, 9), z4);
  const o1 = i32x4.add(dot(i53, 11), z3);
  const o2 = i32x4.add(dot(i53, 10), z4);
  const o3 = i32x4.add(dot(i71, 8), z3);
  if (first) turn(e0, e1, e2, e3, o0, o1, o2, o3, to);
  else keep(e0, e1, e2, e3, o0, o1, o2, o3, to);
}

/** Both halves of a pass over eight rows of eight int16. */
// @ts-ignore: decorator
@inline
function wholePass(from: usize, first: bool, to: usize, second: usize): void {
  const zero = i16x8.splat(0);
  const i0 = v128.load(from);
  const i1 = v128.load(from, 16);
  const i2 = v128.load(from, 32);
  const i3 = v128.load(from, 48);
  const i4 = v128.load(from, 64);
  const i5 = v128.load(from, 80);
  const i6 = v128.load(from, 96);
  const i7 = v128.load(from, 112);
  const sum04 = i16x8.add(i0, i4);
  const difference04 = i16x8.sub(i0, i4);
  const sum73 = i16x8.add(i7, i3);
  const sum51 = i16x8.add(i5, i1);
  pass(
    interleaveLow16(zero, sum04),
    interleaveLow16(zero, difference04),
    interleaveLow16(i2, i6),
    interleaveLow16(i7, i1),
    interleaveLow16(i5, i3),
    interleaveLow16(sum73, sum51),
    first,
    to,
  );
  pass(
    interleaveHigh16(zero, sum04),
    interleaveHigh16(zero, difference04),
    interleaveHigh16(i2, i6),
    interleaveHigh16(i7, i1),
    interleaveHigh16(i5, i3),
    interleaveHigh16(sum73, sum51),
    first,
    second,
  );
}

/** A block of the first three coefficients in zigzag order: DC, and one beside it and one below it. False where they are no picture's. */
function transformThree(to: usize, stride: usize): bool {
  const firstRow = v128.load32_zero(COEFFICIENTS);
  if (exceeds(firstRow)) return false;
  const below = v128.load32_zero(COEFFICIENTS, 16);
  store<u32>(COEFFICIENTS, 0);
  store<u32>(COEFFICIENTS, 0, 16);
  const column = i32x4.splat(i32x4.extract_lane(interleaveLow16(firstRow, below), 0));
  const round = v128.load32_splat(ROUND1);
  const means = i16x8.narrow_i32x4_s(
    i32x4.shr_s(i32x4.add(i32x4.dot_i16x8_s(column, v128.load(FIRST_TWO)), round), 11),
    i32x4.shr_s(i32x4.add(i32x4.dot_i16x8_s(column, v128.load(FIRST_TWO, 16)), round), 11),
  );
  const beside = i16x8.splat(<i16>(i16x8.extract_lane_s(firstRow, 1) << 2));
  const upper = interleaveLow16(means, beside);
  const lower = interleaveHigh16(means, beside);
  twoRows(i32x4.shuffle(upper, upper, 0, 0, 0, 0), i32x4.shuffle(upper, upper, 1, 1, 1, 1), to, stride);
  to += 2 * stride;
  twoRows(i32x4.shuffle(upper, upper, 2, 2, 2, 2), i32x4.shuffle(upper, upper, 3, 3, 3, 3), to, stride);
  to += 2 * stride;
  twoRows(i32x4.shuffle(lower, lower, 0, 0, 0, 0), i32x4.shuffle(lower, lower, 1, 1, 1, 1), to, stride);
  to += 2 * stride;
  twoRows(i32x4.shuffle(lower, lower, 2, 2, 2, 2), i32x4.shuffle(lower, lower, 3, 3, 3, 3), to, stride);
  return true;
}

/** Two rows of a block of three coefficients. */
// @ts-ignore: decorator
@inline
function twoRows(a: v128, b: v128, to: usize, stride: usize): void {
  storeTwo(v128.xor(i8x16.narrow_i16x8_s(oneRow(a), oneRow(b)), v128.load32_splat(SIGNS)), to, stride);
}

// @ts-ignore: decorator
@inline
function oneRow(pair: v128): v128 {
  const round = v128.load32_splat(ROUND2);
  return i16x8.narrow_i32x4_s(
    i32x4.shr_s(i32x4.add(i32x4.dot_i16x8_s(pair, v128.load(FIRST_TWO)), round), 18),
    i32x4.shr_s(i32x4.add(i32x4.dot_i16x8_s(pair, v128.load(FIRST_TWO, 16)), round), 18),
  );
}

/**
 * A block of which only the first ten coefficients in zigzag order are there: those of the upper left triangle, so that rows and columns from the
 * fifth on are 0. False where they are no picture's.
 */
function transformCorner(to: usize, stride: usize): bool {
  const i0 = v128.load64_zero(COEFFICIENTS);
  const i1 = v128.load64_zero(COEFFICIENTS, 16);
  const i2 = v128.load64_zero(COEFFICIENTS, 32);
  const i3 = v128.load64_zero(COEFFICIENTS, 48);
  if (exceeds(i0)) return false;
  store<u64>(COEFFICIENTS, 0);
  store<u64>(COEFFICIENTS, 0, 16);
  store<u64>(COEFFICIENTS, 0, 32);
  store<u64>(COEFFICIENTS, 0, 48);
  cornerPass(interleaveLow16(i0, i2), interleaveLow16(i3, i1), true, WORK);
  const c0 = v128.load(WORK);
  const c1 = v128.load(WORK, 16);
  const c2 = v128.load(WORK, 32);
  const c3 = v128.load(WORK, 48);
  cornerPass(interleaveLow16(c0, c2), interleaveLow16(c3, c1), false, SUMS);
  cornerPass(interleaveHigh16(c0, c2), interleaveHigh16(c3, c1), false, SUMS + 128);
  storeSamples(to, stride);
  return true;
}

/** A block of any coefficients. False where they are no picture's. */
function transform(to: usize, stride: usize): bool {
  if (exceeds(v128.load(COEFFICIENTS))) return false;
  wholePass(COEFFICIENTS, true, WORK, WORK + 64);
  const zero = i16x8.splat(0);
  for (let i = 0; i < 128; i += 16) v128.store(COEFFICIENTS + i, zero);
  wholePass(WORK, false, SUMS, SUMS + 128);
  storeSamples(to, stride);
  return true;
}

// ---- Samples to pixels.

/** Row `y` of the picture. Up to 15 pixels behind its end are written too. */
function emitRow(y: i32, to: usize): void {
  const luma = plane0 + (y & (ring0 - 1)) * stride0;
  const row = (y >> downShift) & (ring1 - 1);
  let blue = plane1 + MARGIN + row * stride1;
  let red = plane2 + MARGIN + row * stride1;
  if (acrossShift) {
    // The row of chroma that is next: above for an even row of the picture, below for an odd one; at the picture's edge the same.
    let far = row;
    if (downShift) {
      const chromaRow = y >> 1;
      const most = ((height + 1) >> 1) - 1;
      far = max(0, min(most, y & 1 ? chromaRow + 1 : chromaRow - 1)) & (ring1 - 1);
    }
    upsample(blue, plane1 + MARGIN + far * stride1, chroma1);
    upsample(red, plane2 + MARGIN + far * stride1, chroma2);
    blue = chroma1;
    red = chroma2;
  }
  if (yCbCr) toRgb(luma, blue, red, to);
  else interleave(luma, blue, red, to);
}

/**
 * Doubles a row of chroma: h2v1_fancy_upsample and h2v2_fancy_upsample of jdsample.c. Where there is nothing between rows, `far` is `near`, and
 * (3a + b + 1) / 4 of the former is (3 * 4a + 4b + 4) / 16 of the latter.
 */
function upsample(near: usize, far: usize, to: usize): void {
  const samples = (width + 1) >> 1;
  edges(near, samples);
  edges(far, samples);
  const leftRound = v128.load32_splat(downShift ? EIGHTS : FOURS);
  const rightRound = v128.load32_splat(downShift ? SEVENS : EIGHTS);
  let before = between(near - 8, far - 8);
  let here = between(near, far);
  for (let i = 0; i < samples; i += 8) {
    const after = between(near + i + 8, far + i + 8);
    const left = i16x8.shuffle(before, here, 7, 8, 9, 10, 11, 12, 13, 14);
    const right = i16x8.shuffle(here, after, 1, 2, 3, 4, 5, 6, 7, 8);
    const most = i16x8.add(i16x8.shl(here, 1), here);
    const even = i16x8.shr_u(i16x8.add(i16x8.add(most, left), leftRound), 4);
    const odd = i16x8.shr_u(i16x8.add(i16x8.add(most, right), rightRound), 4);
    v128.store(to + 2 * i, v128.or(even, i16x8.shl(odd, 8)));
    before = here;
    here = after;
  }
}

const FOURS = memory.data<i16>([4, 4]);
const SEVENS = memory.data<i16>([7, 7]);
const EIGHTS = memory.data<i16>([8, 8]);

/** Four times eight samples, a quarter of the way to another row. */
// @ts-ignore: decorator
@inline
function between(near: usize, far: usize): v128 {
  const here = v128.load8x8_u(near);
  return i16x8.add(i16x8.add(i16x8.shl(here, 1), here), v128.load8x8_u(far));
}

/** The outermost samples once more, beside them. */
function edges(row: usize, samples: i32): void {
  store<u8>(row - 1, load<u8>(row));
  store<u8>(row + samples, load<u8>(row + samples - 1));
}

const CENTRE = memory.data<i16>([128, 128]);
/** 1.402 - 1 and 1.772 - 2, 15 bits behind the point: exact for every sample, which the constants of 16 bits of jdcolor.c do not fit. */
const RED = memory.data<i16>([13173, 13173]);
const BLUE = memory.data<i16>([-7471, -7471]);
const HALF = memory.data<i32>([32768]);
/** Of four pixels of 32 bits those of 24. */
const PACK = memory.data<u8>([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 255, 255, 255, 255]);

/** A row of YCbCr to RGB: ycc_rgb_convert of jdcolor.c. */
function toRgb(luma: usize, blue: usize, red: usize, to: usize): void {
  for (const end = luma + width; luma < end; luma += 16) {
    const centre = v128.load32_splat(CENTRE);
    const redOf = v128.load32_splat(RED);
    const blueOf = v128.load32_splat(BLUE);
    const half = v128.load32_splat(HALF);
    const greenOf = v128.load32_splat(GREEN);
    const y = v128.load(luma);
    const cb = v128.load(blue);
    const cr = v128.load(red);
    blue += 16;
    red += 16;
    const y0 = i16x8.extend_low_i8x16_u(y);
    const y1 = i16x8.extend_high_i8x16_u(y);
    const b0 = i16x8.sub(i16x8.extend_low_i8x16_u(cb), centre);
    const b1 = i16x8.sub(i16x8.extend_high_i8x16_u(cb), centre);
    const r0 = i16x8.sub(i16x8.extend_low_i8x16_u(cr), centre);
    const r1 = i16x8.sub(i16x8.extend_high_i8x16_u(cr), centre);
    const r = i8x16.narrow_i16x8_u(
      i16x8.add(i16x8.add(y0, r0), i16x8.q15mulr_sat_s(r0, redOf)),
      i16x8.add(i16x8.add(y1, r1), i16x8.q15mulr_sat_s(r1, redOf)),
    );
    const b = i8x16.narrow_i16x8_u(
      i16x8.add(i16x8.add(y0, i16x8.shl(b0, 1)), i16x8.q15mulr_sat_s(b0, blueOf)),
      i16x8.add(i16x8.add(y1, i16x8.shl(b1, 1)), i16x8.q15mulr_sat_s(b1, blueOf)),
    );
    const g0 = i32x4.shr_s(i32x4.add(i32x4.dot_i16x8_s(interleaveLow16(b0, r0), greenOf), half), 16);
    const g1 = i32x4.shr_s(i32x4.add(i32x4.dot_i16x8_s(interleaveHigh16(b0, r0), greenOf), half), 16);
    const g2 = i32x4.shr_s(i32x4.add(i32x4.dot_i16x8_s(interleaveLow16(b1, r1), greenOf), half), 16);
    const g3 = i32x4.shr_s(i32x4.add(i32x4.dot_i16x8_s(interleaveHigh16(b1, r1), greenOf), half), 16);
    const g = i8x16.narrow_i16x8_u(
      i16x8.add(y0, i16x8.sub(i16x8.narrow_i32x4_s(g0, g1), r0)),
      i16x8.add(y1, i16x8.sub(i16x8.narrow_i32x4_s(g2, g3), r1)),
    );
    storePixels(r, g, b, to);
    to += 48;
  }
}

/** A row whose components are red, green and blue. */
function interleave(red: usize, green: usize, blue: usize, to: usize): void {
  for (const end = red + width; red < end; red += 16) {
    storePixels(v128.load(red), v128.load(green), v128.load(blue), to);
    green += 16;
    blue += 16;
    to += 48;
  }
}

/** Sixteen pixels, 48 bytes, and 4 bytes behind them. */
// @ts-ignore: decorator
@inline
function storePixels(r: v128, g: v128, b: v128, to: usize): void {
  const zero = i8x16.splat(0);
  const pack = v128.load(PACK);
  const rg0 = interleaveLow8(r, g);
  const rg1 = interleaveHigh8(r, g);
  const b0 = interleaveLow8(b, zero);
  const b1 = interleaveHigh8(b, zero);
  v128.store(to, i8x16.swizzle(interleaveLow16(rg0, b0), pack));
  v128.store(to + 12, i8x16.swizzle(interleaveHigh16(rg0, b0), pack));
  v128.store(to + 24, i8x16.swizzle(interleaveLow16(rg1, b1), pack));
  v128.store(to + 36, i8x16.swizzle(interleaveHigh16(rg1, b1), pack));
}
