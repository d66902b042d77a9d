import { rm, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';
import type { Terminal } from '@nightshift/cli';
import { command, duration, quoted, table, text } from '@nightshift/cli';
import { convertModel, embed, search, verify, writeRandomDinov2 } from '@nightshift/core';
import { DEMO_SLIDES, makeDemoSlide } from '../demo/slide.ts';
import { summary, withProgress } from './run-report.ts';
import { describe } from './verify.ts';

const MODEL = 'demo-random-dinov2';
/** A gland of the first slide: what the demo searches for. Level-0 px. */
const QUERY = { slide: 'demo-1', x: 1794, y: 2891 };

export const demoCommand = command({
  name: 'demo',
  about: 'Run everything once on slides and a model that it makes itself. No download, under a minute on two cores.',
  args: { usage: '', min: 0, max: 0 },
  examples: [
    ['nightshift demo', 'in ./nightshift-demo'],
    ['nightshift demo --out /tmp/demo', 'elsewhere'],
  ],
  details: [
    'The slides are painted and the weights are random: the pictures show that the tool works, not what a model knows.',
  ],
  flags: { out: text({ about: 'where to put it', placeholder: 'DIR', defaultText: './nightshift-demo' }) },
  async run({ flags, terminal, signal }) {
    const started = performance.now();
    const out = flags.out ?? 'nightshift-demo';
    const record = join(out, 'record');
    const slides = await makeSlides(join(out, 'slides'), terminal, signal);
    const model = await makeModel(join(out, 'models'), terminal);
    signal.throwIfAborted();

    const options = {
      sources: [join(out, 'slides')],
      model,
      modelDirs: [],
      out: record,
      tilePx: null,
      mpp: null,
      overlapPx: 0,
      embedding: null,
      tissue: { method: 'auto', min: 0.4 },
      filter: 'none',
      slideMpp: null,
      limit: null,
      shardTiles: 256,
      batch: null,
      threads: null,
      decodeThreads: null,
      device: 'cpu',
      store: null,
    } as const;
    const report = await withProgress(terminal, signal, (hooks) => embed(options, hooks));
    for (const line of summary(report, terminal.paint)) terminal.say(line);
    if (report.state === 'interrupted') {
      const again = `nightshift demo --out ${quoted(out)}`;
      return { exit: 130, data: [], notes: [], next: [again], json: { out, slides, model, embed: report } };
    }

    const sheet = join(out, 'search.jpg');
    const found = await search({
      out: record,
      run: report.run,
      query: QUERY,
      k: 15,
      slides: [],
      model: null,
      modelDirs: [],
      store: null,
      contactSheet: sheet,
    });
    const checked = await verify({ out: record, run: report.run, store: null });
    for (const line of describe(checked)) terminal.say(line);
    const best = found.hits[0];
    return {
      exit: report.failures.length > 0 || !checked.ok ? 3 : 0,
      data: [],
      piped: [out],
      notes: [
        '',
        ...table([
          ['slides', join(out, 'slides')],
          ['model', `${model} (random weights: its vectors mean nothing)`],
          ['record', `${record} (plans, Arrow files, failures, vector store)`],
          ['tissue and tiles', `${report.overlays}${sep}*.jpg`],
          ['search', `${sheet} (tiles like the gland at ${QUERY.slide}:${QUERY.x},${QUERY.y})`],
        ]),
        '',
        `All of it in ${duration((performance.now() - started) / 1000)}. Look at the pictures; then try your own slide:`,
      ],
      next: [
        `nightshift embed slide.svs --model ${quoted(model)} --out out`,
        ...(best === undefined
          ? []
          : [`nightshift search ${quoted(record)} --tile ${best.slide}:${best.x},${best.y} --contact-sheet hits.jpg`]),
      ],
      json: { out, slides, model, contactSheet: sheet, embed: report, search: found, verify: checked },
    };
  },
});

async function makeSlides(folder: string, terminal: Terminal, signal: AbortSignal): Promise<string[]> {
  const paths: string[] = [];
  for (const slide of DEMO_SLIDES) {
    signal.throwIfAborted();
    const path = join(folder, `${slide.name}.svs`);
    terminal.status(`painting ${path}`);
    const made = await makeDemoSlide(path, slide);
    terminal.status(null);
    terminal.say(`${terminal.paint('green', '✓')} slide   ${path} ${terminal.paint('dim', `(painted, ${made})`)}`);
    paths.push(path);
  }
  return paths;
}

/** Random weights in Midnight's own layout, through the real converter. */
async function makeModel(folder: string, terminal: Terminal): Promise<string> {
  const dir = join(folder, MODEL);
  const there = await stat(join(dir, 'model.json')).catch(() => null);
  if (there === null) {
    const weights = join(folder, '.weights');
    await writeRandomDinov2(weights, { depth: 4, width: 192, seed: 1 });
    await convertModel({ from: weights, to: dir, name: MODEL, embedding: 'cls+mean', mpp: 0.5 });
    await rm(weights, { recursive: true });
  }
  const how = there === null ? 'random weights, made' : 'random weights, kept';
  terminal.say(`${terminal.paint('green', '✓')} model   ${dir} ${terminal.paint('dim', `(${how})`)}`);
  return dir;
}
