import { defineConfig } from 'vitest/config';

const project = (name: string, testTimeout: number) => ({
  test: { name, include: [`test/${name}/**/*.test.ts`], testTimeout, hookTimeout: testTimeout, pool: 'forks' as const },
});

export default defineConfig({
  test: {
    projects: [project('unit', 30_000), project('contract', 60_000), project('e2e', 300_000)],
    maxWorkers: 2,
    reporters: ['default', './test/count-reporter.ts'],
    coverage: { provider: 'v8', include: ['packages/*/src/**', 'apps/*/src/**'], reporter: ['text-summary'] },
  },
});
