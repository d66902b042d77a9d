import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openWeights } from '../../../packages/core/src/model/convert/read/open.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { f32, u16 } from '../../fixtures/model/tensors.ts';
import { archive, dict, type Py, parameter, tensor, writeLegacy, writeZip } from '../../fixtures/model/torch-file.ts';

const temp = tempDir();
const file = temp('weights');
const floats = (...values: number[]) => Buffer.from(f32(...values));
const six = floats(0, 1, 2, 3, 4, 5);

/** Every tensor of a checkpoint, as nested text: `name: [shape] values`. */
async function contents(path = file): Promise<Record<string, { shape: readonly number[]; values: number[] }>> {
  const weights = await openWeights(path);
  const all: Record<string, { shape: readonly number[]; values: number[] }> = {};
  for (const [name, { shape }] of weights.tensors) all[name] = { shape, values: [...(await weights.read(name))] };
  await weights.close();
  return all;
}

type Stored = Readonly<Record<string, { count: number; data: Buffer }>>;
const bytesOf = (storages: Stored) =>
  Object.fromEntries(Object.entries(storages).map(([key, { data }]) => [key, data]));

describe.each([
  ['a zip archive', (value: Py, storages: Stored) => void writeZip(file, archive(value, bytesOf(storages)))],
  ['a file of before 1.6', (value: Py, storages: Stored) => writeLegacy(file, value, storages)],
])('PyTorch checkpoint: %s', (_, write) => {
  it('gives names, shapes and values', async () => {
    const storages = { '0': { count: 6, data: six }, '1': { count: 1, data: floats(7) } };
    const a = tensor({ key: '0', count: 6, shape: [3, 2] });
    write(dict({ a, b: parameter(tensor({ key: '1', count: 1, shape: [] })) }), storages);
    expect(await contents()).toEqual({
      a: { shape: [3, 2], values: [0, 1, 2, 3, 4, 5] },
      b: { shape: [], values: [7] },
    });
  });

  it('widens float16 and bfloat16', async () => {
    const half = tensor({ type: 'Half', key: 'h', count: 3, shape: [3] });
    const brain = tensor({ type: 'BFloat16', key: 'b', count: 2, shape: [2] });
    write(dict({ half, brain }), {
      h: { count: 3, data: Buffer.from(u16(0x3c00, 0x0001, 0xfc00)) },
      b: { count: 2, data: Buffer.from(u16(0x3f80, 0xc040)) },
    });
    expect(await contents()).toMatchObject({
      half: { values: [1, 2 ** -24, -Infinity] },
      brain: { values: [1, -3] },
    });
  });

  it('reads views of one storage: offsets, transposed, every other element, some rows', async () => {
    const view = (shape: number[], strides: number[], offset = 0) =>
      tensor({ key: '0', count: 6, shape, strides, offset });
    write(
      dict({
        tail: view([2], [1], 4),
        transposed: view([2, 3], [1, 2]),
        stepped: view([3], [2], 1),
        column: view([1, 3, 1], [9, 2, 7], 1),
        empty: view([0, 4], [4, 1]),
      }),
      { '0': { count: 6, data: six } },
    );
    expect(await contents()).toEqual({
      tail: { shape: [2], values: [4, 5] },
      transposed: { shape: [2, 3], values: [0, 2, 4, 1, 3, 5] },
      stepped: { shape: [3], values: [1, 3, 5] },
      column: { shape: [1, 3, 1], values: [1, 3, 5] },
      empty: { shape: [0, 4], values: [] },
    });
    const weights = await openWeights(file);
    expect([...(await weights.read('transposed', { from: 1, to: 2 }))]).toEqual([1, 3, 5]);
    await weights.close();
  });

  it('reads a transposed tensor that is larger than what is read at once', async () => {
    const [rows, columns] = [3, 1 << 20];
    const values = Float32Array.from({ length: rows * columns }, (_, i) => i % 8191);
    const view = tensor({ key: '0', count: values.length, shape: [columns, rows], strides: [1, columns] });
    write(dict({ view }), { '0': { count: values.length, data: Buffer.from(values.buffer) } });
    const weights = await openWeights(file);
    const read = await weights.read('view');
    await weights.close();
    let wrong = 0;
    for (let i = 0; i < columns; i++) {
      for (let j = 0; j < rows; j++) if (read[i * rows + j] !== values[j * columns + i]) wrong++;
    }
    expect(wrong).toBe(0);
  });

  it('joins the names of nested dictionaries, and passes over what is no tensor', async () => {
    const leaf = (i: number) => tensor({ key: '0', count: 6, shape: [1], offset: i });
    const shared = dict({ w: leaf(2) });
    write(
      dict({
        epoch: 3,
        lr: 1e-4,
        big: 2 ** 40,
        note: 'tiny é',
        flags: [true, null, { tuple: [1, 2, 3, 4] }],
        model: dict({ teacher: dict({ 'backbone.w': leaf(1) }), 'ema.w': leaf(0) }),
        state: shared,
        optimizer: new Map<Py, Py>([[0, dict({ step: leaf(3) })]]),
      }),
      { '0': { count: 6, data: six } },
    );
    expect(await contents()).toEqual({
      'model.ema.w': { shape: [1], values: [0] },
      'state.w': { shape: [1], values: [2] },
      'model.teacher.backbone.w': { shape: [1], values: [1] },
    });
  });

  it('gives the sha256 of the file', async () => {
    write(dict({ a: tensor({ key: '0', count: 6, shape: [6] }) }), { '0': { count: 6, data: six } });
    const weights = await openWeights(file);
    const expected = createHash('sha256').update(readFileSync(file)).digest('hex');
    expect(await weights.digest(() => {})).toBe(expected);
    await weights.close();
  });

  it('refuses to read integers as weights, and still gives the rest', async () => {
    const steps = tensor({ type: 'Long', key: 'n', count: 1, shape: [1] });
    write(dict({ steps, a: tensor({ key: '0', count: 6, shape: [6] }) }), {
      n: { count: 1, data: Buffer.alloc(8) },
      '0': { count: 6, data: six },
    });
    const weights = await openWeights(file);
    await expect(weights.read('steps')).rejects.toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining('tensor steps is I64'),
    });
    expect([...(await weights.read('a'))]).toEqual([0, 1, 2, 3, 4, 5]);
    await weights.close();
  });
});

describe('a zip archive', () => {
  const value = dict({ a: tensor({ key: '0', count: 6, shape: [6] }) });

  it('may be ZIP64, and may carry a comment', async () => {
    for (const edits of [{ zip64: true }, { comment: 'PK\x05\x06 is not its end' }, { zip64: true, comment: 'x' }]) {
      writeZip(file, archive(value, { '0': six }), edits);
      expect((await contents()).a!.values).toEqual([0, 1, 2, 3, 4, 5]);
    }
  });

  it('may be larger than 4 GiB', async () => {
    const far = dict({
      a: tensor({ key: '0', count: 2 ** 30 + 256, shape: [2], offset: 2 ** 30 + 254 }),
      b: tensor({ key: '1', count: 6, shape: [6] }),
    });
    const items = archive(far, { '0': Buffer.alloc(0), '1': six });
    const gap = { ...items[2]!, hole: 4 * (2 ** 30 + 256) };
    writeZip(file, [items[0]!, items[1]!, gap, items[3]!], { zip64: true });
    const weights = await openWeights(file);
    expect(weights.size).toBeGreaterThan(2 ** 32);
    expect([...(await weights.read('b'))]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...(await weights.read('a'))]).toEqual([0, 0]);
    await weights.close();
  });
});

describe('a file of before 1.6', () => {
  it('may store a part of a storage', async () => {
    const part = { start: 2, count: 3 };
    const value = dict({ a: tensor({ key: '0', count: 6, shape: [2], offset: 1, part }) });
    writeLegacy(file, value, { '0': { count: 6, data: six } });
    expect((await contents()).a!.values).toEqual([3, 4]);
  });
});
