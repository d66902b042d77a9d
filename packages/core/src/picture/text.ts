import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import opentype, { type PathCommand } from 'opentype.js';

/** Okabe and Ito's colours (2008), told apart with any colour vision, and greys for text. */
export const COLOURS = {
  blue: '#0072b2',
  vermillion: '#d55e00',
  ink: '#16202b',
  quiet: '#5c6670',
  line: '#d4d9de',
  paper: '#ffffff',
} as const;

export type Weight = 400 | 600;

export interface TextStyle {
  /** Height of the em, px. */
  readonly size: number;
  readonly weight?: Weight;
  readonly fill?: string;
  /** Which point of the text `x` is. */
  readonly anchor?: 'start' | 'middle' | 'end';
  /** Longer text is shortened in its middle: both ends of a slide's name tell slides apart. */
  readonly maxWidth?: number;
}

const require = createRequire(import.meta.url);
/** Units of the em in which glyphs are kept: fine enough for any size drawn. */
const EM = 1000;

/** IBM Plex Sans, Latin. Its glyphs become paths, so that a picture is the same on a machine that has no fonts. */
interface Face {
  /** Outline and advance, EM high; a question mark for a character that the font lacks. */
  glyph(character: string): { readonly outline: readonly PathCommand[]; readonly advance: number };
  /** What two neighbours move together, EM. */
  kerning(left: string, right: string): number;
}

const faces = new Map<Weight, Face>();

function face(weight: Weight): Face {
  const open = faces.get(weight);
  if (open) return open;
  const file = require.resolve(`@fontsource/ibm-plex-sans/files/ibm-plex-sans-latin-${weight}-normal.woff`);
  const font = opentype.parse(new Uint8Array(readFileSync(file)).buffer);
  const glyphOf = (c: string) => font.charToGlyph(font.charToGlyphIndex(c) > 0 ? c : '?');
  // Looked up once: opentype.js shapes a line of text in milliseconds, a contact sheet has thousands of lines to measure.
  const glyphs = cached((character: string) => {
    const glyph = glyphOf(character);
    return {
      outline: glyph.getPath(0, 0, EM).commands,
      advance: ((glyph.advanceWidth ?? 0) * EM) / font.unitsPerEm,
    };
  });
  const pairs = cached((pair: string) => {
    const [left, right] = Array.from(pair, glyphOf);
    return (font.getKerningValue(left, right) * EM) / font.unitsPerEm;
  });
  const made: Face = { glyph: glyphs, kerning: (left, right) => pairs(left + right) };
  faces.set(weight, made);
  return made;
}

function cached<T>(make: (key: string) => T): (key: string) => T {
  const known = new Map<string, T>();
  return (key) => {
    let value = known.get(key);
    if (value === undefined) {
      value = make(key);
      known.set(key, value);
    }
    return value;
  };
}

/** The characters with the distance of each from the start, and the width of all, EM. */
function layout(content: string, weight: Weight) {
  const { glyph, kerning } = face(weight);
  const characters = Array.from(content);
  let width = 0;
  const places = characters.map((character, i) => {
    if (i > 0) width += kerning(characters[i - 1], character);
    const at = width;
    width += glyph(character).advance;
    return { character, at };
  });
  return { places, width };
}

/** Width of a text, px. */
export function textWidth(content: string, { size, weight = 400 }: TextStyle): number {
  return (layout(content, weight).width * size) / EM;
}

/** A text as an SVG path; `y` is the base line. Characters that the font lacks become question marks. */
export function text(content: string, x: number, y: number, style: TextStyle): string {
  const { size, weight = 400, fill = COLOURS.ink, anchor = 'start', maxWidth = Number.POSITIVE_INFINITY } = style;
  const shown = shorten(content, style, maxWidth);
  const start = x - textWidth(shown, style) * { start: 0, middle: 0.5, end: 1 }[anchor];
  const scale = size / EM;
  const { glyph } = face(weight);
  const d = layout(shown, weight).places.flatMap(({ character, at }) =>
    glyph(character).outline.map((command) => pathData(command, start + at * scale, y, scale)),
  );
  return `<path fill="${fill}" d="${d.join('')}"/>`;
}

/** Fixed decimals: librsvg ends a path at the first number that it cannot read. */
function pathData(command: PathCommand, left: number, base: number, scale: number): string {
  const at = (x: number, y: number) => `${(left + x * scale).toFixed(2)} ${(base + y * scale).toFixed(2)}`;
  switch (command.type) {
    case 'Z':
      return 'Z';
    case 'Q':
      return `Q${at(command.x1, command.y1)} ${at(command.x, command.y)}`;
    case 'C':
      return `C${at(command.x1, command.y1)} ${at(command.x2, command.y2)} ${at(command.x, command.y)}`;
    default:
      return `${command.type}${at(command.x, command.y)}`;
  }
}

function shorten(content: string, style: TextStyle, maxWidth: number): string {
  if (textWidth(content, style) <= maxWidth) return content;
  let fits = '…';
  for (let [low, high] = [0, content.length - 1]; low <= high; ) {
    const kept = (low + high) >> 1;
    const head = Math.ceil(kept / 2);
    const tail = kept - head;
    const candidate = `${content.slice(0, head)}…${tail > 0 ? content.slice(-tail) : ''}`;
    if (textWidth(candidate, style) <= maxWidth) {
      fits = candidate;
      low = kept + 1;
    } else high = kept - 1;
  }
  return fits;
}

/** An SVG document as bytes for sharp. */
export function svg(width: number, height: number, ...content: string[]): Buffer {
  return Buffer.from(
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${content.join('')}</svg>`,
  );
}

/** Grouped digits: 23,716. */
export const grouped = (value: number): string => value.toLocaleString('en-US');
