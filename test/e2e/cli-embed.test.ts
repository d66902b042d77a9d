import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nightshift } from '../fixtures/cli.ts';
import { DAMAGE, damaged, makeTinyModel, paintSmall, SMALL, withWrongTiles } from '../fixtures/painted.ts';

let cwd: string;
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'nightshift-embed-'));
  await makeTinyModel(join(cwd, 'models/tiny'));
  await paintSmall(join(cwd, 'slides'), 'good.svs');
});
afterAll(() => rm(cwd, { recursive: true }));

const embed = (source: string, out: string, ...flags: string[]) =>
  nightshift(['embed', source, '--model', 'tiny', '--out', out, ...flags], { cwd });

describe('embed', () => {
  it('embeds a slide, says how it went on standard error and the record on standard output', async () => {
    const { code, stdout, stderr } = await embed('slides/good.svs', 'plain');
    expect(stderr).toMatch(/✓ 1 of 1 slide: (\d+) of \1 tiles embedded/);
    expect(stderr).toContain('next: nightshift verify plain');
    expect(stdout).toBe('plain\n');
    expect(code).toBe(0);
  });

  it('the second time does nothing and says so', async () => {
    await embed('slides', 'twice');
    const { code, ...finished } = await embed('slides', 'twice', '--json');
    const { slides, bytesRead } = finished.json();
    expect(slides).toMatchObject({ total: 1, done: 1, skipped: 1 });
    expect(bytesRead).toBe(0);
    expect(code).toBe(0);
  });

  it('says nothing with --quiet but the record', async () => {
    const { stdout, stderr } = await embed('slides', 'quiet', '--quiet');
    expect(stderr).toBe('');
    expect(stdout).toBe('quiet\n');
  });

  it('takes its settings from the project file and the environment', async () => {
    const folder = await mkdtemp(join(cwd, 'project-'));
    const settings = { model: join(cwd, 'models/tiny'), out: 'record', limit: 3 };
    await writeFile(join(folder, 'nightshift.config.json'), JSON.stringify(settings));
    const env = { NIGHTSHIFT_LIMIT: '2' };
    const finished = await nightshift(['embed', join(cwd, 'slides'), '--json'], { cwd: folder, env });
    expect(finished.json().tiles).toMatchObject({ planned: 2, embedded: 2 });
  });

  it('takes a manifest with a mpp for one slide', async () => {
    await mkdir(join(cwd, 'cohort'), { recursive: true });
    await damaged(join(cwd, 'slides/good.svs'), join(cwd, 'cohort/bare.svs'), DAMAGE['without mpp']!);
    await writeFile(join(cwd, 'cohort/list.csv'), 'uri,mpp\nbare.svs,0.5\n../slides/good.svs,\n');
    const { code, ...finished } = await embed('cohort/list.csv', 'manifest', '--json');
    expect(finished.json().slides).toMatchObject({ total: 2, done: 2, failed: 0 });
    expect(code).toBe(0);
  });

  it('a slide without tissue is done, empty, and no failure', async () => {
    await paintSmall(join(cwd, 'blank'), 'blank.svs', { ...SMALL, pieces: [] });
    const { code, ...finished } = await embed('blank', 'blank-out', '--json');
    expect(finished.json()).toMatchObject({ slides: { done: 1, empty: 1, failed: 0 }, tiles: { planned: 0 } });
    expect(code).toBe(0);
    expect((await nightshift(['verify', 'blank-out'], { cwd })).code).toBe(0);
  });
});

describe('bad slides', () => {
  const CODES: Readonly<Record<string, string | RegExp>> = {
    'not a slide': 'slide-not-a-slide',
    'an empty file': 'slide-not-a-slide',
    truncated: /^(slide-truncated|slide-corrupt|tile-truncated)$/,
    'without mpp': 'mpp-missing',
    'of absurd mpp': 'mpp-absurd',
    'with an IFD loop': /^slide-(corrupt|limits)$/,
    'with tag counts past the end': /^slide-(truncated|corrupt|limits)$/,
    'with tiles of another size': 'tile-size-mismatch',
  };

  it('are reported one by one with a code and a next step, and the good one is embedded, exit 3', async () => {
    const folder = join(cwd, 'bad');
    await mkdir(folder);
    const good = join(cwd, 'slides/good.svs');
    const damages = { ...DAMAGE, 'with tiles of another size': withWrongTiles };
    for (const [name, damage] of Object.entries(damages)) await damaged(good, join(folder, `${name}.svs`), damage);
    await damaged(good, join(folder, 'good.svs'), (slide) => slide);

    const { code, ...finished } = await embed('bad', 'bad-out', '--json');
    const { failures, slides, tiles } = finished.json();
    expect(code).toBe(3);
    expect(slides.total).toBe(Object.keys(damages).length + 1);
    expect(tiles.embedded).toBeGreaterThan(5);
    for (const [name, expected] of Object.entries(CODES)) {
      const found = failures.filter(({ uri }: { uri: string }) => uri === join(folder, `${name}.svs`));
      expect(found, name).toHaveLength(1);
      expect(found[0].error.code, name).toEqual(
        typeof expected === 'string' ? expected : expect.stringMatching(expected),
      );
      expect(found[0].error.next, name).toMatch(/\.$/);
    }
    expect(failures).toHaveLength(Object.keys(CODES).length);

    const { stderr } = await embed('bad', 'bad-out');
    expect(stderr).toMatch(/error\[mpp-absurd\]: .*of absurd mpp\.svs/);
    expect(stderr).toMatch(/error\[tile-size-mismatch\]: with tiles of another size\.svs: \d+ tiles: /);
    expect((await nightshift(['verify', 'bad-out', '--json'], { cwd })).json()).toMatchObject({ ok: true });
  });

  it('without mpp are repaired by the flag that the error names', async () => {
    const bare = await damaged(join(cwd, 'slides/good.svs'), join(cwd, 'bare.svs'), DAMAGE['without mpp']!);
    expect((await embed(bare, 'bare-out')).stderr).toContain('--slide-mpp');
    expect((await embed(bare, 'bare-out', '--slide-mpp', '0.5')).code).toBe(0);
  });
});

describe('bad input', () => {
  it.each([
    ['a missing file', ['gone.svs'], 'source-not-found', 2],
    ['an empty directory', ['nothing'], 'source-empty', 2],
    ['a glob without a match', ['slides/*.ndpi'], 'source-empty', 2],
    ['a manifest with a wrong line', ['wrong.csv'], 'manifest-invalid', 2],
    ['an unknown model', ['slides', '--model', 'nope'], 'model-not-found', 4],
    ['a model that is not here yet', ['slides', '--model', 'midnight-12k'], 'model-not-found', 4],
    ['a model directory with broken JSON', ['slides', '--model', 'broken-model'], 'model-invalid', 4],
    ['an out directory that cannot be made', ['slides', '--out', 'wrong.csv/out'], 'out-not-writable', 4],
    ['a device that is not there', ['slides', '--device', 'cuda:7'], 'device-unavailable', 4],
  ])('%s stops the run with its code and leaves no record', async (_, flags, expected, exit) => {
    await mkdir(join(cwd, 'nothing'), { recursive: true });
    await mkdir(join(cwd, 'broken-model'), { recursive: true });
    await writeFile(join(cwd, 'broken-model/model.json'), '{');
    await writeFile(join(cwd, 'wrong.csv'), 'uri,mpp\na.svs,forty\n');
    const out = await mkdtemp(join(cwd, 'bad-'));
    const args = ['embed', '--model', 'tiny', '--out', out, ...flags, '--json'];
    const { code, stderr, ...finished } = await nightshift(args, { cwd });
    const { error } = finished.json();
    expect(error.code, stderr).toBe(expected);
    expect(error.next).toMatch(/\.$/);
    expect(code).toBe(exit);
    expect((await readdir(out, { recursive: true })).filter((name) => name.endsWith('.arrow'))).toEqual([]);
  });

  it('a second model in the same out directory is kept apart, and is said', async () => {
    await makeTinyModel(join(cwd, 'models/other'), { seed: 2, name: 'other-random' });
    await embed('slides', 'shared-out');
    const args = ['embed', 'slides', '--model', 'other', '--out', 'shared-out'];
    const { code, stderr } = await nightshift(args, { cwd });
    expect(stderr).toContain('another recipe');
    expect(code).toBe(0);
    const ambiguous = await nightshift(['verify', 'shared-out', '--json'], { cwd });
    expect(ambiguous.json().error.code).toBe('run-ambiguous');
    expect(ambiguous.code).toBe(2);
    const runs = (await readdir(join(cwd, 'shared-out/runs'))).filter((name) => name.endsWith('.json'));
    expect(runs).toHaveLength(2);
    for (const run of runs) {
      const verified = await nightshift(['verify', 'shared-out', '--run', run.replace('.json', '')], { cwd });
      expect(verified.code).toBe(0);
    }
  });
});

describe('inspect', () => {
  it('tells levels, mpp and its source, and the tiles of a plan', async () => {
    const { code, stdout } = await nightshift(['inspect', 'slides/good.svs'], { cwd });
    expect(stdout).toContain('1,500 x 1,100');
    expect(stdout).toContain('0.5 um/px, from aperio');
    expect(stdout).toMatch(/\d+ tiles of \d+ that fit on the slide/);
    expect(code).toBe(0);
  });

  it('promises as many tiles as embed makes', async () => {
    const { plan } = (await nightshift(['inspect', 'slides/good.svs', '--json', '--mpp', '1'], { cwd })).json();
    const { tiles } = (await embed('slides/good.svs', 'inspected', '--json', '--mpp', '1')).json();
    expect(plan.tiles).toBe(tiles.planned);
  });

  it('says what keeps a plan from being made, exit 4', async () => {
    const bare = await damaged(join(cwd, 'slides/good.svs'), join(cwd, 'inspect.svs'), DAMAGE['without mpp']!);
    const { code, stdout } = await nightshift(['inspect', bare], { cwd });
    expect(stdout).toContain('not stated');
    expect(stdout).toContain('--slide-mpp');
    expect(code).toBe(4);
  });

  it('of a file that is none is an error', async () => {
    const { code, stderr } = await nightshift(['inspect', 'gone.svs'], { cwd });
    expect(stderr).toContain('error[slide-not-found]');
    expect(code).toBe(4);
  });
});

describe('verify', () => {
  it('finds what is missing and says what to do, exit 3', async () => {
    await embed('slides', 'holed');
    const [recipe] = (await readdir(join(cwd, 'holed'))).filter((name) => /^[0-9a-f]{12}/.test(name));
    const [file] = await readdir(join(cwd, 'holed', recipe!, 'slides'));
    await rm(join(cwd, 'holed', recipe!, 'slides', file!));
    const { code, stdout } = await nightshift(['verify', 'holed'], { cwd });
    expect(stdout).toContain('error[slide-unfinished]');
    expect(stdout).toContain('next: Run the same command again');
    expect(code).toBe(3);
    expect((await embed('slides', 'holed')).code).toBe(0);
    expect((await nightshift(['verify', 'holed'], { cwd })).code).toBe(0);
  });

  it('of a folder that holds no record is a usage error', async () => {
    const { code, stderr } = await nightshift(['verify', 'slides'], { cwd });
    expect(stderr).toContain('error[record-not-found]');
    expect(code).toBe(2);
  });
});

describe('search', () => {
  it('by a tile finds tiles of both slides, best first, and draws them', async () => {
    const second = { ...SMALL, seed: 4 };
    await paintSmall(join(cwd, 'pair'), 'one.svs');
    await paintSmall(join(cwd, 'pair'), 'two.svs', second);
    await embed('pair', 'pair-out');
    const args = ['search', 'pair-out', '--tile', 'one:700,500', '-k', '30', '--contact-sheet', 'hits.jpg'];
    const finished = await nightshift([...args, '--json'], { cwd });
    const { hits, contactSheet } = finished.json();
    const scores = hits.map(({ score }: { score: number }) => score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    expect(new Set(hits.map(({ slide }: { slide: string }) => slide)).size).toBe(2);
    expect((await readFile(join(cwd, contactSheet))).subarray(0, 2)).toEqual(Buffer.from([0xff, 0xd8]));

    const inTwo = (await nightshift([...args, '--slide', 'two.svs', '--json'], { cwd })).json();
    expect(new Set(inTwo.hits.map(({ uri }: { uri: string }) => uri))).toEqual(new Set([join(cwd, 'pair/two.svs')]));
  });

  it('of a tile that the record does not hold is a usage error', async () => {
    await embed('slides', 'plain');
    const { code, stderr } = await nightshift(['search', 'plain', '--tile', 'good:0,0'], { cwd });
    expect(stderr).toContain('error[tile-not-in-record]');
    expect(code).toBe(2);
  });
});

describe('model', () => {
  it('list tells what is here and what the catalog holds', async () => {
    const { stdout } = await nightshift(['model', 'list'], { cwd });
    expect(stdout).toMatch(/tiny-random +random weights +fp32 +1 +224 px/);
    expect(stdout).toContain('midnight-12k');
  });

  it('convert refuses what is no checkpoint and leaves nothing behind', async () => {
    await mkdir(join(cwd, 'weights'), { recursive: true });
    await writeFile(join(cwd, 'weights/model.safetensors'), 'no weights');
    const args = ['model', 'convert', 'weights', '--to', 'models/never', '--json'];
    const { code, ...finished } = await nightshift(args, { cwd });
    expect(finished.json().error.code).toBe('weights-unsupported');
    expect(code).toBe(4);
    expect(await readdir(join(cwd, 'models'))).not.toContain('never');
  });
});
