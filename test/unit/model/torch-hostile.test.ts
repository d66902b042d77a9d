import { fork } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openWeights } from '../../../packages/core/src/model/convert/read/open.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { f32 } from '../../fixtures/model/tensors.ts';
import {
  archive,
  type CentralFields,
  dict,
  legacy,
  type Py,
  parameter,
  tensor,
  type View,
  writeZip,
  type ZipEdits,
} from '../../fixtures/model/torch-file.ts';
import { describeShared, shared } from '../../fixtures/shared.ts';

const temp = tempDir();
const file = temp('hostile');
const data = Buffer.from(f32(0, 1, 2, 3, 4, 5));
const view = { key: '0', count: 6, shape: [6] };
const plain = dict({ a: tensor(view) });

async function refusal(path = file): Promise<{ code: string; message: string }> {
  const weights = await openWeights(path).catch((error) => error);
  if (weights instanceof Error) return weights as never;
  await weights.close();
  throw new Error('it was opened');
}

async function zipRefused(value: Py, code: string, ...words: string[]): Promise<void> {
  writeZip(file, archive(value, { '0': data }));
  const error = await refusal();
  expect(error).toMatchObject({ code });
  for (const word of words) expect(error.message).toContain(word);
}

const raw = (...parts: (string | Buffer)[]): Py => ({
  raw: Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part))),
});

describe('a pickle that asks for code', () => {
  const call = (global: string): Py => ({ reduce: [{ global }, { tuple: ['touch /tmp/owned'] }] });

  it.each([
    'os system',
    'posix system',
    'builtins eval',
    '__builtin__ exec',
    'subprocess Popen',
    'torch load',
    'torch._utils _rebuild_tensor_v3',
    'torch.storage _load_from_bytes',
    'numpy.core.multiarray scalar',
    'argparse Namespace',
    'collections OrderedDict.fromkeys',
    '__main__ FloatStorage',
  ])('is refused by the name: %s', async (global) => {
    await zipRefused(dict({ a: tensor(view), args: call(global) }), 'weights-refused', global.replace(' ', '.'));
    writeFileSync(file, legacy(dict({ args: call(global) }), {}));
    expect(await refusal()).toMatchObject({ code: 'weights-refused', data: { global: global.replace(' ', '.') } });
  });

  it('is refused where the name is mentioned and never called', async () => {
    await zipRefused(dict({ a: tensor(view), f: { global: 'os system' } }), 'weights-refused', 'os.system');
  });

  it('is refused before its tensors are looked for', async () => {
    writeZip(file, archive(dict({ a: tensor({ ...view, key: 'absent' }), f: call('os system') }), {}));
    expect(await refusal()).toMatchObject({ code: 'weights-refused' });
  });

  it('is refused in every way to spell a name', async () => {
    await zipRefused(raw('\x8c\x02os\x8c\x06system\x93'), 'weights-refused', 'os.system');
    await zipRefused(raw('(ios\nsystem\n'), 'weights-refused', 'os.system');
    await zipRefused(raw('(X\x02\0\0\0os', 'X\x06\0\0\0system', '\x93'), 'weights-refused', 'os.system');
  });

  it.each([
    ['a registered extension', '\x82\x01'],
    ['a persistent id as text', 'Pos.system\n'],
    ['an out-of-band buffer', '\x97'],
    ['an object', '(o'],
    ['a new object with keywords', '}}}\x92'],
    ['text that has to be evaluated', "S'os'\n"],
    ['an unknown instruction', '\xff'],
  ])('may not use %s', async (_, code) => {
    await zipRefused(raw(code), 'weights-invalid', 'is not one that weights need');
  });

  it('may call nothing but what makes tensors', async () => {
    const storage: Py = { global: 'torch FloatStorage' };
    await zipRefused({ reduce: [storage, { tuple: [6] }] }, 'weights-invalid', 'cannot be called');
    await zipRefused({ reduce: [plain, { tuple: [] }] }, 'weights-invalid', 'cannot be called');
    await zipRefused({ reduce: ['os.system', { tuple: ['ls'] }] }, 'weights-invalid', 'cannot be called');
    await zipRefused(raw('K\x01}b'), 'weights-invalid', 'attributes');
  });

  it('does not reach the terminal with control characters', async () => {
    await zipRefused({ global: 'os \x1b[2Jsystem' }, 'weights-refused', 'os.?[2Jsystem');
    await zipRefused(dict({ 'a\x1b[2J': tensor(view) }), 'weights-invalid', 'no name of a tensor');
  });
});

describe('a pickle that lies', () => {
  const changed = (change: Partial<View>) => dict({ a: tensor({ ...view, ...change }) });

  it.each([
    ['is longer than its storage', changed({ shape: [7] }), 'ends past its storage of 6'],
    ['begins past its storage', changed({ shape: [0], offset: 7 }), 'ends past its storage'],
    ['has strides past its storage', changed({ shape: [2, 2], strides: [5, 1] }), 'ends past its storage'],
    ['repeats one element for ever', changed({ shape: [2 ** 40], strides: [0] }), 'more than once'],
    ['overlaps itself', changed({ shape: [3, 3], strides: [1, 1] }), 'more than once'],
    ['has more strides than axes', changed({ shape: [6], strides: [1, 1] }), 'no sensible shape'],
    ['has a negative side', changed({ shape: [-1] }), 'no sensible shape'],
    ['has half a side', changed({ shape: [1.5] }), 'no sensible shape'],
    ['has a hundred axes', changed({ shape: Array(100).fill(1) }), '100 axes'],
    ['claims a larger storage than there is', changed({ count: 7 }), 'claims 28 bytes, the archive holds 24'],
    ['claims a smaller one', changed({ count: 5, shape: [5] }), 'claims 20 bytes, the archive holds 24'],
    ['is of another type than its storage', changed({ type: 'Half' }), 'claims 12 bytes, the archive holds 24'],
    ['has a storage that is not there', changed({ key: '1' }), 'storage 1 is not in the archive'],
    ['has a storage elsewhere', changed({ key: '../0' }), 'storage ../0 is not in the archive'],
  ])('about a tensor that %s', async (_, value, message) => {
    await zipRefused(value, 'weights-invalid', message);
  });

  it('about what it is', async () => {
    await zipRefused(dict({ epoch: 1 }), 'weights-invalid', 'no tensors');
    await zipRefused([tensor(view)], 'weights-invalid', 'not a dictionary');
    await zipRefused(parameter(3), 'weights-invalid', 'parameter without a tensor');
    await zipRefused(dict({ a: { persistent: { tuple: ['module', 'x'] } } }), 'weights-invalid', 'no known kind');
  });

  it('about two tensors of one name', async () => {
    const value = dict({ 'a.b': tensor(view), a: dict({ b: tensor(view) }) });
    await zipRefused(value, 'weights-invalid', 'two tensors are called a.b');
  });
});

describe('a pickle that is a bomb', () => {
  it('nests a hundred thousand lists, or dictionaries in themselves', async () => {
    await zipRefused(raw('('.repeat(1e5), ']'.repeat(1), 'l'.repeat(1e5)), 'weights-invalid', 'not a dictionary');
    const deep = raw('}X\x01\0\0\0a'.repeat(1e5), '}', 's'.repeat(1e5));
    await zipRefused(deep, 'weights-invalid', 'no tensors');
    await zipRefused(raw('}q\x00X\x01\0\0\0ah\x00s'), 'weights-invalid', 'no tensors');
  });

  it('makes more values than any checkpoint', async () => {
    await zipRefused(raw('}'.repeat(1_000_001)), 'weights-invalid', 'more than 1000000 values');
    await zipRefused(raw('N', '2'.repeat(1_000_001)), 'weights-invalid', 'more than 1000000 values');
  });

  it('doubles a list thirty times: what is shared is walked once', async () => {
    const twice = (i: number) =>
      `}q${String.fromCharCode(i + 1)}`.concat(
        `(X\x01\0\0\0ah${String.fromCharCode(i)}X\x01\0\0\0bh${String.fromCharCode(i)}u`,
      );
    await zipRefused(raw('}q\x00', ...Array.from({ length: 30 }, (_, i) => `0${twice(i)}`)), 'weights-invalid');
  });

  it('claims text or numbers longer than itself', async () => {
    for (const code of ['X\xff\xff\xff\xff', '\x8d\xff\xff\xff\xff\xff\xff\xff\xff', '\x8a\xff', 'B\xff\xff\xff\x7f']) {
      await zipRefused(raw(code), 'weights-invalid', 'ends in the middle of an instruction');
    }
  });

  it('is larger than any pickle of a checkpoint', async () => {
    writeZip(file, [{ name: 'archive/data.pkl', data: Buffer.alloc(0), hole: 17 << 20 }]);
    expect(await refusal()).toMatchObject({ code: 'weights-invalid', message: expect.stringContaining('17825792') });
  });
});

describe('a zip archive that lies', () => {
  const items = archive(plain, { '0': data });
  const refused = async (edits: ZipEdits, code: string, message: string, entries = items) => {
    for (const zip64 of [false, true]) {
      writeZip(file, entries, { zip64, ...edits });
      expect(await refusal()).toMatchObject({ code, message: expect.stringContaining(message) });
    }
  };
  const last = (change: Partial<CentralFields>): ZipEdits => ({
    entry: (entry, index) => {
      if (index === items.length - 1) Object.assign(entry, change);
    },
  });

  it('compresses, which could be a bomb', () =>
    refused(last({ method: 8, plain: 2 ** 31 }), 'weights-unsupported', 'compressed'));
  it('encrypts', () => refused(last({ flags: 1 }), 'weights-unsupported', 'encrypted'));
  it('gives two sizes to what is stored', () =>
    refused(last({ plain: 25 }), 'weights-invalid', 'claims 25 bytes of 24'));
  it('lets an entry run into the directory', () =>
    refused(last({ plain: 25, stored: 25 }), 'weights-invalid', 'runs into the directory'));
  it('lets entries overlap', () =>
    refused(
      { entry: (e, i) => i === 0 && Object.assign(e, { plain: e.plain + 9, stored: e.stored + 9 }) },
      'weights-invalid',
      'overlap',
    ));
  it('has one entry under two names', () =>
    refused({ entry: (e, i) => i === 2 && Object.assign(e, { header: 0 }) }, 'weights-invalid', 'do not agree'));
  it('has one name twice', () =>
    refused({}, 'weights-invalid', 'two zip entries are called archive/data/0', [...items, items[2]!]));
  it('puts an entry past the end', () => refused(last({ header: 2 ** 31 }), 'weights-invalid', 'truncated'));
  it('counts more entries than there are', () =>
    refused({ end: (end) => Object.assign(end, { count: end.count + 1 }) }, 'weights-invalid', 'broken at entry'));
  it('counts fewer entries than there are', () =>
    refused({ end: (end) => Object.assign(end, { count: end.count - 1 }) }, 'weights-invalid', 'are no entry'));
  it('claims a hundred thousand entries', () =>
    refused({ end: (end) => Object.assign(end, { count: 60_000 }) }, 'weights-invalid', '60000 entries'));
  it('has its directory past the end', () =>
    refused({ end: (end) => Object.assign(end, { position: 2 ** 31 }) }, 'weights-invalid', 'truncated'));
  it('holds something else, a program, or the numbers of another machine', async () => {
    await refused({}, 'weights-unsupported', 'not one of torch.save', [items[2]!]);
    const named = (name: string, text: string) => ({ name: `archive/${name}`, data: Buffer.from(text) });
    await refused({}, 'weights-unsupported', 'TorchScript', [...items, named('constants.pkl', '')]);
    await refused({}, 'weights-unsupported', 'little-endian', [items[0]!, named('byteorder', 'big'), items[2]!]);
  });
});

describe('a file of before 1.6 that lies', () => {
  const refused = async (bytes: Buffer, message: string) => {
    writeFileSync(file, bytes);
    expect(await refusal()).toMatchObject({ code: 'weights-invalid', message: expect.stringContaining(message) });
  };
  const good = legacy(plain, { '0': { count: 6, data } });

  it('has another count of elements than its pickle says', () =>
    refused(legacy(plain, { '0': { count: 5, data } }), 'has 5 elements, the pickle says 6'));
  it('has a count below zero', () => refused(legacy(plain, { '0': { count: -6, data } }), 'has -6 elements'));
  it('is cut', () => refused(good.subarray(0, -1), 'ends 1 bytes after the file'));
  it('goes on after its last storage', () => refused(Buffer.concat([good, data]), '24 bytes after the last storage'));
  it('lacks a storage', () => refused(legacy(plain, {}), 'storage 0 is not in the file'));
  it('has one that no tensor has', () =>
    refused(legacy(plain, { '0': { count: 6, data }, '1': { count: 6, data } }), 'one that no tensor has'));
  it('has one storage in two types', () => {
    const value = dict({ a: tensor(view), b: tensor({ ...view, type: 'Half' }) });
    return refused(legacy(value, { '0': { count: 6, data } }), 'storage 0 is two things');
  });
  it('has a part past the end of its storage', () => {
    const value = dict({ a: tensor({ ...view, shape: [1], part: { start: 5, count: 2 } }) });
    return refused(legacy(value, { '0': { count: 6, data } }), 'a part past its end');
  });
});

const FUZZ = join(import.meta.dirname, '../../fixtures/model/fuzz-weights.ts');

/** Opens mutations of a file in a process of its own. */
async function fuzz(path: string, plan: object) {
  const child = fork(FUZZ, [path, JSON.stringify(plan)], {
    execArgv: [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  // biome-ignore lint/suspicious/noExplicitAny: the report is read as it is
  return new Promise<any>((resolve, reject) => {
    child.on('message', resolve);
    child.on('exit', (code, signal) => reject(new Error(`the process ended with ${signal ?? code}`)));
  });
}

describe('a damaged checkpoint', { timeout: 120_000 }, () => {
  const rich = dict({
    state_dict: dict({
      'a.weight': tensor({ key: '0', count: 6, shape: [3, 2] }),
      'a.bias': parameter(tensor({ key: '0', count: 6, shape: [2, 3], strides: [1, 2] })),
      b: tensor({ type: 'Half', key: '1', count: 12, shape: [12] }),
    }),
    epoch: 3,
    rate: 0.5,
    big: 2 ** 40,
    betas: { tuple: [0.9, 0.999, null, true] },
  });
  const expectTyped = (report: {
    cases: number;
    opened: number;
    unexpected: string[];
    peakMiB: number;
    slowestCpuMs: number;
  }) => {
    expect(report.unexpected).toEqual([]);
    expect(report.cases - report.opened).toBeGreaterThan(report.cases / 4);
    expect(report.peakMiB).toBeLessThan(512);
    expect(report.slowestCpuMs).toBeLessThan(5000);
  };

  it('fails with a typed error wherever bytes of a zip archive flip', async () => {
    for (const zip64 of [false, true]) {
      writeZip(file, archive(rich, { '0': data, '1': data }), { zip64 });
      expectTyped(await fuzz(file, { flips: 1, seed: zip64 ? 1 : 2 }));
    }
  });

  it('fails with a typed error wherever bytes of a file of before 1.6 flip', async () => {
    writeFileSync(file, legacy(rich, { '0': { count: 6, data }, '1': { count: 12, data } }));
    expectTyped(await fuzz(file, { flips: 2, seed: 3 }));
  });

  it('fails with a typed error wherever it is cut', async () => {
    writeZip(file, archive(rich, { '0': data, '1': data }));
    expect(await fuzz(file, { cuts: 1 })).toMatchObject({ opened: 0, unexpected: [] });
    writeFileSync(file, legacy(rich, { '0': { count: 6, data }, '1': { count: 12, data } }));
    expect(await fuzz(file, { cuts: 1 })).toMatchObject({ opened: 0, unexpected: [] });
  });
});

describeShared('a damaged checkpoint of PyTorch itself', () => {
  it.each(['timm-uni/pytorch_model.bin', 'timm-lunit-s16/model_legacy.pth', 'dinov2-orig-train/lightning.ckpt'])(
    '%s: typed errors for cuts, and for flips in pickle and directory',
    async (name) => {
      writeFileSync(file, readFileSync(shared(`golden/${name}`)));
      const cut = await fuzz(file, { cuts: 49_999 });
      expect(cut).toMatchObject({ opened: 0, unexpected: [] });
      const ends = await fuzz(file, { flips: 1, head: 900, tail: 900, seed: 5, read: false });
      expect(ends.unexpected).toEqual([]);
      expect(ends.peakMiB).toBeLessThan(512);
    },
    120_000,
  );
});
