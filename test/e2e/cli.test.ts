import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nightshift } from '../fixtures/cli.ts';

let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'nightshift-cli-'));
});
afterAll(() => rm(cwd, { recursive: true }));

describe('help', () => {
  it('shows examples first, then commands and exit codes, on standard output', async () => {
    const { code, stdout, stderr } = await nightshift(['--help'], { cwd });
    expect(code).toBe(0);
    expect(stderr).toBe('');
    expect(stdout.indexOf('Examples')).toBeLessThan(stdout.indexOf('Commands'));
    for (const part of ['embed <source...>', 'model convert', 'Exit codes', '130']) expect(stdout).toContain(part);
  });

  it('without a command is shown too, and is a usage error', async () => {
    const { code, stdout } = await nightshift([], { cwd });
    expect(code).toBe(2);
    expect(stdout).toContain('nightshift demo');
  });

  it.each([
    ['embed', '--help'],
    ['help', 'embed'],
    ['-h', 'embed'],
  ])('of a command: %s %s', async (...args) => {
    const { code, stdout } = await nightshift(args, { cwd });
    expect(code).toBe(0);
    expect(stdout).toContain('nightshift embed slide.svs');
    expect(stdout).toMatch(/--min-tissue N .*\(default: 0\.4\) \[NIGHTSHIFT_MIN_TISSUE\]/);
  });

  it('tells the version', async () => {
    expect((await nightshift(['--version'], { cwd })).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  describe('through the bin', () => {
    const bin = join(import.meta.dirname, '../../apps/producer/bin/nightshift.js');
    const start = (own: Record<string, string>) => {
      const { NODE_COMPILE_CACHE: _, XDG_CACHE_HOME: __, HOME: ___, ...env } = process.env;
      const options = { encoding: 'utf8', env: { ...env, ...own } } as const;
      const { status, stdout, stderr } = spawnSync(process.execPath, [bin, '--version'], options);
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    };

    it('is there as well, and keeps the code that Node compiled for the next start', () => {
      const cache = join(cwd, 'cache');
      start({ XDG_CACHE_HOME: cache });
      expect(readdirSync(join(cache, 'nightshift/compiled')).length).toBeGreaterThan(0);
    });

    it('starts where nothing can be kept', async () => {
      await writeFile(join(cwd, 'file'), '');
      start({ XDG_CACHE_HOME: join(cwd, 'file') });
      start({});
    });
  });
});

describe('a usage error', () => {
  it.each([
    [['embde'], 'unknown command embde', 'Did you mean embed?'],
    [['model', 'covnert'], 'unknown command model covnert', 'Did you mean model convert?'],
    [['model'], 'model is a family of commands', 'Say one of: model list, model pull, model convert'],
    [['--jsno'], 'unknown flag --jsno', 'Did you mean --json?'],
    [
      ['embed', 'a.svs', '--out', 'o', '--model', 'm', '--min-tisue', '1'],
      'unknown flag --min-tisue',
      'Did you mean --min-tissue?',
    ],
    [['embed', '--out', 'o', '--model', 'm'], 'embed: <source...> is missing', 'See nightshift embed --help.'],
    [['embed', 'a.svs', '--model', 'm'], '--out is missing', 'Give --out DIR'],
    [
      ['embed', 'a.svs', '--out', 'o', '--model', 'm', '--mpp', '0'],
      '--mpp is "0"',
      'Give a number from 0.05 to 20 (um/px).',
    ],
    [['verify', 'a', 'b'], 'verify: "b" is one argument too many', 'See nightshift verify --help.'],
    [['search', 'out'], 'nothing to search by', 'Give one of --image FILE and --tile SLIDE:X,Y.'],
    [['search', 'out', '--tile', 'slide-1'], '--tile is "slide-1"', 'Give SLIDE:X,Y'],
  ])('%j: what was wrong and what to do, exit 2, nothing on standard output', async (args, message, next) => {
    const { code, stdout, stderr } = await nightshift(args, { cwd });
    expect(stderr).toContain(`error[usage]: ${message}`);
    expect(stderr).toContain(`next: ${next}`);
    expect(code).toBe(2);
    expect(stdout).toBe('');
  });

  it('is an object on standard output with --json', async () => {
    const { code, stderr, ...finished } = await nightshift(['embed', '--json'], { cwd });
    expect(finished.json()).toMatchObject({ version: 1, command: 'embed', error: { code: 'usage' } });
    expect(stderr).toBe('');
    expect(code).toBe(2);
  });

  it('names the project file when the mistake is there', async () => {
    const folder = await mkdtemp(join(cwd, 'project-'));
    await writeFile(join(folder, 'nightshift.config.json'), '{ "modle": "x" }');
    const { code, stderr } = await nightshift(['embed', 'a.svs'], { cwd: folder });
    expect(code).toBe(2);
    expect(stderr).toContain('unknown key in nightshift.config.json "modle"');
    expect(stderr).toContain('next: Did you mean model?');
  });

  it('names the variable when the mistake is there', async () => {
    const env = { NIGHTSHIFT_LIMIT: 'many' };
    const { code, stderr } = await nightshift(['embed', 'a.svs', '--model', 'm', '--out', 'o'], { cwd, env });
    expect(code).toBe(2);
    expect(stderr).toContain('NIGHTSHIFT_LIMIT is "many"');
  });
});

describe('the next step', () => {
  it('can be typed as it stands: through npx where npm started the command', async () => {
    const env = { npm_lifecycle_event: 'nightshift' };
    const { stderr } = await nightshift(['model', 'list'], { cwd, env });
    expect(stderr).toContain('next: npx nightshift model pull');
    expect((await nightshift(['model', 'list'], { cwd })).stderr).toContain('next: nightshift model pull');
  });
});

describe('colour', () => {
  it('is used neither in a pipe nor with NO_COLOR', async () => {
    const { stderr } = await nightshift(['embde'], { cwd, env: { NO_COLOR: '1' } });
    expect(stderr).not.toContain('\x1b');
  });
});

describe('doctor', () => {
  it('uses the engine, says that telemetry is off, and finds this machine healthy', async () => {
    const { code, ...finished } = await nightshift(['doctor', '--json', '--out', 'new/out'], { cwd });
    const { checks, healthy } = finished.json();
    const state = (name: string) => checks.find((check: { name: string }) => check.name === name)?.state;
    expect([state('node'), state('device cpu'), state('telemetry'), state('out')]).toEqual([
      'good',
      'good',
      'good',
      'good',
    ]);
    expect(healthy).toBe(true);
    expect(code).toBe(0);
  });

  it('says how to mend an out directory that cannot be one, exit 4', async () => {
    await writeFile(join(cwd, 'file'), '');
    const { code, stdout } = await nightshift(['doctor', '--out', 'file/out'], { cwd });
    expect(stdout).toMatch(/✗ out .*\n.*→ /);
    expect(code).toBe(4);
  });
});
