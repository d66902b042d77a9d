import { NightshiftError } from '../errors.ts';
import type { Mpp } from '../units.ts';
import type { MppReading, Slide } from './slide.ts';

/** Micrometres per pixel that level 0 of a whole-slide image can have: beyond a 100x scan, beyond a slide overview. */
const LEAST = 0.05;
const MOST = 20;

/**
 * The mpp of level 0, from the person's own word or else from the file. Nothing is guessed: `mpp-missing` where the file
 * states none, `mpp-absurd` outside 0.05-20 um/px. The usual cause of the latter is a picture editor's 72 or 96 dpi.
 */
export function resolveMpp(slide: Slide, override: Mpp | null): MppReading {
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
