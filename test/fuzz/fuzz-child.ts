import { ftruncateSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isNightshiftError } from '../../packages/core/src/errors.ts';
import { Coverage } from './coverage.ts';
import type { FuzzMessage, FuzzTask } from './fuzz-task.ts';
import { mutate } from './mutate.ts';
import { PLANTED } from './planted.ts';
import { Random } from './random.ts';
import { TARGETS } from './targets.ts';

await work(JSON.parse(process.argv[2]!) as FuzzTask);

async function work(task: FuzzTask): Promise<void> {
  const { limits } = task;
  const { run, words } = { ...TARGETS, ...PLANTED }[task.target]!;
  // The parent removes it, also where this process dies.
  const folder = dirname(task.current);
  const file = openSync(task.current, 'w');
  // It is no use, and costs time, where nothing is invented.
  const coverage = task.inputs === 0 ? null : new Coverage(/packages\/core\/src\/|planted\.ts$/);
  const random = new Random(task.seed);
  const outcomes: Record<string, number> = {};
  const found = new Set<string>();
  const corpus: Buffer[] = [];
  let inputs = 0;
  let slowest = 0;
  let alive = performance.now();
  const send = (message: FuzzMessage, sent: () => void = () => {}) =>
    process.send!(message, undefined, undefined, sent);
  const base64 = (input: Buffer) => input.toString('base64');

  function finding(what: string, input: Buffer): void {
    // The same place is told once.
    const place = what.split('\n').slice(0, 3).join('\n').replace(/\d+/g, '0');
    if (!found.has(place)) send({ type: 'finding', what, input: base64(input) });
    found.add(place);
  }

  /** True where the input ran new code. */
  async function attempt(input: Buffer): Promise<boolean> {
    ftruncateSync(file, 0);
    writeSync(file, input, 0, input.length, 0);
    const started = process.cpuUsage();
    let outcome = 'understood';
    try {
      await run(Buffer.from(input), folder);
    } catch (error) {
      if (isNightshiftError(error) && error.code !== 'internal') outcome = error.code;
      else {
        outcome = 'finding';
        finding(error instanceof Error ? (error.stack ?? error.message) : String(error), input);
      }
    }
    const { user, system } = process.cpuUsage(started);
    const seconds = (user + system) / 1e6;
    slowest = Math.max(slowest, seconds);
    if (seconds > limits.seconds) finding(`it took ${seconds.toFixed(1)} s`, input);
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    inputs++;
    if (performance.now() - alive > 1_000) {
      send({ type: 'alive' });
      alive = performance.now();
    }
    return coverage?.take() ?? false;
  }

  const peakMiB = () => process.resourceUsage().maxRSS / 1_024;
  send({ type: 'alive' });
  for (const input of task.corpus.flatMap(filesOf)) {
    corpus.push(input);
    await attempt(input);
    if (peakMiB() > limits.MiB) break;
  }
  const until = performance.now() + 1_000 * task.seconds;
  for (let i = 0; i < task.inputs && performance.now() < until && peakMiB() <= limits.MiB; i++) {
    // What was found last is half of the time where more is found.
    const recent = corpus.length > 8 && random.below(2) === 0;
    const parent = corpus[recent ? corpus.length - 1 - random.below(8) : random.below(corpus.length)]!;
    const input = mutate(parent, random, corpus, words);
    if (!(await attempt(input))) continue;
    corpus.push(input);
    send({ type: 'new', input: base64(input) });
  }
  if (peakMiB() > limits.MiB) finding(`it took ${Math.round(peakMiB())} MiB`, readFileSync(task.current));
  const report = {
    inputs,
    outcomes,
    ...(coverage?.state ?? { functions: 0, missed: 0 }),
    slowest,
    peakMiB: Math.round(peakMiB()),
  };
  send({ type: 'report', report }, () => process.disconnect!());
}

/** The content of a file, or of every file of a folder in the order of their names. */
function filesOf(path: string): Buffer[] {
  try {
    return readdirSync(path)
      .sort()
      .map((name) => readFileSync(join(path, name)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTDIR') throw error;
    return [readFileSync(path)];
  }
}
