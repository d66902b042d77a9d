import { NightshiftError } from '../errors.ts';
import { type Mpp, mpp as umPerPx } from '../units.ts';
import type { MppReading, Slide } from './slide.ts';

/** Micrometres per pixel that level 0 of a whole-slide image can have: beyond a 100x scan, beyond a slide overview. */
const LEAST = 0.05;
const MOST = 20;

/** Scanners have 0.25 um/px at 40x and 0.5 at 20x, to about a tenth. */
const UM_PER_PX_AT_1X = 10;

/**
 * The mpp of level 0, from the person's own word or else from the file. Nothing is guessed: `mpp-missing` where the file
 * states none, `mpp-absurd` outside 0.05-20 um/px. The usual cause of the latter is a picture editor's 72 or 96 dpi. With `estimate`, the
 * objective power answers where the file would be refused, if it states one.
 */
export function resolveMpp(slide: Slide, override: Mpp | null, estimate = false): MppReading {
  if (estimate && override === null && !(slide.mpp && plausible(slide.mpp.x) && plausible(slide.mpp.y))) {
    const estimated = slide.objectivePower ? umPerPx(UM_PER_PX_AT_1X / slide.objectivePower) : null;
    if (estimated !== null && plausible(estimated)) return { x: estimated, y: estimated, source: 'estimate' };
  }
  const reading: MppReading | null = override === null ? slide.mpp : { x: override, y: override, source: 'override' };
  const { uri } = slide.source;
  if (reading === null) {
    throw new NightshiftError('mpp-missing', `${uri} does not say how many micrometres a pixel is`);
  }
  const { x, y, source } = reading;
  if (plausible(x) && plausible(y)) return reading;
  const value = x === y ? shown(x) : `${shown(x)} x ${shown(y)}`;
  const dpi = Math.round(25_400 / x);
  const hint =
    source === 'tiff-resolution' && (dpi === 72 || dpi === 96) ? ` (${dpi} dpi, a picture editor's default)` : '';
  throw new NightshiftError(
    'mpp-absurd',
    `${uri}: ${value} um/px by ${source}${hint}, where a slide has ${LEAST} to ${MOST}`,
    { data: { x, y, source } },
  );
}

const plausible = (value: number) => value >= LEAST && value <= MOST;
const shown = (value: number) => String(Number(value.toPrecision(4)));
