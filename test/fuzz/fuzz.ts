import { fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type FuzzMessage, type FuzzReport, type FuzzTask, LIMITS, type Limits } from './fuzz-task.ts';

/** An input that breaks a promise, and what became of it. */
export interface Finding {
  readonly what: string;
  readonly input: Buffer;
}

export interface FuzzResult {
  /** Null where the process died. */
  readonly report: FuzzReport | null;
  readonly findings: readonly Finding[];
  /** Inputs that ran code which no earlier one had. */
  readonly discovered: readonly Buffer[];
}

export interface FuzzOptions {
  readonly inputs: number;
  readonly seconds?: number;
  readonly seed?: number;
  /** Folders and files; the target's own where none are given. */
  readonly corpus?: readonly string[];
  readonly limits?: Limits;
}

export const corpusOf = (target: string): string[] =>
  ['corpus', 'regressions'].map((kind) => join(import.meta.dirname, kind, target)).filter((path) => existsSync(path));

/**
 * Fuzzes a target in a process of its own. What only broke a limit is run again alone: the time or memory may have been that of
 * all inputs before it.
 */
export async function fuzz(target: string, options: FuzzOptions): Promise<FuzzResult> {
  const result = await inChild(target, options);
  const findings: Finding[] = [];
  for (const finding of result.findings) {
    const isLimit = /^it took /.test(finding.what);
    if (!isLimit || (await replay(target, finding.input, options.limits)).length > 0) findings.push(finding);
  }
  return { ...result, findings };
}

/** What one input does, in a new process. */
export async function replay(target: string, input: Buffer, limits = LIMITS): Promise<readonly Finding[]> {
  const folder = mkdtempSync(join(tmpdir(), 'nightshift-fuzz-'));
  try {
    writeFileSync(join(folder, 'input'), input);
    return (await inChild(target, { inputs: 0, corpus: [join(folder, 'input')], limits })).findings;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function inChild(
  target: string,
  { inputs, seconds = 3_600, seed = 1, corpus = corpusOf(target), limits = LIMITS }: FuzzOptions,
): Promise<FuzzResult> {
  const folder = mkdtempSync(join(tmpdir(), 'nightshift-fuzz-'));
  const current = join(folder, 'current');
  const task: FuzzTask = { target, corpus, inputs, seconds, seed, current, limits };
  const script = join(import.meta.dirname, 'fuzz-child.ts');
  const child = fork(script, [JSON.stringify(task)], { execArgv: [], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  const findings: Finding[] = [];
  const discovered: Buffer[] = [];
  let report: FuzzReport | null = null;
  let errors = '';
  let hung = false;
  // Loading takes its time on a busy machine: the watch begins with the first word.
  let watchdog: NodeJS.Timeout | undefined;
  const giveUp = () => {
    hung = true;
    child.kill('SIGKILL');
  };
  child.stderr!.on('data', (chunk: Buffer) => {
    errors = (errors + chunk).slice(-4_000);
  });
  child.on('message', (message: FuzzMessage) => {
    clearTimeout(watchdog);
    watchdog = setTimeout(giveUp, 1_000 * limits.hangSeconds);
    if (message.type === 'report') report = message.report;
    if (message.type === 'new') discovered.push(Buffer.from(message.input, 'base64'));
    if (message.type === 'finding') {
      findings.push({ what: message.what, input: Buffer.from(message.input, 'base64') });
    }
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  clearTimeout(watchdog);
  if (report === null) {
    const what = hung ? `no end after ${limits.hangSeconds} s` : `the process died (${signal ?? code}): ${errors}`;
    findings.push({ what, input: readFileSync(current) });
  }
  rmSync(folder, { recursive: true, force: true });
  return { report, findings, discovered };
}
