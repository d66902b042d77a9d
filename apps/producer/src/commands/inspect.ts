import { byteSize, command, count, counted, quoted, table } from '@nightshift/cli';
import { type InspectReport, inspect, ruleFor } from '@nightshift/core';
import { leftOut, qcLines } from '../tile-lines.ts';
import { showTransfer, TILES } from '../transfer.ts';
import { PIXEL_FLAGS, slideMpps, TILE_FLAGS } from './recipe-flags.ts';

export const inspectCommand = command({
  name: 'inspect',
  about: 'Say what a slide is, and which tiles a plan would make of it.',
  args: { usage: '<slide>', min: 1, max: 1 },
  examples: [
    ['nightshift inspect slide.svs', 'levels, resolution, number of tiles'],
    ['nightshift inspect slide.svs --filter hsv+blur+pen --qc', 'what filters would drop, and what tiles are like'],
    ['nightshift inspect slide.tif --slide-mpp 0.25 --mpp 1', 'a slide that does not state its resolution'],
  ],
  details: [
    'Reads metadata and, with --tissue auto, one small level; with --filter or --qc every tile. Label and macro pictures are\n' +
      'never read.',
  ],
  flags: {
    ...TILE_FLAGS,
    mpp: { ...TILE_FLAGS.mpp, defaultText: '0.5' },
    tile: { ...TILE_FLAGS.tile, defaultText: '224' },
    ...PIXEL_FLAGS,
  },
  async run({ args, flags, terminal, signal }) {
    const [slide] = args as [string];
    const rules = slideMpps(flags.slideMpp);
    const progress = showTransfer(terminal, undefined, TILES);
    const options = {
      slide,
      tilePx: flags.tile ?? 224,
      mpp: flags.mpp ?? 0.5,
      overlapPx: flags.overlap,
      tissue: { method: flags.tissue, min: flags.minTissue },
      slideMpp: ruleFor(slide, rules.slideMpps ?? [])?.mpp ?? rules.slideMpp,
      mppFromObjective: flags.mppFromObjective,
      ...{ filter: flags.filter, qc: flags.qc },
    };
    const onTiles = (done: number, total: number) => progress.update('reading', done, total);
    const report = await inspect(options, { signal, onTiles }).finally(progress.end);
    const planned = !('error' in report.plan);
    return {
      exit: planned ? 0 : 4,
      data: describe(report),
      notes: [],
      next: planned ? [`nightshift embed ${quoted(slide)} --model <dir> --out <dir>`] : [],
      json: report,
    };
  },
});

function describe(report: InspectReport): string[] {
  const { uri, bytes, format, vendor, objectivePower, mpp, levels, plan } = report;
  const facts = [
    ['slide', uri],
    ['size', byteSize(bytes)],
    ['format', `${format} (${vendor})`],
    ['mpp', mpp === null ? 'not stated' : `${sides(mpp.x, mpp.y)} um/px, from ${mpp.source}`],
    ['objective', objectivePower === null ? 'not stated' : `${objectivePower}x`],
  ];
  return [
    ...table(facts),
    '',
    ...table(
      levels.map((level, i) => [
        i,
        `${count(level.width)} x ${count(level.height)}`,
        trimmed(level.downsample),
        level.mpp === null ? '-' : sides(level.mpp, level.mppDown ?? level.mpp),
        `${level.blockWidth} x ${level.blockHeight}`,
        level.codec,
      ]),
      ['level', 'size, px', 'downsample', 'um/px', 'block', 'codec'],
    ),
    '',
    ...('error' in plan
      ? [`no plan: ${plan.error}`, `next: ${plan.next}`]
      : [
          `${count(plan.tiles)} tiles of ${count(plan.grid)} that fit on the slide`,
          leftOut(plan.leftOut),
          ...(plan.unreadable ? [`${counted(plan.unreadable, 'tile')} cannot be read: a run reports each`] : []),
          ...qcLines(plan.qc, 'kept'),
          `read as ${plan.readPx} x ${plan.readPxDown ?? plan.readPx} px of level ${plan.level}${plan.resampled ? ', then resampled' : ''}`,
          ...plan.warnings.map((warning) => `warning: ${warning}`),
        ]),
  ];
}

const trimmed = (value: number): string => String(Number(value.toFixed(4)));
const sides = (x: number, y: number): string => (x === y ? trimmed(x) : `${trimmed(x)} x ${trimmed(y)}`);
