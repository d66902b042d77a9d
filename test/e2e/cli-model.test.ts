import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nightshift } from '../fixtures/cli.ts';
import { tempDir } from '../fixtures/model/temp.ts';
import { timmWeights } from '../fixtures/model/timm-weights.ts';
import { startHub, type TestHub } from '../services/hub.ts';

const temp = tempDir();
const cwd = temp();
const REPOSITORY = '1aurent/vit_small_patch16_224.lunit_dino';
let hub: TestHub;
let env: Record<string, string>;

beforeAll(async () => {
  const weights = timmWeights({ depth: 12, width: 384, hidden: 1536, patch: 16, grid: 14 });
  const config = JSON.stringify({ architecture: 'vit_small_patch16_224' });
  const files = new Map([
    ['model.safetensors', weights],
    ['config.json', Buffer.from(config)],
  ]);
  hub = await startHub({ repository: REPOSITORY, files });
  env = { HF_ENDPOINT: hub.endpoint, HF_HOME: temp('no-hub-home') };
});
afterAll(() => hub.close());

const run = (args: readonly string[], more: Record<string, string> = {}) =>
  nightshift(args, { cwd, env: { ...env, ...more } });

describe('nightshift model list', () => {
  it('shows the catalog to people and to programs, doubts included', async () => {
    const { stdout, stderr, code } = await run(['model', 'list']);
    expect(code).toBe(0);
    for (const id of ['midnight-12k', 'midnight-92k-392', 'lunit-s16']) expect(stdout).toContain(id);
    expect(stdout).toMatch(/uni2-h +gated +CC-BY-NC-ND-4.0 +no/);
    expect(stdout).toMatch(/h-optimus-0 +gated\? /);
    expect(stderr).toContain('nightshift model pull midnight-12k');
    const { catalog, models } = (await run(['model', 'list', '--json'])).json();
    expect(catalog).toHaveLength(14);
    expect(models).toEqual([]);
  });

  it('tells all about one model', async () => {
    const { stdout } = await run(['model', 'list', 'phikon-v2']);
    for (const fact of ['24 blocks of 1024', 'bicubic', '261ae680', 'Owkin', '1e-6  (not verified)']) {
      expect(stdout).toContain(fact);
    }
    const { entry, page } = (await run(['model', 'list', 'phikon-v2', '--json'])).json();
    expect(entry).toMatchObject({ id: 'phikon-v2', dims: 1024 });
    expect(page).toBe('https://huggingface.co/owkin/phikon-v2');
    expect(await run(['model', 'list', 'phikon-v3'])).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('phikon-v2'),
    });
  });
});

describe('nightshift model pull', () => {
  it('downloads and converts a model of the catalog, and says what its licence asks', async () => {
    const { code, stdout, stderr } = await run(['model', 'pull', 'lunit-s16', '--to', 'here']);
    expect(stderr).toContain('Research only');
    expect(stderr).toContain('✓ lunit-s16: 12 blocks, 384 wide');
    expect(code).toBe(0);
    expect(stdout.trim()).toBe(join(cwd, 'here/lunit-s16'));
    const model = JSON.parse(readFileSync(join(cwd, 'here/lunit-s16/model.json'), 'utf8'));
    expect(model).toMatchObject({
      id: 'lunit-s16',
      embedding: 'cls',
      dims: 384,
      mean: [0.70322989, 0.53606487, 0.66096631],
      licence: 'Lunit research-only',
      licenceNote: expect.stringContaining('Research only'),
      weights: { origin: { repository: REPOSITORY, revision: 'c'.repeat(40) } },
    });
    expect(readdirSync(join(cwd, 'here'))).toEqual(['lunit-s16']);
    const again = (await run(['model', 'pull', 'lunit-s16', '--to', 'here', '--json'])).json();
    expect(again).toMatchObject({ source: 'here', model: { digest: model.digest } });
    expect((await run(['model', 'list', '--models', 'here'])).stdout).toMatch(/lunit-s16 \(here\)/);
  });

  it('goes on after Ctrl-C', async () => {
    const size = hub.state.files.get('model.safetensors')!.length;
    hub.state.fault = ({ path }) => (path === 'model.safetensors' ? { silentAfter: size - 1000 } : null);
    const asked = hub.log.length;
    const stopped = await nightshift(['model', 'pull', 'lunit-s16', '--to', 'stopped'], {
      cwd,
      env,
      whileRunning: async (child) => {
        while (arrived(join(cwd, 'stopped/.download-lunit-s16')) < size - 1000) await sleep(20);
        child.kill('SIGINT');
      },
    });
    expect(stopped.code).toBe(130);
    hub.state.fault = null;
    expect((await run(['model', 'pull', 'lunit-s16', '--to', 'stopped'])).code).toBe(0);
    const ranges = hub.log.slice(asked).filter(({ line }) => / cdn:.* bytes=/.test(line));
    expect(ranges.map(({ line }) => line)).toEqual([`GET cdn:model.safetensors bytes=${size - 1000}-`]);
  });

  it('names the page of a gated model', async () => {
    hub.state.gated = true;
    const refused = await run(['model', 'pull', 'lunit-s16', '--to', 'gated']);
    hub.state.gated = false;
    expect(refused).toMatchObject({ code: 4, stdout: '' });
    expect(refused.stderr).toContain('error[hub-access]');
    expect(refused.stderr).toContain(`https://huggingface.co/${REPOSITORY}`);
  });

  it('says that a model is not public, and that the network is away', async () => {
    expect(await run(['model', 'pull', 'midnight-92k'])).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('error[model-not-public]'),
    });
    const away = await run([
      'model',
      'pull',
      'lunit-s16',
      '--to',
      'away',
      '--endpoint',
      'http://127.0.0.1:9',
      '--json',
    ]);
    expect(away.code).toBe(5);
    expect(away.json()).toMatchObject({ command: 'model pull', error: { code: 'hub-unreachable' } });
  });
});

/** Bytes of the unfinished download. */
function arrived(dir: string): number {
  if (!existsSync(dir)) return 0;
  const part = readdirSync(dir).find((name) => name.startsWith('model.safetensors.') && name.endsWith('.part'));
  return part === undefined ? 0 : statSync(join(dir, part)).size;
}
