import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nightshift } from '../fixtures/cli.ts';
import { type Bench, bench } from '../fixtures/run.ts';

let b: Bench;
beforeAll(async () => {
  b = await bench();
});
afterAll(() => b.dispose());

const cli = (...args: string[]) => nightshift(args, { cwd: b.dir, env: { XDG_CACHE_HOME: b.path('cache') } });

describe('nightshift model, in a precision', () => {
  it('converts, says how far the vectors are from float32, and lists it', async () => {
    const made = await cli('model', 'convert', 'weights', '--to', 'models/draft', '--precision', 'int8');
    expect(made).toMatchObject({ code: 0, stderr: expect.stringMatching(/cosine to fp32 0\.99\d+/) });
    const unprobed = await cli('model', 'convert', 'weights', '--to', 'models/bare', '--no-probe', '--json');
    expect(unprobed.json()).toMatchObject({ model: { precision: 'fp32', probe: null } });
    const listed = await cli('model', 'list');
    expect(listed.stdout).toMatch(/int8 +0\.99\d+/);
    expect(listed.stdout).toMatch(/fp32 +no probe/);
  });

  it('checks it here, for people and for programs', async () => {
    const checked = await cli('model', 'check', 'models/draft');
    expect(checked).toMatchObject({ code: 0, stdout: expect.stringMatching(/least cosine +0\.99\d+ +at least 0\.95/) });
    const json = (await cli('model', 'check', 'draft', '--device', 'cpu', '--json')).json();
    expect(json).toMatchObject({ version: 1, ok: true, precision: 'int8', device: 'cpu', tiles: 4 });
    expect(json.cosine).toBe(json.atConversion.cosine);
  });

  it('ends with 4 where there is nothing to compare with', async () => {
    const { code, stderr } = await cli('model', 'check', 'models/bare');
    expect([code, stderr]).toEqual([4, expect.stringContaining('without a probe')]);
  });

  it('ends with 4 where the vectors are others, and says by how much', async () => {
    const dir = b.path('models/draft');
    const info = JSON.parse(readFileSync(join(dir, 'model.json'), 'utf8'));
    const probe = readFileSync(join(dir, info.probe.file.name));
    for (let i = probe.length - 4 * 4 * info.dims; i < probe.length; i += 4) probe.writeFloatLE(i, i);
    writeFileSync(join(dir, info.probe.file.name), probe);
    info.probe.file.sha256 = createHash('sha256').update(probe).digest('hex');
    writeFileSync(join(dir, 'model.json'), JSON.stringify(info));
    const { code, stderr } = await cli('model', 'check', 'models/draft');
    expect([code, stderr]).toEqual([4, expect.stringMatching(/cosine -?0\.\d+ \(at least 0\.95\)/)]);
    const json = await cli('model', 'check', 'models/draft', '--json');
    expect([json.code, json.json()]).toEqual([4, expect.objectContaining({ ok: false })]);
  });
});

describe('nightshift model bench', () => {
  it('measures, marks the best and says where it keeps it', async () => {
    const flags = ['--batches', '1,2', '--threads', '1', '--seconds', '0.01'];
    const { code, stdout, stderr } = await cli('model', 'bench', b.model, '--device', 'cpu', ...flags);
    expect(code).toBe(0);
    expect(stdout).toMatch(/\* 1 +[12] +[\d.,]+ +[\d.,]+ +[\d.]+ %/);
    expect(stderr).toContain(b.path('cache'));
  });

  it('refuses what is no list of sizes', async () => {
    const { code, stderr } = await cli('model', 'bench', b.model, '--batches', '1,many');
    expect([code, stderr]).toEqual([2, expect.stringContaining('whole numbers')]);
  });
});
