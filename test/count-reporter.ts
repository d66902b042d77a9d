import type { Reporter, TestModule } from 'vitest/node';

/** Closes a run with one plain line that any tool can read: `12 passed, 0 failed, 3 skipped`. */
export default class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const counts = { passed: 0, failed: 0, skipped: 0 };
    for (const module of modules) {
      let failedInside = false;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'pending') continue;
        counts[state] += 1;
        failedInside ||= state === 'failed';
      }
      if (module.state() === 'failed' && !failedInside) counts.failed += 1;
    }
    process.stdout.write(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`);
  }
}
