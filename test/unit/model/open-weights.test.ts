import { copyFileSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openWeights } from '../../../packages/core/src/model/convert/read/open.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { f32, headed, type TensorSpec, writeTensorFile } from '../../fixtures/model/tensors.ts';
import { archive, dict, tensor, writeLegacy, writeZip } from '../../fixtures/model/torch-file.ts';

const temp = tempDir();
let dirs = 0;
function directory(): string {
  const dir = temp(`dir-${dirs++}`);
  mkdirSync(dir);
  return dir;
}

const spec = (name: string, ...values: number[]): TensorSpec => ({
  name,
  dtype: 'F32',
  shape: [values.length],
  data: f32(...values),
});
const six = Buffer.from(f32(0, 1, 2, 3, 4, 5));
const torch = dict({ a: tensor({ key: '0', count: 6, shape: [6] }) });

async function names(path: string): Promise<string[]> {
  const weights = await openWeights(path);
  await weights.close();
  return [...weights.tensors.keys()];
}

describe('the format of a checkpoint', () => {
  it('is recognised by its first bytes, whatever it is called', async () => {
    const dir = directory();
    writeTensorFile(join(dir, 'weights.bin'), [spec('a', 1)]);
    writeZip(join(dir, 'weights.safetensors'), archive(torch, { '0': six }));
    writeLegacy(join(dir, 'weights'), torch, { '0': { count: 6, data: six } });
    for (const name of ['weights.bin', 'weights.safetensors', 'weights']) {
      expect(await names(join(dir, name)), name).toEqual(['a']);
    }
  });

  it.each([
    ['version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n', 'Git LFS pointer'],
    ['<!DOCTYPE html><html>', 'web page'],
    ['GGUF\x03\0\0\0', 'GGUF'],
    ['\x89HDF\r\n', 'HDF5'],
    ['\x1f\x8b\x08', 'gzip'],
    ['\x80\x04\x95', 'a pickle that torch.save did not write'],
    ['', 'empty'],
    ['weights', 'neither safetensors nor'],
  ])('is told where it is not one: %j', async (start, what) => {
    writeFileSync(temp('stranger'), start, 'latin1');
    await expect(openWeights(temp('stranger'))).rejects.toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining(what),
    });
  });

  it('leaves a lying header to the reader that knows it', async () => {
    writeFileSync(temp('lies'), Buffer.concat(headed('{}', 2 ** 40)));
    await expect(openWeights(temp('lies'))).rejects.toMatchObject({
      code: 'weights-invalid',
      message: expect.stringContaining(String(2 ** 40)),
    });
  });
});

describe('a directory', () => {
  it('holds safetensors before anything else, else the usual names, else the only checkpoint', async () => {
    const dir = directory();
    writeFileSync(join(dir, 'README.md'), '# weights');
    writeFileSync(join(dir, 'config.json'), '{}');
    writeLegacy(join(dir, 'vit.torch'), dict({ only: tensor({ key: '0', count: 6, shape: [6] }) }), {
      '0': { count: 6, data: six },
    });
    expect(await names(dir)).toEqual(['only']);
    writeZip(join(dir, 'pytorch_model.bin'), archive(torch, { '0': six }));
    expect(await names(dir)).toEqual(['a']);
    writeTensorFile(join(dir, 'model.safetensors'), [spec('first', 1)]);
    expect(await names(dir)).toEqual(['first']);
  });

  it('holds none, or several that could be meant', async () => {
    const dir = directory();
    writeFileSync(join(dir, 'notes.txt'), 'nothing');
    await expect(openWeights(dir)).rejects.toMatchObject({ code: 'weights-not-found' });
    writeTensorFile(join(dir, 'a.safetensors'), [spec('a', 1)]);
    writeTensorFile(join(dir, 'b.safetensors'), [spec('b', 1)]);
    await expect(openWeights(dir)).rejects.toMatchObject({
      code: 'weights-not-found',
      message: expect.stringContaining('2 checkpoints (a.safetensors, b.safetensors)'),
      next: 'Name the file itself.',
    });
  });
});

describe('a checkpoint in several files', () => {
  function sharded(change: (map: Record<string, string>) => void = () => {}): string {
    const dir = directory();
    writeTensorFile(join(dir, 'model-1.safetensors'), [spec('a', 1, 2), spec('b', 3)]);
    writeTensorFile(join(dir, 'model-2.safetensors'), [spec('c', 4)]);
    const map = { a: 'model-1.safetensors', b: 'model-1.safetensors', c: 'model-2.safetensors' };
    change(map);
    writeFileSync(join(dir, 'model.safetensors.index.json'), JSON.stringify({ metadata: {}, weight_map: map }));
    return dir;
  }
  const refused = async (dir: string, code: string, message: string) =>
    expect(openWeights(dir)).rejects.toMatchObject({ code, message: expect.stringContaining(message) });

  it('is one', async () => {
    const weights = await openWeights(sharded());
    expect([...weights.tensors.keys()]).toEqual(['a', 'b', 'c']);
    expect([...(await weights.read('a'))]).toEqual([1, 2]);
    expect([...(await weights.read('c'))]).toEqual([4]);
    let bytes = 0;
    const digest = await weights.digest((read) => {
      bytes += read;
    });
    expect(digest).toMatch(/^[0-9a-f]{64}$/);
    expect(bytes).toBe(weights.size);
    await weights.close();
  });

  it('has another digest where one of its files is another', async () => {
    const digest = async (dir: string) => {
      const weights = await openWeights(dir);
      const digest = await weights.digest(() => {});
      await weights.close();
      return digest;
    };
    const [one, same, other] = [sharded(), sharded(), sharded()];
    writeTensorFile(join(other, 'model-2.safetensors'), [spec('c', 5)]);
    expect(await digest(same)).toBe(await digest(one));
    expect(await digest(other)).not.toBe(await digest(one));
  });

  it('may be files of torch.save', async () => {
    const dir = directory();
    writeZip(join(dir, 'part-1.bin'), archive(torch, { '0': six }));
    const index = { weight_map: { a: 'part-1.bin' } };
    writeFileSync(join(dir, 'pytorch_model.bin.index.json'), JSON.stringify(index));
    expect(await names(dir)).toEqual(['a']);
  });

  it.each(['../model-1.safetensors', '/etc/passwd', 'a\\b', '..', '.hidden', 'a\nb', ''])(
    'may not name a file elsewhere: %j',
    async (name) =>
      refused(
        sharded((map) => Object.assign(map, { a: name })),
        'weights-invalid',
        'plain file name',
      ),
  );

  it('may not lie about what is where', async () => {
    const wrong = (change: object) => sharded((map) => Object.assign(map, change));
    await refused(wrong({ c: 'model-1.safetensors' }), 'weights-invalid', 'tensor c is not in model-1');
    await refused(wrong({ d: 'model-2.safetensors' }), 'weights-invalid', 'tensor d is not in model-2');
    await refused(
      sharded((map) => delete map.b),
      'weights-invalid',
      'holds tensor b',
    );
    await refused(wrong({ d: 'model-3.safetensors' }), 'weights-not-found', 'model-3.safetensors does not exist');
  });

  it('may not be an index of itself', async () => {
    const dir = sharded();
    const index = join(dir, 'model.safetensors.index.json');
    copyFileSync(index, join(dir, 'again.json'));
    const map = { ...JSON.parse(readFileSync(index, 'utf8')).weight_map, d: 'again.json' };
    writeFileSync(index, JSON.stringify({ weight_map: map }));
    await refused(dir, 'weights-unsupported', 'again.json is JSON');
  });

  it('is no index: other JSON', async () => {
    for (const text of ['{}', '{"weight_map": 3}', '{"weight_map": {"a": 1}}', '{ not json']) {
      writeFileSync(temp('index.json'), text);
      await refused(temp('index.json'), 'weights-invalid', 'not an index of weights');
    }
  });

  it('may be links, as a download cache keeps its files', async () => {
    const [real, linked] = [sharded(), directory()];
    for (const name of ['model-1.safetensors', 'model-2.safetensors', 'model.safetensors.index.json']) {
      symlinkSync(join(real, name), join(linked, name));
    }
    expect(await names(linked)).toEqual(['a', 'b', 'c']);
  });
});

describe('a file of safetensors', () => {
  it('may be larger than 4 GiB', async () => {
    const path = temp('large.safetensors');
    const gap = 4 * (2 ** 30 + 7);
    const header = {
      gap: { dtype: 'F32', shape: [2 ** 30 + 7], data_offsets: [0, gap] },
      a: { dtype: 'F32', shape: [6], data_offsets: [gap, gap + 24] },
    };
    const head = Buffer.concat(headed(JSON.stringify(header)));
    writeFileSync(path, head);
    const file = await open(path, 'r+');
    await file.write(six, 0, six.length, head.length + gap);
    await file.close();
    const weights = await openWeights(path);
    expect(weights.size).toBeGreaterThan(2 ** 32);
    expect([...(await weights.read('a'))]).toEqual([0, 1, 2, 3, 4, 5]);
    expect([...(await weights.read('gap', { from: 2 ** 30, to: 2 ** 30 + 2 }))]).toEqual([0, 0]);
    await weights.close();
  });

  it('may not name a tensor with control characters', async () => {
    writeTensorFile(temp('t'), [spec('a\x1b[2J', 1)]);
    await expect(openWeights(temp('t'))).rejects.toMatchObject({ code: 'weights-invalid' });
  });
});
