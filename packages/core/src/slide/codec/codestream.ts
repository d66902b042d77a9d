import { NightshiftError } from '../../errors.ts';

/** What the main header of a JPEG 2000 codestream says (ITU-T T.800 A.5). */
export interface CodestreamHeader {
  readonly width: number;
  readonly height: number;
  /** Bits of each component, one entry a component; signed ones negative. */
  readonly bits: readonly number[];
  /** False where a component has fewer samples than the picture has pixels. */
  readonly fullChroma: boolean;
  /** How often the wavelet halves the picture. */
  readonly decompositions: number;
}

const SOC = 0xff4f;
const SIZ = 0xff51;
const COD = 0xff52;
const SOT = 0xff90;
const SOD = 0xff93;
const EOC = 0xffd9;

/**
 * The main header of a codestream, which must be whole: its tile-parts are walked to the end-of-codestream marker, because
 * OpenJPEG takes one that is cut short for a picture of less detail. `tile-truncated` or `tile-corrupt`.
 */
export function readCodestream(block: Uint8Array): CodestreamHeader {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const corrupt = (what: string) => new NightshiftError('tile-corrupt', `the tile is no JPEG 2000: ${what}`);
  const truncated = () =>
    new NightshiftError('tile-truncated', `the tile's data ends early, after ${block.length} bytes`);
  const need = (end: number) => {
    if (end > block.length) throw truncated();
  };
  need(4);
  if (view.getUint16(0) !== SOC) throw corrupt('it does not start as a codestream');
  let size: Omit<CodestreamHeader, 'decompositions'> | null = null;
  let decompositions = 0;
  let at = 2;
  for (;;) {
    need(at + 4);
    const marker = view.getUint16(at);
    const length = view.getUint16(at + 2);
    if (marker === SOT) break;
    if (marker < 0xff01 || length < 2) throw corrupt(`no marker at byte ${at}`);
    need(at + 2 + length);
    if (marker === SIZ) size = readSize(view, at + 4, length - 2, corrupt);
    if (marker === COD && length >= 12) decompositions = view.getUint8(at + 9);
    at += 2 + length;
  }
  if (size === null) throw corrupt('it does not say its size');
  for (;;) {
    need(at + 2);
    const marker = view.getUint16(at);
    if (marker === EOC) return { ...size, decompositions };
    need(at + 12);
    if (marker !== SOT) throw corrupt(`no tile-part at byte ${at}`);
    const length = view.getUint32(at + 6);
    // 0: the last one, which goes on to the end marker.
    if (length === 0) {
      if (view.getUint16(endOf(block) - 2) !== EOC) throw truncated();
      checkPackets(view, at, endOf(block) - 2, corrupt);
      return { ...size, decompositions };
    }
    if (length < 14) throw corrupt(`a tile-part of ${length} bytes`);
    need(at + length);
    checkPackets(view, at, at + length, corrupt);
    at += length;
  }
}

/**
 * Packets hold no two bytes that look like a marker (T.800 A.1), but those at their own start and end. OpenJPEG decodes what was
 * overwritten without a word; this is what can be seen of it.
 */
function checkPackets(view: DataView, start: number, end: number, corrupt: (what: string) => NightshiftError): void {
  let at = start;
  while (at + 4 <= end && view.getUint16(at) !== SOD) {
    if (view.getUint8(at) !== 0xff) throw corrupt(`no marker at byte ${at}`);
    at += 2 + view.getUint16(at + 2);
  }
  const bytes = new Uint8Array(view.buffer, view.byteOffset, end);
  for (at = bytes.indexOf(0xff, at + 2); at >= 0 && at + 1 < end; at = bytes.indexOf(0xff, at + 1)) {
    const next = bytes[at + 1]!;
    if (next > 0x8f && next !== 0x91 && next !== 0x92) throw corrupt(`a marker among its packets, at byte ${at}`);
  }
}

function readSize(
  view: DataView,
  at: number,
  length: number,
  corrupt: (what: string) => NightshiftError,
): Omit<CodestreamHeader, 'decompositions'> {
  const components = length >= 36 ? view.getUint16(at + 34) : 0;
  if (components === 0 || length < 36 + 3 * components) throw corrupt('its size is damaged');
  const [right, bottom, left, top] = [2, 6, 10, 14].map((offset) => view.getUint32(at + offset)) as [
    number,
    number,
    number,
    number,
  ];
  const bits: number[] = [];
  let fullChroma = true;
  for (let i = 0, p = at + 36; i < components; i++, p += 3) {
    const depth = view.getUint8(p);
    bits.push(depth & 0x80 ? -((depth & 0x7f) + 1) : depth + 1);
    const [across, down] = [view.getUint8(p + 1), view.getUint8(p + 2)];
    // The decoder's binding reads beyond a component that is smaller than that.
    const most = i === 0 ? 1 : 2;
    if (across < 1 || down < 1 || across > most || down > most) throw corrupt('its components are of odd sizes');
    if (across !== 1 || down !== 1) fullChroma = false;
  }
  return { width: right - left, height: bottom - top, bits, fullChroma };
}

/** Behind the last byte that is not 0: DICOM pads a frame to an even length. */
function endOf(block: Uint8Array): number {
  return block.at(-1) === 0 ? block.length - 1 : block.length;
}
