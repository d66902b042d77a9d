import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { fuzz } from './fuzz.ts';
import { LIMITS } from './fuzz-task.ts';

const folder = mkdtempSync(join(tmpdir(), 'nightshift-planted-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** An input from which one change of one byte leads to each planted bug. */
const corpus = [join(folder, 'input')];
writeFileSync(corpus[0]!, 'xxx');

test('a bug behind three conditions is found by what the inputs before it ran, and its input is told', async () => {
  const { findings } = await fuzz('nested', { inputs: 700, seed: 10, corpus });
  expect(findings).toHaveLength(1);
  expect(findings[0]!.what).toContain('TypeError: the planted bug');
  expect(findings[0]!.input.subarray(0, 3).toString()).toBe('yph');
});

test.each([
  ['slow', 's', 'it took 0.', { seconds: 0.3 }],
  ['large', 'l', 'MiB', {}],
  ['deadly', 'd', 'the process died (SIGSEGV)', {}],
  ['endless', 'e', 'no end after 3 s', { hangSeconds: 3 }],
])('an input that is %s is found', async (target, letter, what, change) => {
  writeFileSync(join(folder, target), letter);
  const limits = { ...LIMITS, ...change };
  const { findings } = await fuzz(target, { inputs: 0, corpus: [...corpus, join(folder, target)], limits });
  expect(findings).toHaveLength(1);
  expect(findings[0]!.what).toContain(what);
  expect(findings[0]!.input.toString()).toBe(letter);
});

test('an input that breaks no limit is no finding', async () => {
  for (const target of ['slow', 'large', 'deadly', 'endless']) {
    const { report, findings } = await fuzz(target, { inputs: 0, corpus });
    expect(findings).toEqual([]);
    expect(report?.outcomes).toEqual({ understood: 1 });
  }
});
