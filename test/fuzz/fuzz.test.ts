import { describe, expect, test } from 'vitest';
import { fuzz } from './fuzz.ts';
import { TARGETS } from './targets.ts';

/** Enough to replay the corpus and what was found before, and to look at what lies around it; `npm run fuzz` goes further. */
const INPUTS = 100;

describe('no input costs more than 5 s or 512 MiB, kills its reader or fails without a typed error', () => {
  test.each(Object.keys(TARGETS))('%s', async (target) => {
    const { report, findings } = await fuzz(target, { inputs: INPUTS });
    expect(findings.map(({ what, input }) => `${what}: ${input.toString('base64').slice(0, 200)}`)).toEqual([]);
    expect(report?.inputs).toBeGreaterThanOrEqual(INPUTS);
    expect(Object.keys(report!.outcomes).length).toBeGreaterThan(1);
  });
});
