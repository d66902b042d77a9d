import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NightshiftError } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  choice,
  integer,
  list,
  needed,
  number,
  PROJECT_FILE,
  readFlags,
  text,
  toggle,
  triple,
} from '../../../packages/cli/src/flags.ts';

const TABLE = {
  model: needed({ about: 'the model', placeholder: 'DIR' }),
  minTissue: number({ about: 'share', unit: 'share', min: 0, max: 1, fallback: 0.4 }),
  limit: integer({ about: 'tiles', unit: 'tiles', min: 1, max: Number.MAX_SAFE_INTEGER, fallback: null }),
  filter: choice({ about: 'filter', values: ['none', 'hsv'], fallback: 'none' }),
  slide: list({ about: 'slides', placeholder: 'SLIDE' }),
  mean: triple({ about: 'mean', placeholder: 'R,G,B' }),
  name: text({ about: 'name', placeholder: 'NAME' }),
  k: integer({ short: 'k', about: 'hits', unit: 'tiles', min: 1, max: 100, fallback: 10 }),
  grid: toggle({ about: 'grid' }),
};

let empty: string;
let project: string;
beforeAll(async () => {
  empty = await mkdtemp(join(tmpdir(), 'nightshift-flags-'));
  project = await mkdtemp(join(tmpdir(), 'nightshift-flags-'));
});
afterAll(async () => {
  await rm(empty, { recursive: true });
  await rm(project, { recursive: true });
});

const read = (argv: string[], { env = {}, cwd = empty }: { env?: Record<string, string>; cwd?: string } = {}) =>
  readFlags(TABLE, argv, { env, cwd, knownKeys: new Set([...Object.keys(TABLE), 'out']) });

async function readWithProject(content: unknown, argv: string[], env: Record<string, string> = {}) {
  await writeFile(join(project, PROJECT_FILE), typeof content === 'string' ? content : JSON.stringify(content));
  return read(argv, { cwd: project, env });
}

function refusal(run: () => unknown): NightshiftError {
  try {
    run();
  } catch (error) {
    if (error instanceof NightshiftError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}

describe('a flag', () => {
  it('is read with its type; what is not given has its default', () => {
    const { values, args } = read([
      'a.svs',
      '--model',
      'm',
      '--min-tissue=0.2',
      '--limit',
      '5',
      'b.svs',
      '-k',
      '3',
      '--grid',
    ]);
    expect(args).toEqual(['a.svs', 'b.svs']);
    expect(values).toEqual({
      model: 'm',
      minTissue: 0.2,
      limit: 5,
      filter: 'none',
      slide: [],
      mean: null,
      name: null,
      k: 3,
      grid: true,
    });
  });

  it('may come several times where it is a list; elsewhere the last one counts', () => {
    const { values } = read(['--model', 'a', '--model', 'b', '--slide', 'x', '--slide', 'y']);
    expect(values.model).toBe('b');
    expect(values.slide).toEqual(['x', 'y']);
  });

  it('that is unknown is refused with the one that was meant', () => {
    expect(refusal(() => read(['--model', 'm', '--min-tisue', '1']))).toMatchObject({
      code: 'usage',
      message: 'unknown flag --min-tisue',
      next: 'Did you mean --min-tissue?',
    });
  });

  it.each([
    [['--min-tissue', '1.5'], '--min-tissue is "1.5"', 'Give a number from 0 to 1 (share).'],
    [['--min-tissue', 'NaN'], '--min-tissue is "NaN"', 'Give a number from 0 to 1 (share).'],
    [['--min-tissue', ''], '--min-tissue is ""', 'Give a number from 0 to 1 (share).'],
    [['--limit', '0'], '--limit is "0"', 'Give a whole number of 1 or more (tiles).'],
    [['--limit', '2.5'], '--limit is "2.5"', 'Give a whole number of 1 or more (tiles).'],
    [['--limit', '-5'], '--limit is "-5"', 'Give a whole number of 1 or more (tiles).'],
    [['--filter', 'hvs'], '--filter is "hvs"', 'Give none, hsv; did you mean hsv?.'],
    [['--mean', '0.5,0.5'], '--mean is "0.5,0.5"', 'Give three numbers with commas between, e.g. 0.5,0.5,0.5.'],
    [['--name', '--grid'], '--name needs a value', 'Give --name NAME.'],
    [['--name'], '--name needs a value', 'Give --name NAME.'],
  ])('%j is refused: what it was and what to give', (argv, message, next) => {
    expect(refusal(() => read(['--model', 'm', ...argv]))).toMatchObject({ code: 'usage', message, next });
  });

  it('that is a switch takes no value', () => {
    expect(refusal(() => read(['--model', 'm', '--grid=yes'])).message).toBe('--grid is a switch and takes no value');
  });

  it('that is needed and missing names the three places to give it', () => {
    const { message, next } = refusal(() => read([]));
    expect(message).toBe('--model is missing: the model');
    expect(next).toBe(`Give --model DIR, set NIGHTSHIFT_MODEL, or put "model" into ${PROJECT_FILE}.`);
  });
});

describe('precedence', () => {
  it('is flag, environment, project file, default', async () => {
    const content = { model: 'file', 'min-tissue': 0.1, filter: 'hsv', name: 'file' };
    const env = { NIGHTSHIFT_MODEL: 'env', NIGHTSHIFT_MIN_TISSUE: '0.2' };
    const { values } = await readWithProject(content, ['--model', 'flag'], env);
    expect(values).toMatchObject({ model: 'flag', minTissue: 0.2, filter: 'hsv', name: 'file', k: 10 });
  });

  it('takes an empty variable for none', () => {
    expect(read(['--model', 'm'], { env: { NIGHTSHIFT_NAME: '' } }).values.name).toBeNull();
  });
});

describe('the environment', () => {
  it('gives a list by the path delimiter', () => {
    expect(read(['--model', 'm'], { env: { NIGHTSHIFT_SLIDE: 'a:b' } }).values.slide).toEqual(['a', 'b']);
  });

  it('names the variable that is wrong', () => {
    const error = refusal(() => read(['--model', 'm'], { env: { NIGHTSHIFT_LIMIT: 'all' } }));
    expect(error.message).toBe('NIGHTSHIFT_LIMIT is "all"');
  });

  it('refuses a variable that is one typo away, and leaves a cluster its own', () => {
    expect(refusal(() => read(['--model', 'm'], { env: { NIGHTSHIFT_MDOEL: 'x' } }))).toMatchObject({
      message: 'unknown environment variable NIGHTSHIFT_MDOEL',
      next: 'Did you mean NIGHTSHIFT_MODEL?',
    });
    const env = { NIGHTSHIFT_SERVICE_HOST: '10.0.0.1', NIGHTSHIFT_PORT_80_TCP: 'tcp://10.0.0.1:80' };
    expect(read(['--model', 'm'], { env }).values.model).toBe('m');
  });
});

describe('the project file', () => {
  it('may hold what another command takes', async () => {
    expect((await readWithProject({ out: 'x' }, ['--model', 'm'])).values.model).toBe('m');
  });

  it('gives lists, switches and numbers as JSON has them', async () => {
    const { values } = await readWithProject({ slide: ['a', 'b'], grid: true, k: 7 }, ['--model', 'm']);
    expect(values).toMatchObject({ slide: ['a', 'b'], grid: true, k: 7 });
  });

  it.each([
    ['an unknown key', { modle: 'm' }, `unknown key in ${PROJECT_FILE} "modle"`],
    ['a wrong value', { k: 1000 }, `"k" in ${PROJECT_FILE} is "1000"`],
    ['a nested value', { name: { x: 1 } }, `"name" in ${PROJECT_FILE} is not a plain value`],
    ['an array', [], `${PROJECT_FILE} is not an object`],
    ['no JSON', '{ "model": ', `${PROJECT_FILE} is not JSON`],
  ])('with %s is refused', async (_, content, message) => {
    await expect(readWithProject(content, ['--model', 'm'])).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringContaining(message),
    });
  });
});
