import sharp from 'sharp';
import { COLOURS, grouped, svg, text, textWidth } from './text.ts';

/** A square tile: uint8 RGB, [px, px, 3]. */
export interface TilePicture {
  readonly rgb: Uint8Array;
  readonly px: number;
}

export interface ContactSheetHit extends TilePicture {
  readonly slide: string;
  /** Level-0 px of the top-left corner. */
  readonly x: number;
  readonly y: number;
  /** Cosine similarity, -1 to 1. */
  readonly score: number;
}

const MARGIN = 56;
const TILE = 224;
const QUERY = 320;
const GAP = 24;
/** Below a hit: slide, coordinates, score. */
const CAPTION = 66;
const ROW = TILE + CAPTION + GAP;
const HEADER = 118;
const COLUMNS = 5;
/** More is not a picture to look at. */
const MOST_HITS = 100;

/** The query and its hits, best first, as one picture to look at and to show; of more than 100 hits the first 100. JPEG. */
export async function contactSheet(options: {
  readonly title: string;
  readonly query: TilePicture & { readonly label: string };
  readonly hits: readonly ContactSheetHit[];
}): Promise<Uint8Array> {
  const { title, query } = options;
  const hits = options.hits.slice(0, MOST_HITS);
  const columns = Math.max(3, Math.min(hits.length, COLUMNS), Math.ceil(Math.sqrt(hits.length)));
  const rows = Math.max(1, Math.ceil(hits.length / columns));
  const hitsLeft = MARGIN + QUERY + 2 * GAP + GAP / 2;
  const width = hitsLeft + columns * (TILE + GAP) - GAP + MARGIN;
  const height = HEADER + Math.max(QUERY + CAPTION, rows * ROW - GAP) + MARGIN;
  const place = (i: number) => ({
    left: hitsLeft + (i % columns) * (TILE + GAP),
    top: HEADER + Math.floor(i / columns) * ROW,
  });
  const first = hits.length < options.hits.length ? `THE FIRST ${hits.length} OF ${grouped(options.hits.length)} ` : '';
  const heading = `${first}NEAREST TILES BY COSINE SIMILARITY, BEST FIRST`;
  const divider = hitsLeft - GAP - GAP / 4;

  const drawn = [
    text(title, MARGIN, 64, { size: 30, weight: 600, maxWidth: width - 2 * MARGIN }),
    text('QUERY', MARGIN, HEADER - 14, { size: 14, weight: 600, fill: COLOURS.vermillion }),
    text(heading, hitsLeft, HEADER - 14, {
      size: 14,
      weight: 600,
      fill: COLOURS.quiet,
      maxWidth: width - MARGIN - hitsLeft,
    }),
    `<path stroke="${COLOURS.line}" stroke-width="1.5" d="M${divider} ${HEADER - 26}V${height - MARGIN}"/>`,
    `<rect x="${MARGIN + 2}" y="${HEADER + 2}" width="${QUERY - 4}" height="${QUERY - 4}" fill="none" stroke="${COLOURS.vermillion}" stroke-width="4"/>`,
    text(query.label, MARGIN, HEADER + QUERY + 30, { size: 18, weight: 600, maxWidth: QUERY }),
    hits.length === 0 ? text('No tile was found.', hitsLeft, HEADER + 40, { size: 20, fill: COLOURS.quiet }) : '',
    ...hits.map((hit, i) => caption(hit, i + 1, place(i))),
  ];
  const canvas = new Uint8Array(width * height * 3).fill(255);
  await paste(canvas, width, query, QUERY, { left: MARGIN, top: HEADER });
  for (const [i, hit] of hits.entries()) await paste(canvas, width, hit, TILE, place(i));
  return sharp(canvas, { raw: { width, height, channels: 3 } })
    .composite([{ input: svg(width, height, ...drawn) }])
    .jpeg({ quality: 90, chromaSubsampling: '4:4:4' })
    .toBuffer();
}

/** Rank on the tile, the rest below it. */
function caption(hit: ContactSheetHit, rank: number, { left, top }: { left: number; top: number }): string {
  const badge = { size: 17, weight: 600, fill: COLOURS.paper } as const;
  const badgeWidth = Math.max(30, textWidth(String(rank), badge) + 18);
  const bar = Math.max(0, Math.min(1, hit.score)) * TILE;
  return [
    `<rect x="${left + 0.5}" y="${top + 0.5}" width="${TILE - 1}" height="${TILE - 1}" fill="none" stroke="#000" stroke-opacity="0.12"/>`,
    `<rect x="${left}" y="${top}" width="${badgeWidth}" height="28" fill="${COLOURS.ink}"/>`,
    text(String(rank), left + badgeWidth / 2, top + 20, { ...badge, anchor: 'middle' }),
    `<rect x="${left}" y="${top + TILE}" width="${TILE}" height="4" fill="${COLOURS.line}"/>`,
    `<rect x="${left}" y="${top + TILE}" width="${bar.toFixed(1)}" height="4" fill="${COLOURS.blue}"/>`,
    text(hit.slide, left, top + TILE + 28, { size: 15, weight: 600, maxWidth: TILE }),
    text(`x ${grouped(hit.x)}   y ${grouped(hit.y)}`, left, top + TILE + 50, { size: 14, fill: COLOURS.quiet }),
    text(hit.score.toFixed(3), left + TILE, top + TILE + 50, {
      size: 17,
      weight: 600,
      fill: COLOURS.blue,
      anchor: 'end',
    }),
  ].join('');
}

/** Copies a tile, scaled, onto the canvas. One `composite` a tile would cost the whole canvas each. */
async function paste(
  canvas: Uint8Array,
  width: number,
  { rgb, px }: TilePicture,
  side: number,
  { left, top }: { readonly left: number; readonly top: number },
): Promise<void> {
  const scaled = await sharp(rgb, { raw: { width: px, height: px, channels: 3 } })
    .resize(side, side, { kernel: px < side ? 'cubic' : 'lanczos3' })
    .raw()
    .toBuffer();
  for (let row = 0; row < side; row++) {
    canvas.set(scaled.subarray(row * side * 3, (row + 1) * side * 3), ((top + row) * width + left) * 3);
  }
}
