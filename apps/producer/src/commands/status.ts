import { setTimeout } from 'node:timers/promises';
import { command, count, counted, integer, type Outcome, quoted, SHARED, toggle } from '@nightshift/cli';
import { openStatus, type StatusReport } from '@nightshift/core';

export const statusCommand = command({
  name: 'status',
  about: 'Say how far a run is, by its record alone.',
  args: { usage: '<out>', min: 1, max: 1 },
  examples: [
    ['nightshift status s3://bucket/out', 'once'],
    ['nightshift status out --watch', 'until it is done'],
    ['nightshift status out --json | jq .tiles', 'for a program; with --watch one object a line'],
  ],
  flags: {
    run: SHARED.run,
    watch: toggle({ about: 'go on until the run is done' }),
    every: integer({ unit: 'seconds', min: 1, max: 3600, about: 'how often to look', fallback: 2 }),
  },
  async run({ args, flags, terminal, signal }): Promise<Outcome> {
    const [out] = args as [string];
    const status = await openStatus({ out, run: flags.run });
    let report = await status.read();
    while (flags.watch && report.state !== 'done' && report.state !== 'failed' && !signal.aborted) {
      if (terminal.json) terminal.data(JSON.stringify({ ...report, version: 1, command: 'status' }));
      else terminal.status(line(report));
      await setTimeout(flags.every * 1000, undefined, { signal }).catch(() => {});
      report = await status.read();
    }
    terminal.status(null);
    return {
      exit: signal.aborted ? 130 : report.state === 'failed' ? 3 : 0,
      data: [line(report)],
      notes: [`run ${report.run}, recipe ${report.recipe}, model ${report.model}`],
      next: nextSteps(report, out),
      json: report,
    };
  },
});

function line({ state, slides, shards, tiles }: StatusReport): string {
  const failed = slides.failed > 0 ? `, ${count(slides.failed)} failed` : '';
  return (
    `${state}: ${count(slides.done)} of ${counted(slides.total, 'slide')}${failed}; ${count(shards.done)} of ` +
    `${counted(shards.total, 'shard')}; ${count(tiles.embedded)} of ${counted(tiles.planned, 'tile')}` +
    `${slides.planned < slides.total ? ` of ${count(slides.planned)} planned slides` : ''}` +
    `${tiles.failed > 0 ? `, ${count(tiles.failed)} failed` : ''}`
  );
}

function nextSteps({ state, slides, tiles }: StatusReport, out: string): string[] {
  if (state === 'running' || state === 'submitting') return [`nightshift status ${quoted(out)} --watch`];
  const retry = slides.failed > 0 || tiles.failed > 0 ? [`nightshift retry ${quoted(out)}`] : [];
  return [...retry, `nightshift verify ${quoted(out)}`];
}
