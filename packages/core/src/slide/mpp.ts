import { NightshiftError } from '../errors.ts';
import { type Mpp, mpp as umPerPx } from '../units.ts';
import type { MppReading, Slide } from './slide.ts';

/** Micrometres per pixel that level 0 of a whole-slide image can have: beyond a 100x scan, beyond a slide overview. */
const LEAST = 0.05;
const MOST = 20;
/** How many times as long as the other a side of a pixel can be: two or so with a line scanner or binning. */
const MOST_OBLONG = 4;

/** Scanners have 0.25 um/px at 40x and 0.5 at 20x, to about a tenth. */
const UM_PER_PX_AT_1X = 10;

/**
 * The mpp of level 0, from the person's own word or else from the file. Nothing is guessed: `mpp-missing` where the file
 * states none, `mpp-absurd` outside 0.05-20 um/px, which is usually a picture editor's 72 or 96 dpi, and of pixels more than 4 times as long as
 * wide. With `estimate`, the objective power answers where the file would be refused, if it states one.
 */
export function resolveMpp(slide: Slide, override: Mpp | null, estimate = false): MppReading {
  if (estimate && override === null && !(slide.mpp && plausible(slide.mpp))) {
    const estimated = slide.objectivePower ? umPerPx(UM_PER_PX_AT_1X / slide.objectivePower) : null;
    if (estimated !== null && inRange(estimated)) return { x: estimated, y: estimated, source: 'estimate' };
  }
  const reading: MppReading | null = override === null ? slide.mpp : { x: override, y: override, source: 'override' };
  const { uri } = slide.source;
  if (reading === null) {
    throw new NightshiftError('mpp-missing', `${uri} does not say how many micrometres a pixel is`);
  }
  const { x, y, source } = reading;
  if (plausible(reading)) return reading;
  const value = x === y ? shown(x) : `${shown(x)} x ${shown(y)}`;
  const dpi = Math.round(25_400 / x);
  const hint =
    source === 'tiff-resolution' && (dpi === 72 || dpi === 96) ? ` (${dpi} dpi, a picture editor's default)` : '';
  const wanted =
    inRange(x) && inRange(y)
      ? `: one side is ${shown(oblong(reading))} times the other, where up to ${MOST_OBLONG} is taken`
      : `, where a slide has ${LEAST} to ${MOST}`;
  throw new NightshiftError('mpp-absurd', `${uri}: ${value} um/px by ${source}${hint}${wanted}`, {
    data: { x, y, source },
  });
}

type Sides = Pick<MppReading, 'x' | 'y'>;
const inRange = (value: number) => value >= LEAST && value <= MOST;
const oblong = ({ x, y }: Sides) => Math.max(x / y, y / x);
/** The limit has slack for what a TIFF's rationals round. */
const plausible = (mpp: Sides) => inRange(mpp.x) && inRange(mpp.y) && oblong(mpp) <= MOST_OBLONG * 1.001;
const shown = (value: number) => String(Number(value.toPrecision(4)));
