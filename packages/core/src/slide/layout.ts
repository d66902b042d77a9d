import { NightshiftError } from '../errors.ts';
import { SHIFTS } from './blend.ts';
import type { BlockIndex, Level } from './slide.ts';

/** A rectangle of a block, from (left, top) in it, that lies at (x, y) of the level. Whole pixels, within the block. */
export interface Piece {
  readonly block: number;
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
  readonly x: number;
  readonly y: number;
  /**
   * It lies by so much further to the right and down, in 1/65536 px below one; then it may reach beyond the level. Absent: it lies at whole pixels,
   * and within the level.
   */
  readonly shift?: { readonly x: number; readonly y: number };
}

/** Where a piece between pixels lies along a side: the pixel before, and by how much further. Less than 1/512 px is nothing, as in cairo. */
export function between(position: number): { readonly at: number; readonly shift: number } {
  const at = Math.floor(position);
  const shift = Math.round(SHIFTS * (position - at));
  if (shift < SHIFTS / 512) return { at, shift: 0 };
  return shift > SHIFTS - SHIFTS / 512 ? { at: at + 1, shift: 0 } : { at, shift };
}

/** The shift of a piece from what `between` says of its two sides. */
export const shiftOf = (across: { readonly shift: number }, down: { readonly shift: number }): Pick<Piece, 'shift'> =>
  across.shift > 0 || down.shift > 0 ? { shift: { x: across.shift, y: down.shift } } : {};

/** Where the blocks of a level lie. A block is named by its index, `row * columns + column`. */
export interface BlockLayout {
  /** The pieces that touch a rectangle of the level: a later one is drawn over an earlier one. */
  under(x: number, y: number, width: number, height: number): readonly Piece[];
  /** The pieces of a block, at the next whole pixels, within the level. */
  of(block: number): readonly Piece[];
  /** The part of a block that is picture: its size where a writer stores it clipped. */
  used(block: number): { readonly width: number; readonly height: number };
  /** Blocks lie side by side and leave nothing out. */
  readonly regular: boolean;
  /** Some pieces lie between pixels. */
  readonly shifted: boolean;
}

/** What hostile positions may cost: no scanner takes a million pictures, or a dozen of one spot. */
export const MOST_PIECES = 1_000_000;
const MOST_OVER_ONE_SPOT = 64;
const MOST_CELLS_ACROSS = 1_024;

export const layoutOf = (level: Level, index: BlockIndex): BlockLayout => index.layout ?? gridLayout(level);

/** Blocks side by side from the origin, those at the right and bottom edge cut. */
function gridLayout({ width, height, blockWidth, blockHeight, columns }: Level): BlockLayout {
  const piece = (column: number, row: number): Piece => {
    const [x, y] = [column * blockWidth, row * blockHeight];
    const block = row * columns + column;
    return {
      block,
      left: 0,
      top: 0,
      width: Math.min(blockWidth, width - x),
      height: Math.min(blockHeight, height - y),
      x,
      y,
    };
  };
  const whole = (block: number) => piece(block % columns, Math.floor(block / columns));
  return {
    regular: true,
    shifted: false,
    under(x, y, w, h) {
      const lastColumn = Math.floor((x + w - 1) / blockWidth);
      const lastRow = Math.floor((y + h - 1) / blockHeight);
      const pieces: Piece[] = [];
      for (let row = Math.floor(y / blockHeight); row <= lastRow; row++) {
        for (let column = Math.floor(x / blockWidth); column <= lastColumn; column++) pieces.push(piece(column, row));
      }
      return pieces;
    },
    of: (block) => [whole(block)],
    used: whole,
  };
}

/**
 * Blocks at positions of their own, in the order in which they are drawn: overlapping (Trestle, Ventana, MIRAX) or with nothing
 * between them (Leica). What lies outside the level is cut off. `slide-limits` where they are too many.
 */
export function placedLayout(
  uri: string,
  level: { readonly width: number; readonly height: number },
  pieces: Iterable<Piece>,
  used: BlockLayout['used'],
): BlockLayout {
  const refuse = (what: string) => new NightshiftError('slide-limits', `${uri} exceeds a safety limit: ${what}`);
  const numbers: number[] = [];
  let [widest, tallest] = [1, 1];
  let shifted = false;
  for (const piece of pieces) {
    const { shift } = piece;
    const cut = shift === undefined ? cutToLevel(piece, level) : piece;
    if (!touches(cut, { x: 0, y: 0, ...level })) continue;
    if (numbers.length === NUMBERS * MOST_PIECES) throw refuse(`more than ${MOST_PIECES} placed blocks`);
    numbers.push(cut.block, cut.left, cut.top, cut.width, cut.height, cut.x, cut.y, shift?.x ?? 0, shift?.y ?? 0);
    widest = Math.max(widest, Math.min(level.width, widthOf(cut)));
    tallest = Math.max(tallest, Math.min(level.height, heightOf(cut)));
    shifted ||= shift !== undefined;
  }
  const cellWidth = Math.max(widest, Math.ceil(level.width / MOST_CELLS_ACROSS));
  const cellHeight = Math.max(tallest, Math.ceil(level.height / MOST_CELLS_ACROSS));
  // A million pieces as objects would be some hundred MB.
  const placed = Int32Array.from(numbers);
  const pieceAt = (i: number): Piece => {
    const at = NUMBERS * i;
    const [shiftX, shiftY] = [placed[at + 7]!, placed[at + 8]!];
    return {
      block: placed[at]!,
      left: placed[at + 1]!,
      top: placed[at + 2]!,
      width: placed[at + 3]!,
      height: placed[at + 4]!,
      x: placed[at + 5]!,
      y: placed[at + 6]!,
      ...(shiftX > 0 || shiftY > 0 ? { shift: { x: shiftX, y: shiftY } } : {}),
    };
  };
  const across = Math.ceil(level.width / cellWidth);
  function cellsUnder(area: Area): number[] {
    const found: number[] = [];
    const right = Math.floor((Math.min(level.width, area.x + widthOf(area)) - 1) / cellWidth);
    const bottom = Math.floor((Math.min(level.height, area.y + heightOf(area)) - 1) / cellHeight);
    for (let row = Math.floor(Math.max(0, area.y) / cellHeight); row <= bottom; row++) {
      for (let column = Math.floor(Math.max(0, area.x) / cellWidth); column <= right; column++) {
        found.push(row * across + column);
      }
    }
    return found;
  }
  const count = placed.length / NUMBERS;
  const inCell = grouped(count, (i) => cellsUnder(pieceAt(i)));
  const ofBlock = grouped(count, (i) => [placed[NUMBERS * i]!]);
  // A tile holds all that lies under it in memory.
  const mostInCell = MOST_OVER_ONE_SPOT * Math.ceil(cellWidth / widest) * Math.ceil(cellHeight / tallest);
  if (inCell.most > mostInCell) throw refuse(`${inCell.most} blocks lie over one another`);

  return {
    regular: false,
    shifted,
    under(x, y, width, height) {
      const near = new Set<number>();
      for (const cell of cellsUnder({ x, y, width, height })) for (const i of inCell.of(cell)) near.add(i);
      return [...near]
        .sort((a, b) => a - b)
        .map(pieceAt)
        .filter((piece) => touches(piece, { x, y, width, height }));
    },
    of: (block) =>
      Array.from(ofBlock.of(block), (i) => cutToLevel(atPixels(pieceAt(i)), level)).filter(
        ({ width, height }) => width > 0 && height > 0,
      ),
    used,
  };
}

/** Numbers of a piece: those of `Piece`, with its shift. */
const NUMBERS = 9;

type Area = Pick<Piece, 'x' | 'y' | 'width' | 'height' | 'shift'>;

const widthOf = ({ width, shift }: Area): number => width + ((shift?.x ?? 0) > 0 ? 1 : 0);
const heightOf = ({ height, shift }: Area): number => height + ((shift?.y ?? 0) > 0 ? 1 : 0);

const touches = (a: Area, b: Area): boolean =>
  Math.min(a.x + widthOf(a), b.x + widthOf(b)) > Math.max(a.x, b.x) &&
  Math.min(a.y + heightOf(a), b.y + heightOf(b)) > Math.max(a.y, b.y);

function atPixels({ shift, ...piece }: Piece): Piece {
  const { x, y } = shift ?? { x: 0, y: 0 };
  return { ...piece, x: piece.x + Math.round(x / SHIFTS), y: piece.y + Math.round(y / SHIFTS) };
}

/** The numbers 0 to `count - 1` by the groups that they are in, in their order. */
function grouped(
  count: number,
  groupsOf: (i: number) => readonly number[],
): { readonly most: number; of(group: number): Int32Array } {
  const sizes: number[] = [];
  for (let i = 0; i < count; i++) for (const group of groupsOf(i)) sizes[group] = (sizes[group] ?? 0) + 1;
  const from = new Int32Array(sizes.length + 1);
  let most = 0;
  for (let group = 0; group < sizes.length; group++) {
    most = Math.max(most, sizes[group] ?? 0);
    from[group + 1] = from[group]! + (sizes[group] ?? 0);
  }
  const members = new Int32Array(from[sizes.length]!);
  const next = from.slice();
  for (let i = 0; i < count; i++) for (const group of groupsOf(i)) members[next[group]!++] = i;
  return { most, of: (group) => members.subarray(from[group] ?? 0, from[group + 1] ?? 0) };
}

/** The part of a piece that lies on the level. */
function cutToLevel(piece: Piece, level: { readonly width: number; readonly height: number }): Piece {
  const x = Math.max(0, piece.x);
  const y = Math.max(0, piece.y);
  return {
    block: piece.block,
    left: piece.left + x - piece.x,
    top: piece.top + y - piece.y,
    width: Math.min(level.width, piece.x + piece.width) - x,
    height: Math.min(level.height, piece.y + piece.height) - y,
    x,
    y,
  };
}
