import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Finding, fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

/**
 * `npm run fuzz -- <target|all> [--seconds 600] [--seed 1] [--keep]`: fuzzes for longer than the tests do. A finding is written to
 * `regressions/<target>`, where the tests replay it. `--keep` adds to the corpus what ran code that nothing in it runs.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    keep: { type: 'boolean', default: false },
  },
});
const say = (line: string) => process.stdout.write(`${line}\n`);
const names = positionals[0] === 'all' ? Object.keys(TARGETS) : positionals;
const unknown = names.filter((name) => !(name in TARGETS));
if (names.length === 0 || unknown.length > 0) {
  say(
    `usage: npm run fuzz -- <target|all> [--seconds 60] [--seed N] [--keep]\ntargets: ${Object.keys(TARGETS).join(' ')}`,
  );
  process.exit(2);
}

/** A target with so many is to be mended first. */
const MOST_FINDINGS = 10;
/** The largest input that is kept: the corpus is read at each run of the tests. */
const MOST_KEPT_BYTES = 4_096;

function keep(kind: 'corpus' | 'regressions', target: string, input: Buffer): string {
  const folder = join(import.meta.dirname, kind, target);
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `found-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`);
  writeFileSync(path, input);
  return path;
}

for (const name of names) {
  const until = performance.now() + 1_000 * Number(values.seconds);
  const findings: Finding[] = [];
  // A finding may end the process: another seed goes on.
  for (let seed = Number(values.seed); performance.now() < until && findings.length < MOST_FINDINGS; seed++) {
    const seconds = (until - performance.now()) / 1_000;
    const result = await fuzz(name, { inputs: Number.MAX_SAFE_INTEGER, seconds, seed });
    if (result.report !== null) say(`${name}: seed ${seed}, ${JSON.stringify(result.report)}`);
    for (const finding of result.findings) {
      findings.push(finding);
      say(`${name}: seed ${seed}, ${finding.what}\n  ${keep('regressions', name, finding.input)}`);
    }
    if (!values.keep) continue;
    for (const input of result.discovered) if (input.length <= MOST_KEPT_BYTES) keep('corpus', name, input);
  }
  if (findings.length > 0) process.exitCode = 1;
}
