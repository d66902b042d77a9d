import { ftruncateSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isNightshiftError } from '../../packages/core/src/errors.ts';
import { Coverage } from './coverage.ts';
import { mutate } from './mutate.ts';
import { PLANTED } from './planted.ts';
import { Random } from './random.ts';
import { TARGETS } from './targets.ts';

/** What a child is to do: replay the files of `replay`, or invent inputs from those of `corpus`. */
export interface FuzzTask {
  readonly target: string;
  /** Folders and files of inputs. */
  readonly corpus: readonly string[];
  /** Inputs to invent; 0: the corpus alone. */
  readonly inputs: number;
  readonly seconds: number;
  readonly seed: number;
  /** Where the input in work is written, for whoever finds this process dead. */
  readonly current: string;
  readonly limits: Limits;
}

export type FuzzMessage =
  | { readonly type: 'finding'; readonly what: string; readonly input: string }
  /** An input that ran code which no earlier one had. */
  | { readonly type: 'new'; readonly input: string }
  | { readonly type: 'alive' }
  | { readonly type: 'report'; readonly report: FuzzReport };

export interface FuzzReport {
  readonly inputs: number;
  /** Inputs by the code that they were refused with, and those that were understood. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Functions of the core that ran, and characters of these that did not. */
  readonly functions: number;
  readonly missed: number;
  /** CPU seconds of the slowest input. */
  readonly slowest: number;
  readonly peakMiB: number;
}

/** What a bad file may cost, in CPU seconds. */
export interface Limits {
  readonly seconds: number;
  readonly MiB: number;
  /** Nothing heard for so long: the input in work never ends. Wall time, on a machine that does other work too. */
  readonly hangSeconds: number;
}
export const LIMITS: Limits = { seconds: 5, MiB: 512, hangSeconds: 30 };

if (process.argv[2] !== undefined) await work(JSON.parse(process.argv[2]) as FuzzTask);

async function work(task: FuzzTask): Promise<void> {
  const { limits } = task;
  const { run, words } = { ...TARGETS, ...PLANTED }[task.target]!;
  const folder = mkdtempSync(join(tmpdir(), 'nightshift-fuzz-'));
  const file = openSync(task.current, 'w');
  const coverage = new Coverage(/packages\/core\/src\/|planted\.ts$/);
  const random = new Random(task.seed);
  const outcomes: Record<string, number> = {};
  const found = new Set<string>();
  const corpus: Buffer[] = [];
  let inputs = 0;
  let slowest = 0;
  let alive = performance.now();
  const send = (message: FuzzMessage) => process.send!(message);
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
    return coverage.take();
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
  rmSync(folder, { recursive: true, force: true });
  send({ type: 'report', report: { inputs, outcomes, ...coverage.state, slowest, peakMiB: Math.round(peakMiB()) } });
  process.disconnect!();
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
