import { execFile, fork, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import { type OnnxEncoder, openEncoder } from '../../../packages/core/src/model/onnx.ts';
import { childEnvironment } from '../../../packages/core/src/model/onnx-engine.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { convertModel } from '../../fixtures/model/without-probe.ts';

const temp = tempDir();
const model = temp('model');
const EMBED = join(import.meta.dirname, '../../fixtures/model/embed.ts');

beforeAll(async () => {
  await writeRandomDinov2(temp('weights'), { depth: 4, width: 192 });
  await convertModel({ from: temp('weights'), to: model });
});

const TILE = 224 * 224 * 3;
const tiles = (count: number) => new Uint8Array(count * TILE).map((_, i) => i * 7 + (i >> 9));
const open = (dir = model) => openEncoder({ dir, device: 'cpu', threads: 1, maxBatch: 8 });

const alive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

/** Waits until a process is gone. A zombie counts as gone. */
async function gone(pid: number): Promise<void> {
  const status = `/proc/${pid}/status`;
  const isZombie = () => existsSync(status) && /^State:\sZ/m.test(readFileSync(status, 'utf8'));
  while (alive(pid) && !isZombie()) await new Promise((resolve) => setTimeout(resolve, 10));
}

describe('the inference process', () => {
  it('may be killed in mid-run: the calls are answered with the same vectors', async () => {
    const encoder = await open();
    const quiet = (await encoder.embed(tiles(8), 8)).embedding;
    const calls = Array.from({ length: 4 }, () => encoder.embed(tiles(8), 8));
    await calls[0];
    const { pid } = encoder;
    process.kill(pid!, 'SIGKILL');
    for (const { embedding } of await Promise.all(calls)) expect(embedding).toEqual(quiet);
    expect(encoder.pid).not.toBe(pid);
    await encoder.close();
  });

  it('may be killed while nothing runs', async () => {
    const encoder = await open();
    const pid = encoder.pid!;
    process.kill(pid, 'SIGKILL');
    await gone(pid);
    expect((await encoder.embed(tiles(1), 1)).embedding.length).toBe(encoder.model.dims);
    await encoder.close();
  });

  it('fails a tile that kills it again and again, and says how it died', async () => {
    const encoder = await open();
    const call = encoder.embed(tiles(1), 1);
    const killer = killEvery(encoder);
    await expect(call).rejects.toMatchObject({
      code: 'encoder-failed',
      message: expect.stringContaining('SIGKILL'),
    });
    await killer.stop();
    expect((await encoder.embed(tiles(1), 1)).embedding.length).toBe(encoder.model.dims);
    await encoder.close();
  });

  it('is gone when the encoder is closed', async () => {
    const encoder = await open();
    const pid = encoder.pid!;
    await encoder.close();
    expect(alive(pid)).toBe(false);
    expect(encoder.pid).toBeNull();
  });

  it('does not block the process that feeds it', async () => {
    const encoder = await open();
    const call = encoder.embed(tiles(8), 8);
    let turns = 0;
    let running = true;
    void call.then(() => {
      running = false;
    });
    while (running) {
      turns++;
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(turns).toBeGreaterThan(20);
    await encoder.close();
  });

  it.skipIf(process.platform !== 'linux')('dies with its parent, even in mid-run', async () => {
    const parent = fork(EMBED, [model, 'forever'], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    const [{ pid }] = (await once(parent, 'message')) as [{ pid: number }];
    expect(alive(pid)).toBe(true);
    parent.kill('SIGKILL');
    await gone(pid);
  });

  it('ignores the Ctrl-C of the terminal, which reaches the whole process group', async () => {
    const encoder = await open();
    const { pid } = encoder;
    process.kill(pid!, 'SIGINT');
    process.kill(pid!, 'SIGTERM');
    await encoder.embed(tiles(2), 2);
    expect(encoder.pid).toBe(pid);
    await encoder.close();
  });

  it('gives the same vectors on any number of threads', async () => {
    const vectors = [];
    for (const threads of [1, 2, 3]) {
      const encoder = await openEncoder({ dir: model, device: 'cpu', threads, maxBatch: 4 });
      vectors.push((await encoder.embed(tiles(4), 4)).embedding);
      await encoder.close();
    }
    expect(vectors[1]).toEqual(vectors[0]);
    expect(vectors[2]).toEqual(vectors[0]);
  });

  it('inherits no credentials and no flags, and has telemetry off', () => {
    const secrets = {
      AWS_SECRET_ACCESS_KEY: 'a',
      REDIS_URL: 'b',
      HF_TOKEN: 'c',
      DB_PASSWORD: 'd',
      NODE_OPTIONS: '-r x',
    };
    const harmless = { PATH: '/bin', HOME: '/h', CUDA_VISIBLE_DEVICES: '1', LD_LIBRARY_PATH: '/l' };
    expect(childEnvironment({ ...secrets, ...harmless })).toEqual({ ...harmless, ORT_DISABLE_TELEMETRY: '1' });
  });

  it.skipIf(process.platform !== 'linux')('is started with that environment', async () => {
    process.env.NIGHTSHIFT_TEST_TOKEN = 'secret';
    const encoder = await open();
    delete process.env.NIGHTSHIFT_TEST_TOKEN;
    const environment = readFileSync(`/proc/${encoder.pid}/environ`, 'utf8').split('\0');
    expect(environment).toContain('ORT_DISABLE_TELEMETRY=1');
    expect(environment.join()).not.toContain('secret');
    await encoder.close();
  });
});

describe('telemetry', () => {
  it('writes nothing to the home and cache directories', async () => {
    const home = temp('home');
    mkdirSync(home);
    const env = { ...process.env, HOME: home, XDG_CACHE_HOME: join(home, '.cache'), NODE_OPTIONS: '' };
    const { stdout } = await promisify(execFile)(process.execPath, [EMBED, model], { env });
    expect(stdout).toContain('384 numbers');
    expect(readdirSync(home, { recursive: true })).toEqual([]);
  });

  const hasStrace = spawnSync('strace', ['-V']).status === 0;
  it.skipIf(!hasStrace)('creates no file anywhere and opens no network socket (strace)', async () => {
    const log = temp('strace.log');
    const args = [
      '-f',
      '-qq',
      '-e',
      'trace=openat,mkdir,mkdirat,socket,connect',
      '-o',
      log,
      process.execPath,
      EMBED,
      model,
    ];
    const { stdout } = await promisify(execFile)('strace', args, { env: { ...process.env, NODE_OPTIONS: '' } });
    expect(stdout).toContain('384 numbers');
    const calls = readFileSync(log, 'utf8').split('\n');
    expect(calls.filter((call) => call.includes('libonnxruntime')).length).toBeGreaterThan(0);
    expect(calls.filter((call) => /O_CREAT|mkdir|AF_INET/.test(call))).toEqual([]);
  });
});

describe('openEncoder refuses', () => {
  const copy = (name: string) => {
    rmSync(temp(name), { recursive: true, force: true });
    cpSync(model, temp(name), { recursive: true });
    return temp(name);
  };
  const refusal = (dir: string) => open(dir).catch((error) => error);

  it('a directory without a model', async () => {
    expect(await refusal(temp('nowhere'))).toMatchObject({ code: 'model-not-found' });
  });

  it('a data file of another size', async () => {
    const dir = copy('longer');
    appendFileSync(join(dir, 'model.onnx.data'), 'x');
    expect(await refusal(dir)).toMatchObject({ code: 'model-digest', message: expect.stringContaining('bytes') });
  });

  it.each(['model.onnx', 'model.onnx.data'])('%s with one changed bit', async (file) => {
    const dir = copy('flipped');
    const bytes = readFileSync(join(dir, file));
    bytes[bytes.length >> 1]! ^= 1;
    rmSync(join(dir, file));
    appendFileSync(join(dir, file), bytes);
    expect(await refusal(dir)).toMatchObject({ code: 'model-digest', message: expect.stringContaining(file) });
  });

  it('a data file that is a link', async () => {
    const dir = copy('linked');
    rmSync(join(dir, 'model.onnx.data'));
    symlinkSync(join(model, 'model.onnx.data'), join(dir, 'model.onnx.data'));
    expect(await refusal(dir)).toMatchObject({ code: 'model-invalid', message: expect.stringContaining('link') });
  });

  it('a device that is not there, or that nobody knows', async () => {
    await expect(openEncoder({ dir: model, device: 'cuda:7' })).rejects.toMatchObject({ code: 'device-unavailable' });
    await expect(openEncoder({ dir: model, device: 'abacus' })).rejects.toMatchObject({ code: 'usage' });
  });

  it('the patch grid of a model that has none', async () => {
    const encoder = await open();
    await expect(encoder.embed(tiles(1), 1, { patch: true })).rejects.toMatchObject({ code: 'model-mismatch' });
    await encoder.close();
  });
});

/** Kills every inference process of an encoder as soon as it is there. */
function killEvery(encoder: OnnxEncoder) {
  let on = true;
  const killed = new Set<number>();
  const done = (async () => {
    while (on) {
      const { pid } = encoder;
      if (pid !== null && !killed.has(pid)) {
        killed.add(pid);
        process.kill(pid, 'SIGKILL');
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  return {
    stop: () => {
      on = false;
      return done;
    },
  };
}
