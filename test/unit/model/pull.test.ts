import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type CatalogEntry, catalogEntry } from '../../../packages/core/src/model/catalog.ts';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import { verifyModelFiles } from '../../../packages/core/src/model/info.ts';
import { connectHub } from '../../../packages/core/src/model/pull/hub.ts';
import { type PullOptions, pullModel } from '../../../packages/core/src/model/pull/pull.ts';
import { findToken } from '../../../packages/core/src/model/pull/token.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { type Asked, type Fault, filesOf, gitSha1, startHub, type TestHub } from '../../services/hub.ts';

const temp = tempDir();
const hubs: TestHub[] = [];
const MODEL = 'model.safetensors';
/** Nothing of the machine that runs the tests. */
const env = { HF_HOME: temp('no-hub-home') };
const patience = { retry: 1, silence: 300 };
let weights: Buffer;

/** A model of the catalog in everything but its size. */
const ENTRY: CatalogEntry = {
  ...catalogEntry('midnight-12k')!,
  id: 'tiny',
  source: {
    repository: 'lab/model',
    revision: 'c'.repeat(40),
    weights: [{ path: MODEL }, { path: 'pytorch_model.bin' }],
    companions: ['config.json', 'preprocessor_config.json'],
    access: 'open',
  },
  architecture: { ...catalogEntry('midnight-12k')!.architecture, depth: 1, width: 64, heads: 1, mlpHidden: 176 },
};

beforeAll(async () => {
  await writeRandomDinov2(temp('weights'), { depth: 1, width: 64 });
  weights = readFileSync(temp('weights', MODEL));
});
afterEach(async () => {
  while (hubs.length > 0) await hubs.pop()!.close();
});
afterAll(() => expect(hubs).toEqual([]));

async function hub(state: Parameters<typeof startHub>[0] = {}): Promise<TestHub> {
  const started = await startHub({ files: filesOf(temp('weights'), [MODEL, 'config.json']), ...state });
  hubs.push(started);
  return started;
}

/** A fault of the large file alone. */
const ofWeights =
  (fault: (asked: Asked) => Fault | null) =>
  (asked: Asked): Fault | null =>
    asked.path === MODEL ? fault(asked) : null;

let dirs = 0;
const pull = (from: TestHub | null, options: Partial<PullOptions> = {}, progress?: Parameters<typeof pullModel>[1]) =>
  pullModel(
    { entry: ENTRY, to: temp(`models-${dirs}`), env, patience, endpoint: from?.endpoint ?? null, ...options },
    progress,
  );
const freshDir = (): string => temp(`models-${++dirs}`);
const failure = (promise: Promise<unknown>): Promise<Record<string, unknown> & { message: string; next: string }> =>
  promise.then(
    () => expect.unreachable('it succeeded'),
    (error) => error,
  );
const gets = ({ log }: TestHub) => log.map(({ line }) => line).filter((line) => line.startsWith('GET cdn:'));

describe('model pull', () => {
  it('downloads, checks and converts a model, says where it is from, and leaves nothing else', async () => {
    const to = freshDir();
    const from = await hub();
    const told: string[] = [];
    const { dir, model, source, unchecked } = await pull(from, {}, ({ stage, file, done, total }) =>
      told.push(`${stage} ${file} ${done === total}`),
    );
    expect(source).toBe('hub');
    expect(unchecked).toEqual([]);
    expect(dir).toBe(join(to, 'tiny'));
    expect(readdirSync(to)).toEqual(['tiny']);
    expect(await verifyModelFiles(dir)).toEqual(model);
    expect(model).toMatchObject({
      id: 'tiny',
      name: 'tiny',
      licence: 'MIT',
      preprocessingFrom: 'catalog',
      weights: {
        file: MODEL,
        sha256: createHash('sha256').update(weights).digest('hex'),
        origin: { repository: 'lab/model', revision: 'c'.repeat(40) },
      },
    });
    expect(told).toContain(`download ${MODEL} true`);
    expect(told).toContain('convert null true');
  });

  it('does nothing where the model is there already, unless asked to replace it', async () => {
    freshDir();
    const from = await hub();
    const first = await pull(from);
    const asked = from.log.length;
    expect(await pull(from)).toEqual({ ...first, source: 'here' });
    expect(from.log).toHaveLength(asked);
    expect((await pull(from, { replace: true })).source).toBe('hub');
  });

  it('goes on where a killed download stopped, by a range', async () => {
    const to = freshDir();
    const from = await hub();
    const stop = new AbortController();
    const half = Math.floor(weights.length / 2);
    from.state.fault = ofWeights(() => ({ silentAfter: half }));
    const stopped = pull(from, { signal: stop.signal, patience: { retry: 1, silence: 60_000 } }, ({ file, done }) => {
      if (file === MODEL && done >= half) stop.abort();
    });
    await expect(stopped).rejects.toThrow();
    const parts = readdirSync(join(to, '.download-tiny')).filter((name) => name.endsWith('.part'));
    expect(parts).toHaveLength(1);
    from.state.fault = null;
    await pull(from);
    expect(gets(from)).toEqual([`GET cdn:${MODEL}`, `GET cdn:${MODEL} bytes=${half}-`]);
  });

  it('reconnects by itself: cut, silent, short, busy', async () => {
    freshDir();
    const from = await hub();
    const faults = [
      { cut: 9000 },
      { status: 503 },
      { silentAfter: 5000 },
      { status: 429, headers: { 'retry-after': '0' } },
    ];
    from.state.fault = ofWeights(() => faults.shift() ?? null);
    expect((await pull(from)).source).toBe('hub');
    expect(faults).toEqual([]);
    expect(gets(from)).toHaveLength(5);
    expect(gets(from).at(-1)).toBe(`GET cdn:${MODEL} bytes=14000-`);
  });

  it('starts anew where the server does not know ranges', async () => {
    freshDir();
    const from = await hub();
    from.state.fault = ofWeights(({ count }) => (count === 1 ? { cut: 9000 } : { ignoreRange: true }));
    expect((await pull(from)).source).toBe('hub');
  });

  it('does not mix two versions of a file', async () => {
    freshDir();
    const from = await hub();
    from.state.fault = ofWeights(({ count }) => (count === 1 ? { cut: 9000 } : { status: 503 }));
    const { code } = await failure(pull(from));
    expect(code).toBe('download-incomplete');
    await writeRandomDinov2(temp('newer'), { depth: 1, width: 64, seed: 2 });
    const newer = readFileSync(temp('newer', MODEL));
    from.state.files.set(MODEL, newer);
    from.state.fault = null;
    const { model } = await pull(from);
    expect(model.weights.sha256).toBe(createHash('sha256').update(newer).digest('hex'));
    expect(gets(from).at(-1)).toBe(`GET cdn:${MODEL}`);
  });

  it('takes a finished download again after a conversion that failed', async () => {
    const to = freshDir();
    const from = await hub();
    writeFileSync(temp('in-the-way'), '');
    mkdirSync(to);
    symlinkSync(temp('in-the-way'), join(to, 'tiny'));
    expect(await failure(pull(from))).toMatchObject({ code: 'out-not-writable' });
    unlinkSync(join(to, 'tiny'));
    await pull(from);
    expect(gets(from)).toHaveLength(1);
  });

  it('keeps the download where it is asked to', async () => {
    const to = freshDir();
    await pull(await hub(), { keepDownload: true });
    expect(readdirSync(join(to, '.download-tiny')).sort()).toEqual(['config.json', MODEL]);
  });
});

describe('a download that is wrong', () => {
  it('stays short: told with its numbers, kept, and gone on with later', async () => {
    const to = freshDir();
    const from = await hub();
    from.state.fault = ofWeights(() => ({ instead: weights.subarray(0, weights.length - 10) }));
    const error = await failure(pull(from));
    expect(error).toMatchObject({ code: 'download-incomplete', retry: true });
    expect(error.message).toContain(`of ${weights.length} bytes`);
    expect(existsSync(join(to, 'tiny'))).toBe(false);
    from.state.fault = null;
    expect((await pull(from)).source).toBe('hub');
  });

  it('has other bytes than its digest: removed', async () => {
    const to = freshDir();
    const from = await hub();
    const other = Buffer.from(weights);
    other[other.length - 1]! ^= 1;
    from.state.fault = ofWeights(() => ({ instead: other }));
    expect(await failure(pull(from))).toMatchObject({ code: 'download-digest' });
    expect(readdirSync(join(to, '.download-tiny'))).toEqual(['config.json']);
    from.state.fault = null;
    expect((await pull(from)).source).toBe('hub');
  });

  it('is longer than it should be', async () => {
    freshDir();
    const from = await hub();
    from.state.fault = ofWeights(() => ({ instead: Buffer.concat([weights, weights]) }));
    expect(await failure(pull(from))).toMatchObject({ code: 'download-digest' });
  });

  it('has a small file with another git digest', async () => {
    freshDir();
    const from = await hub();
    const config = from.state.files.get('config.json')!;
    from.state.fault = ({ path }) =>
      path === 'config.json' ? { instead: Buffer.from(config.toString().replace('64', '65')) } : null;
    expect(await failure(pull(from))).toMatchObject({ code: 'download-digest' });
    expect(gitSha1(Buffer.from('hello\n'))).toBe('ce013625030ba8dba906f756967f9e9ca394464a');
  });

  it('is not what the catalog pins: refused before it is downloaded', async () => {
    freshDir();
    const from = await hub();
    const source = { ...ENTRY.source, weights: [{ path: MODEL, sha256: 'a'.repeat(64) }] };
    const error = await failure(pull(from, { entry: { ...ENTRY, source } }));
    expect(error).toMatchObject({ code: 'weights-digest' });
    expect(gets(from)).toEqual([]);
  });
});

describe('a gated model', () => {
  const page = 'https://huggingface.co/lab/model';

  it('is refused without a token: the page to visit is named', async () => {
    freshDir();
    const error = await failure(pull(await hub({ gated: true })));
    expect(error).toMatchObject({ code: 'hub-access', exit: 4, message: expect.stringContaining('there is no token') });
    expect(error.next).toContain(page);
    expect(error.next).toContain('HF_TOKEN');
  });

  it('is refused to an account without access', async () => {
    freshDir();
    const from = await hub({ gated: true, tokens: ['hf_stranger'] });
    const error = await failure(pull(from, { env: { ...env, HF_TOKEN: 'hf_stranger' } }));
    expect(error).toMatchObject({ code: 'hub-access', message: expect.stringContaining('has no access') });
    expect(error.next).toContain(page);
    expect(JSON.stringify(error)).not.toContain('hf_stranger');
  });

  it('is given to an account with access, and the token goes nowhere else', async () => {
    freshDir();
    const from = await hub({ gated: true, tokens: ['hf_friend'], granted: ['hf_friend'] });
    expect((await pull(from, { env: { ...env, HF_TOKEN: 'hf_friend' } })).source).toBe('hub');
    const tokens = (where: RegExp) =>
      new Set(from.log.filter(({ line }) => where.test(line)).map((l) => l.authorization));
    expect(tokens(/ \//)).toEqual(new Set(['Bearer hf_friend']));
    expect(tokens(/ cdn:/)).toEqual(new Set([null]));
  });

  it('is told from a token that is not valid', async () => {
    freshDir();
    const error = await failure(pull(await hub(), { env: { ...env, HF_TOKEN: 'hf_old' } }));
    expect(error).toMatchObject({ code: 'hub-token', message: expect.stringContaining('Invalid credentials') });
  });
});

describe('the token', () => {
  const home = (token: string) => {
    const dir = temp(`home-${dirs++}`);
    mkdirSync(dir);
    writeFileSync(join(dir, 'token'), token);
    return dir;
  };

  it('is found where the tools of the hub keep it, the flag first', async () => {
    const HF_HOME = home(' hf_login\n');
    const file = join(home('hf_file'), 'token');
    expect(await findToken({ HF_HOME, HF_TOKEN: 'hf_env' }, file)).toBe('hf_file');
    expect(await findToken({ HF_HOME, HF_TOKEN: 'hf_env' })).toBe('hf_env');
    expect(await findToken({ HF_HOME, HUGGING_FACE_HUB_TOKEN: 'hf_old' })).toBe('hf_old');
    expect(await findToken({ HF_HOME, HF_TOKEN_PATH: file })).toBe('hf_file');
    expect(await findToken({ HF_HOME })).toBe('hf_login');
    expect(await findToken({ XDG_CACHE_HOME: temp('nothing') })).toBeNull();
    expect(await findToken({ HF_HOME, HF_HUB_DISABLE_IMPLICIT_TOKEN: '1' })).toBeNull();
  });

  it('is never shown, not even a broken one', async () => {
    const error = await failure(findToken({ HF_TOKEN: 'hf_two words' }));
    expect(error).toMatchObject({ code: 'hub-token' });
    expect(error.message).not.toContain('two');
    expect(await failure(findToken({}, temp('nowhere')))).toMatchObject({ code: 'hub-token' });
  });

  it('does not go over http to another machine', async () => {
    freshDir();
    const sent: (string | null)[] = [];
    const real = globalThis.fetch;
    globalThis.fetch = async (_, init) => {
      sent.push(new Headers(init?.headers).get('authorization'));
      return new Response(null, { status: 401, headers: { 'x-error-code': 'GatedRepo' } });
    };
    try {
      const options = { repository: 'lab/model', revision: 'main', token: 'hf_secret', page: 'https://page', patience };
      const ask = (endpoint: string) =>
        failure(connectHub({ ...options, endpoint }).locate(MODEL, new AbortController().signal));
      expect((await ask('http://mirror.example')).message).toContain('does not go over http');
      expect((await ask('https://mirror.example')).message).toContain('has no access');
      expect(sent).toEqual([null, 'Bearer hf_secret']);
    } finally {
      globalThis.fetch = real;
    }
  });
});

describe('what is not there', () => {
  it('is a repository, a revision, or every file of the weights', async () => {
    freshDir();
    const from = await hub({ tokens: ['hf_me'] });
    const me = { env: { ...env, HF_TOKEN: 'hf_me' } };
    const other = (source: object) => ({ entry: { ...ENTRY, source: { ...ENTRY.source, ...source } } });
    for (const [options, words] of [
      [{ ...me, ...other({ repository: 'lab/other' }) }, 'lab/other'],
      [other({ repository: 'lab/other' }), 'lab/other'],
      [other({ revision: 'd'.repeat(40) }), 'no revision dddd'],
      [other({ weights: [{ path: 'a.bin' }, { path: 'b.bin' }] }), 'no a.bin or b.bin'],
    ] as const) {
      const error = await failure(pull(from, options));
      expect(error).toMatchObject({ code: 'hub-not-found', exit: 4, message: expect.stringContaining(words) });
    }
  });

  it('is the second choice of weights only where the first is missing', async () => {
    freshDir();
    const from = await hub();
    from.state.files = new Map([
      ['pytorch_model.bin', weights],
      ['config.json', from.state.files.get('config.json')!],
    ]);
    expect((await pull(from)).model.weights.file).toBe('pytorch_model.bin');
  });

  it('is the network', async () => {
    freshDir();
    const gone = await startHub();
    await gone.close();
    const error = await failure(pull(gone));
    expect(error).toMatchObject({ code: 'hub-unreachable', exit: 5, message: expect.stringContaining('ECONNREFUSED') });
    expect(error.next).toContain('HTTPS_PROXY');
  });

  it('is forbidden by HF_HUB_OFFLINE', async () => {
    freshDir();
    const from = await hub();
    const error = await failure(pull(from, { env: { ...env, HF_HUB_OFFLINE: '1' } }));
    expect(error).toMatchObject({ code: 'hub-unreachable', next: expect.stringContaining('--from') });
    expect(from.log).toEqual([]);
  });

  it('is a model that was never published', async () => {
    freshDir();
    const entry = {
      ...ENTRY,
      source: { ...ENTRY.source, repository: null, weights: [], access: 'unpublished' as const },
    };
    expect(await failure(pull(null, { entry }))).toMatchObject({
      code: 'model-not-public',
      next: expect.stringContaining('--from'),
    });
    expect((await pull(null, { entry, from: temp('weights') })).source).toBe('copy');
  });

  it('is an endpoint', async () => {
    freshDir();
    for (const endpoint of ['huggingface.co', 'ftp://hub', 'https://me:secret@hub']) {
      const error = await failure(pull(null, { endpoint }));
      expect(error).toMatchObject({ code: 'usage' });
      expect(error.message).not.toContain('secret');
    }
  });
});

describe('other places', () => {
  it('are a mirror that states no digest: never mixed with an earlier download, and told', async () => {
    freshDir();
    const from = await hub({ plain: true });
    from.state.fault = ofWeights(({ count }) => (count === 1 ? { cut: 9000 } : { status: 503 }));
    const mirror = { env: { ...env, HF_ENDPOINT: `${from.endpoint}/` } };
    expect(await failure(pull(null, mirror))).toMatchObject({ code: 'download-incomplete' });
    from.state.fault = null;
    const asked = from.log.length;
    const { source, unchecked, model } = await pull(null, mirror);
    expect(source).toBe('hub');
    expect([...unchecked].sort()).toEqual(['config.json', MODEL]);
    expect(model.weights.sha256).toBe(createHash('sha256').update(weights).digest('hex'));
    expect(from.log.slice(asked).filter(({ line }) => line.includes('bytes='))).toEqual([]);
  });

  it('are the cache of the hub’s own tools, by its digests', async () => {
    freshDir();
    const HF_HOME = temp(`cache-${dirs}`);
    const folder = join(HF_HOME, 'hub/models--lab--model');
    const snapshot = join(folder, 'snapshots', 'c'.repeat(40));
    mkdirSync(snapshot, { recursive: true });
    mkdirSync(join(folder, 'blobs'));
    const sha256 = createHash('sha256').update(weights).digest('hex');
    writeFileSync(join(folder, 'blobs', sha256), weights);
    symlinkSync(`../../blobs/${sha256}`, join(snapshot, MODEL));
    const cached = { env: { HF_HOME, HF_HUB_OFFLINE: '1' } };
    expect(await pull(null, cached)).toMatchObject({
      source: 'cache',
      model: { weights: { sha256, origin: { repository: 'lab/model', revision: 'c'.repeat(40) } } },
    });
    freshDir();
    truncateSync(join(folder, 'blobs', sha256), weights.length - 4);
    expect(await failure(pull(null, cached))).toMatchObject({ code: 'weights-invalid' });
    const damaged = Buffer.from(weights);
    randomBytes(8).copy(damaged, damaged.length - 8);
    writeFileSync(join(folder, 'blobs', sha256), damaged);
    expect(await failure(pull(null, cached))).toMatchObject({ code: 'weights-digest' });
  });
});
