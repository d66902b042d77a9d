import sharp from 'sharp';
import { axisMpp } from '../plan/geometry.ts';
import { levelPositions } from '../plan/grid.ts';
import type { Plan } from '../plan/plan.ts';
import type { Overview } from '../plan/tissue.ts';
import { COLOURS, grouped, svg, text } from './text.ts';

/** Longer side of the slide in the picture, px; the footer comes below it. */
const LONGER_SIDE = 1400;
const LEAST_WIDTH = 900;
const MARGIN = 28;
const FOOTER = 118;
/** Tiles smaller than this on the picture are shown as one tinted area: lines would hide the tissue. */
const LEAST_GRID = 3.5;

/**
 * The picture to judge a plan by: the overview with the tissue outline, the planned tiles, a scale bar, the slide's name and what was
 * counted. JPEG. `name` may be a path or URI, of which the last part is shown.
 */
export async function tissueOverlay(options: {
  readonly overview: Overview;
  readonly plan: Plan;
  readonly name?: string;
}): Promise<Uint8Array> {
  const { overview, plan } = options;
  const { x: across, y: down } = axisMpp(plan.mpp);
  const tall = overview.height * (down / across);
  const scale = LONGER_SIDE / Math.max(overview.width, tall);
  const width = Math.max(1, Math.round(overview.width * scale));
  const height = Math.max(1, Math.round(tall * scale));
  const canvasWidth = Math.max(width + 2 * MARGIN, LEAST_WIDTH);
  const canvasHeight = height + MARGIN + FOOTER;
  const left = Math.round((canvasWidth - width) / 2);
  const pxPerBase = { x: width / plan.size.width, y: height / plan.size.height };

  const slide = await sharp(withUnreadable(overview), {
    raw: { width: overview.width, height: overview.height, channels: 3 },
  })
    .resize(width, height, { fit: 'fill', kernel: scale > 1 ? 'cubic' : 'lanczos3' })
    .composite([{ input: svg(width, height, tiles(plan, pxPerBase), outline(plan, pxPerBase)) }])
    .removeAlpha()
    .raw()
    .toBuffer();
  const drawn = svg(
    canvasWidth,
    canvasHeight,
    `<rect x="${left - 0.5}" y="${MARGIN - 0.5}" width="${width + 1}" height="${height + 1}" fill="none" stroke="${COLOURS.line}"/>`,
    `<g transform="translate(0 ${MARGIN + height})">${footer(plan, options.name, canvasWidth, pxPerBase.x)}</g>`,
  );
  return sharp({ create: { width: canvasWidth, height: canvasHeight, channels: 3, background: COLOURS.paper } })
    .composite([
      { input: slide, raw: { width, height, channels: 3 }, left, top: MARGIN },
      { input: drawn, left: 0, top: 0 },
    ])
    .jpeg({ quality: 82, chromaSubsampling: '4:4:4' })
    .toBuffer();
}

/** The overview with diagonal stripes over what could not be read. */
function withUnreadable({ rgb, unreadable, width }: Overview): Uint8Array {
  if (!unreadable?.some((value) => value !== 0)) return rgb;
  const striped = Uint8Array.from(rgb);
  for (let i = 0; i < unreadable.length; i++) {
    if (unreadable[i] === 0) continue;
    const stripe = ((i % width) + Math.floor(i / width)) % 8 < 4;
    striped.fill(stripe ? 205 : 235, 3 * i, 3 * i + 3);
  }
  return striped;
}

type Scale = { readonly x: number; readonly y: number };

/** Planned tiles, tinted, each framed once: neighbours share their line, runs share their path. Overlapping tiles show their strides. */
function tiles(plan: Plan, px: Scale): string {
  const { strideLevelPx: strideX, downsample, down } = plan.geometry;
  const strideY = down?.strideLevelPx ?? strideX;
  const side = { x: strideX * downsample * px.x, y: strideY * downsample * px.y };
  const level = levelPositions(plan);
  const cells = new Map<number, Set<number>>();
  for (let i = 0; i < level.x.length; i++) {
    const row = level.y[i] / strideY;
    const columns = cells.get(row) ?? new Set();
    cells.set(row, columns.add(level.x[i] / strideX));
  }
  const none = new Set<number>();
  const at = (value: number) => value.toFixed(1);
  const area: string[] = [];
  const lines: string[] = [];
  const rows = [...cells.keys()].sort((a, b) => a - b);
  for (const row of rows) {
    const columns = cells.get(row) ?? none;
    for (const [from, to] of runs(columns)) {
      const [x, y] = [at(from * side.x), at(row * side.y)];
      area.push(`M${x} ${y}H${at(to * side.x)}V${at((row + 1) * side.y)}H${x}Z`);
      for (let column = from; column <= to; column++) {
        lines.push(`M${at(column * side.x)} ${y}V${at((row + 1) * side.y)}`);
      }
    }
    const above = cells.get(row - 1) ?? none;
    for (const [from, to] of runs(columns.union(above))) lines.push(horizontal(from, to, row));
    if (!cells.has(row + 1)) for (const [from, to] of runs(columns)) lines.push(horizontal(from, to, row + 1));
  }
  function horizontal(from: number, to: number, row: number): string {
    return `M${at(from * side.x)} ${at(row * side.y)}H${at(to * side.x)}`;
  }
  const smaller = Math.min(side.x, side.y);
  const tint = `<path fill="${COLOURS.blue}" fill-opacity="0.1" d="${area.join('')}"/>`;
  if (smaller < LEAST_GRID) return tint;
  const stroke = (colour: string, width: number, opacity: number) =>
    `<path fill="none" stroke="${colour}" stroke-opacity="${opacity}" stroke-width="${width.toFixed(2)}" d="${lines.join('')}"/>`;
  const fine = Math.min(1.2, 0.3 + smaller / 50);
  // A pale border lets the lines be seen on dark tissue; around small tiles it would only wash the tissue out.
  const border = smaller < 20 ? '' : stroke(COLOURS.paper, 3.2, 0.45);
  return `${tint}${border}${stroke(COLOURS.blue, fine, smaller < 20 ? 0.6 : 0.9)}`;
}

/** Runs [from, to) of consecutive numbers, ascending. */
function runs(numbers: ReadonlySet<number>): [number, number][] {
  const found: [number, number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last && last[1] === number) last[1] = number + 1;
    else found.push([number, number + 1]);
  }
  return found;
}

function outline(plan: Plan, px: Scale): string {
  const point = ([x, y]: readonly [number, number]) => `${(x * px.x).toFixed(1)} ${(y * px.y).toFixed(1)}`;
  const d = plan.outline.features
    .flatMap((feature) => feature.geometry.coordinates)
    .map((ring) => `M${ring.slice(0, -1).map(point).join('L')}Z`)
    .join('');
  const path = (stroke: string, width: number, opacity: number) =>
    `<path fill="none" stroke-linejoin="round" stroke="${stroke}" stroke-opacity="${opacity}" stroke-width="${width}" d="${d}"/>`;
  return path(COLOURS.paper, 4, 0.85) + path(COLOURS.vermillion, 1.8, 1);
}

/** Name and counts on the left, legend and scale bar on the right. */
function footer(plan: Plan, name: string | undefined, width: number, pxPerBase: number): string {
  const { geometry, counts, size } = plan;
  const { x: umPerPx } = axisMpp(plan.mpp);
  const bar = scaleBar(umPerPx / pxPerBase, 0.16 * width);
  const right = width - MARGIN;
  const textEnd = right - 0.16 * width - 250;
  const fits = { maxWidth: textEnd - MARGIN };
  const shown = (name ?? plan.slide.uri).split(/[/\\]/).findLast((part) => part !== '') ?? plan.slide.key;
  const planned = `${grouped(counts.planned)} ${counts.planned === 1 ? 'tile' : 'tiles'} of ${geometry.tilePx} px`;
  const scale = `${um((geometry.readPx / geometry.tilePx) * geometry.downsample * umPerPx)} a pixel`;
  const rejected = [
    [counts.rejectedByTissue, 'off tissue'],
    [counts.rejectedByFilter, 'by filter'],
    [counts.rejectedByLimit, 'by limit'],
  ] as const;
  const left = rejected.flatMap(([count, why]) => (count > 0 ? [`${grouped(count)} ${why}`] : []));
  const details = [
    `of ${grouped(counts.grid)} on the grid${left.length > 0 ? `: ${left.join(', ')} left out` : ''}`,
    `${grouped(size.width)} × ${grouped(size.height)} px`,
  ].join('  ·  ');
  const legendX = right - 0.16 * width - 200;
  return [
    text(shown, MARGIN, 40, { size: 23, weight: 600, ...fits }),
    text(`${planned}  ·  ${scale}`, MARGIN, 67, { size: 16, ...fits }),
    plan.warnings.length > 0
      ? text(plan.warnings[0], MARGIN, 92, { size: 15, fill: COLOURS.vermillion, ...fits })
      : text(details, MARGIN, 92, { size: 15, fill: COLOURS.quiet, ...fits }),
    `<path fill="none" stroke="${COLOURS.vermillion}" stroke-width="2.5" stroke-linecap="round" d="M${legendX} 36q6 -9 12 -1t12 -2"/>`,
    text('tissue outline', legendX + 36, 40, { size: 15 }),
    `<rect x="${legendX + 4.5}" y="53.5" width="15" height="15" fill="${COLOURS.blue}" fill-opacity="0.18" stroke="${COLOURS.blue}"/>`,
    text('planned tile', legendX + 36, 66, { size: 15 }),
    `<path fill="none" stroke="${COLOURS.ink}" stroke-width="2" d="M${right - bar.px} 26v10h${bar.px}v-10"/>`,
    text(bar.label, right - bar.px / 2, 58, { size: 16, weight: 600, anchor: 'middle' }),
  ].join('');
}

/** The longest of 1, 2, 5 x 10^n that fits into `most` px. */
function scaleBar(umPerPx: number, most: number): { px: number; label: string } {
  const fitting = most * umPerPx;
  const decade = 10 ** Math.floor(Math.log10(fitting));
  const length = decade * ([5, 2].find((step) => step * decade <= fitting) ?? 1);
  const label = length >= 100 ? `${Number((length / 1000).toPrecision(2))} mm` : `${Number(length.toPrecision(2))} µm`;
  return { px: length / umPerPx, label };
}

const um = (value: number): string => `${Number(value.toPrecision(3))} µm`;
