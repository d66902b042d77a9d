import { command, counted, list, type Outcome, SHARED, text } from '@nightshift/cli';
import { ERROR_CODES, NightshiftError, retry } from '@nightshift/core';

export const retryCommand = command({
  name: 'retry',
  about: 'Forget failures of a record, so that the same embed or submit tries them again.',
  args: { usage: '<out>', min: 1, max: 1 },
  examples: [
    ['nightshift retry out', 'every failure'],
    ['nightshift retry out --code tile-truncated', 'of one code'],
    ['nightshift retry out --slide slide-1', 'of one slide'],
  ],
  details: ['Of a slide with failed tiles only the shards that hold them are embedded again.'],
  flags: {
    run: SHARED.run,
    code: text({ about: 'only failures of this code', placeholder: 'CODE', defaultText: 'any' }),
    slide: list({ about: 'only this slide: key, file name or stem', placeholder: 'SLIDE', defaultText: 'all' }),
  },
  async run({ args, flags }): Promise<Outcome> {
    const [out] = args as [string];
    if (flags.code !== null && !(flags.code in ERROR_CODES)) {
      throw new NightshiftError('usage', `--code ${flags.code}: there is no such code`, {
        next: 'See the codes in `nightshift verify` or in <out>/<recipe>/failures.',
      });
    }
    const report = await retry({ out, run: flags.run, code: flags.code, slides: flags.slide });
    const tiles = report.reopened.reduce((sum, slide) => sum + slide.tiles, 0);
    const nothing = report.slides.length === 0 && report.reopened.length === 0;
    return {
      exit: 0,
      data: [
        nothing
          ? 'nothing to retry'
          : `${counted(report.slides.length, 'slide')} to try again, ${counted(tiles, 'tile')} of ${counted(report.reopened.length, 'other slide')}`,
      ],
      notes: [],
      next: nothing ? [] : ['the same `nightshift embed` or `nightshift submit` again: it does what is open now'],
      json: report,
    };
  },
});
