import { defineConfig } from 'vitest/config';

/** Time limits end what hangs. They are far above what a test takes also on a machine that does other work: none is a measurement. */
const project = (name: string, testTimeout: number, globalSetup: string[] = []) => ({
  test: {
    ...{ name, include: [`test/${name}/**/*.test.ts`], globalSetup, pool: 'forks' as const },
    ...{ testTimeout, hookTimeout: testTimeout },
    // What is refused must not depend on what the machine has.
    env: { NIGHTSHIFT_OPENSLIDE: 'off' },
  },
});
const services = ['test/services/setup.ts'];

export default defineConfig({
  test: {
    projects: [
      project('unit', 120_000),
      project('fuzz', 300_000),
      project('contract', 300_000, services),
      project('e2e', 600_000, services),
      project('faults', 600_000, services),
    ],
    maxWorkers: 2,
    reporters: ['default', './test/count-reporter.ts'],
    coverage: { provider: 'v8', include: ['packages/*/src/**', 'apps/*/src/**'], reporter: ['text-summary'] },
  },
});
