import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { faultsOf, path, text } from '../../fixtures/infra.ts';

const script = 'infra/slurm/worker.sbatch';

describe('worker.sbatch', () => {
  /** Runs it in a checkout whose worker only says how it was called. */
  function run(env: Record<string, string>, ...args: string[]) {
    const dir = mkdtempSync(join(tmpdir(), 'nightshift-slurm-'));
    onTestFinished(() => rmSync(dir, { recursive: true }));
    mkdirSync(join(dir, 'node_modules/.bin'), { recursive: true });
    const worker = join(dir, 'node_modules/.bin/nightshift-worker');
    writeFileSync(worker, '#!/bin/sh\necho "$$"\nprintf "%s\\n" "$@"\n');
    chmodSync(worker, 0o755);
    const { status, stdout, stderr, pid } = spawnSync('bash', [path(script), ...args], {
      env: { PATH: process.env.PATH!, SLURM_SUBMIT_DIR: dir, ...env },
      encoding: 'utf8',
    });
    const [worked, ...given] = stdout.trim().split('\n');
    return { status, stderr, given, isShell: Number(worked) === pid };
  }

  it('becomes the worker, so that Slurm’s signals reach it, and passes its arguments on', () => {
    const { status, given, isShell } = run({ REDIS_URL: 'redis://login1:6379' }, '--model', 'models/midnight');
    expect([status, isShell]).toEqual([0, true]);
    expect(given).toEqual(expect.arrayContaining(['--exit-when-empty', '--model', 'models/midnight']));
    expect(faultsOf(['nightshift-worker', ...given])).toEqual([]);
  });

  it('says what is missing', () => {
    const { status, stderr } = run({});
    expect(status).not.toBe(0);
    expect(stderr).toContain('set REDIS_URL');
  });

  it('asks Slurm for a signal to the batch shell, and to be put back into the queue', () => {
    const options = text(script).match(/^#SBATCH .*$/gm) ?? [];
    expect(options).toContain('#SBATCH --signal=B:TERM@120');
    expect(options).toContain('#SBATCH --requeue');
  });
});
