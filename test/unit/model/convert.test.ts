import { type ChildProcess, execFile, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statfsSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import type { ConvertOptions } from '../../../packages/core/src/model/convert/convert.ts';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import { readModel, verifyModelFiles } from '../../../packages/core/src/model/info.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { f32, headed, rewriteTensorFile, type TensorSpec } from '../../fixtures/model/tensors.ts';
import { convertModel } from '../../fixtures/model/without-probe.ts';

const temp = tempDir();
const from = temp('weights');
const CONVERT = join(import.meta.dirname, '../../fixtures/model/convert.ts');

beforeAll(() => writeRandomDinov2(from, { depth: 2, width: 64 }));

const MODEL_FILES = ['model.json', 'model.onnx', 'model.onnx.data'];

describe('convertModel', () => {
  it('makes a model directory that says what it is', async () => {
    const info = await convertModel({ from, to: temp('a/b/model') });
    expect(readdirSync(temp('a/b/model')).sort()).toEqual(MODEL_FILES);
    expect(await verifyModelFiles(temp('a/b/model'))).toEqual(info);
    expect(info).toMatchObject({
      name: 'weights',
      id: null,
      trained: false,
      preprocessingFrom: 'assumed: as Midnight, whose layout this is',
      posInterpolation: expect.stringContaining('bicubic: '),
      embedding: 'cls+mean',
      dims: 128,
      patchGrid: null,
      precision: 'fp32',
      architecture: { depth: 2, width: 64, heads: 1, mlpHidden: 176, storedGrid: 37 },
    });
    expect(info.weights.sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it('gives the same bytes for the same file, whatever the directory', async () => {
    const [a, b] = [temp('same-a'), temp('same-b')];
    await convertModel({ from, to: a, name: 'same' });
    await convertModel({ from: join(from, 'model.safetensors'), to: b, name: 'same' });
    for (const file of MODEL_FILES) expect(readFileSync(join(a, file)).equals(readFileSync(join(b, file)))).toBe(true);
  });

  it('gives another digest for other weights', async () => {
    await writeRandomDinov2(temp('other'), { depth: 2, width: 64, seed: 2 });
    const a = await convertModel({ from, to: temp('digest-a') });
    const b = await convertModel({ from: temp('other'), to: temp('digest-b') });
    expect(a.digest).not.toBe(b.digest);
    expect(a.files.graph.sha256).toBe(b.files.graph.sha256);
  });

  it('aligns every tensor of the data file to a page', async () => {
    await convertModel({ from, to: temp('aligned') });
    const graph = readFileSync(temp('aligned/model.onnx'), 'latin1');
    const offsets = [...graph.matchAll(/offset..(\d+)/gs)].map((match) => Number(match[1]));
    expect(offsets.length).toBeGreaterThan(30);
    expect(offsets.filter((offset) => offset % 4096 !== 0)).toEqual([]);
  });

  it('tells its progress in bytes, up to the total', async () => {
    const told: [number, number][] = [];
    await convertModel({ from, to: temp('progress') }, (done, total) => told.push([done, total]));
    const [done, total] = told.at(-1)!;
    expect(done).toBe(total);
    expect(total).toBeGreaterThan(statSync(join(from, 'model.safetensors')).size);
    expect(told.map(([done]) => done)).toEqual(told.map(([done]) => done).sort((a, b) => a - b));
    expect(told.length).toBeGreaterThan(10);
  });

  it('takes options over the catalog over the files over the layout', async () => {
    const dir = temp('with-preprocessor');
    await writeRandomDinov2(dir, { depth: 1, width: 64 });
    const image = { image_mean: [0.1, 0.2, 0.3], image_std: [0.4, 0.5, 0.6] };
    const pre = { ...image, resample: 3, size: { shortest_edge: 256 }, crop_size: { height: 224, width: 224 } };
    writeFileSync(join(dir, 'preprocessor_config.json'), JSON.stringify(pre));
    expect(await convertModel({ from: dir, to: temp('chosen') })).toMatchObject({
      mean: [0.1, 0.2, 0.3],
      std: [0.4, 0.5, 0.6],
      inputPx: 224,
      resize: { shortEdge: 256, filter: 'bicubic' },
      preprocessingFrom: 'preprocessor_config.json',
    });
    const options = { mean: [0, 0, 0], std: [1, 1, 1], heads: 2, eps: 1e-5, inputPx: 392, embedding: 'cls' } as const;
    const rest = { name: 'mine', licence: 'MIT', mpp: 0.25, trained: true, patchGrid: true };
    expect(await convertModel({ from: dir, to: temp('chosen'), ...options, ...rest })).toMatchObject({
      mean: [0, 0, 0],
      std: [1, 1, 1],
      preprocessingFrom: 'options',
      inputPx: 392,
      embedding: 'cls',
      dims: 64,
      patchGrid: 28,
      architecture: { heads: 2, eps: 1e-5 },
      name: 'mine',
      licence: 'MIT',
      mpp: 0.25,
      trained: true,
    });
  });

  it('replaces another model, and nothing else', async () => {
    const to = temp('replaced');
    const before = await convertModel({ from, to });
    const after = await convertModel({ from, to, embedding: 'cls' });
    expect(after.digest).not.toBe(before.digest);
    expect((await readModel(to)).digest).toBe(after.digest);

    mkdirSync(temp('precious'));
    writeFileSync(temp('precious/thesis.txt'), 'years of work');
    await expect(convertModel({ from, to: temp('precious') })).rejects.toMatchObject({ code: 'out-not-writable' });
    expect(readFileSync(temp('precious/thesis.txt'), 'utf8')).toBe('years of work');
  });
});

describe('weights that are no such model', () => {
  const attempt = async (change: (tensors: Map<string, TensorSpec>) => void, options: Partial<ConvertOptions> = {}) => {
    const file = temp('changed.safetensors');
    rewriteTensorFile(join(from, 'model.safetensors'), file, change);
    const before = readdirSync(temp());
    const error = await convertModel({ from: file, to: temp('never'), ...options }).catch((error) => error);
    expect(readdirSync(temp())).toEqual(before);
    return error;
  };
  const reshape = (name: string, shape: number[]) => (tensors: Map<string, TensorSpec>) => {
    const data = new Uint8Array(shape.reduce((product, n) => product * n, 4));
    tensors.set(name, { name, dtype: 'F32', shape, data });
  };

  it.each([
    'encoder.layer.1.attention.attention.key.weight',
    'encoder.layer.0.mlp.weights_in.bias',
    'encoder.layer.1.norm2.weight',
    'encoder.layer.0.layer_scale2.lambda1',
    'encoder.layer.1.layer_scale1.lambda1',
    'embeddings.position_embeddings',
    'embeddings.cls_token',
    'layernorm.bias',
  ])('lacks %s', async (name) => {
    expect(await attempt((tensors) => tensors.delete(name))).toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining(`tensor ${name} is missing`),
    });
  });

  it('lacks a whole block', async () => {
    const error = await attempt((tensors) => {
      for (const [name, tensor] of [...tensors]) {
        if (!name.startsWith('encoder.layer.1.')) continue;
        tensors.delete(name);
        const moved = name.replace('layer.1.', 'layer.2.');
        tensors.set(moved, { ...tensor, name: moved });
      }
    });
    expect(error).toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining('encoder.layer.1.norm1.weight is missing'),
    });
  });

  it('holds a tensor that nobody knows', async () => {
    const extra = { name: 'encoder.layer.0.adapter.weight', dtype: 'F32', shape: [1], data: f32(1) };
    expect(await attempt((tensors) => tensors.set(extra.name, extra))).toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining(`tensor ${extra.name} is not part`),
    });
  });

  it.each([
    ['encoder.layer.0.attention.attention.query.weight', [64, 32], '[64, 64]'],
    ['encoder.layer.1.norm1.bias', [63], '[64]'],
    ['encoder.layer.0.mlp.weights_in.weight', [350, 64], '[176, 64]'],
    ['embeddings.cls_token', [1, 1, 32], '[1, 1, 64]'],
    ['embeddings.patch_embeddings.projection.weight', [64, 1, 14, 14], '[64, 3, 14, 14]'],
  ] as const)('has another shape for %s', async (name, shape, expected) => {
    const error = await attempt(reshape(name, [...shape]));
    expect(error).toMatchObject({ code: 'weights-unsupported' });
    expect(error.message).toContain(`tensor ${name} has the shape [${shape.join(', ')}], expected ${expected}`);
  });

  it('stores positions for no square grid', async () => {
    expect(await attempt(reshape('embeddings.position_embeddings', [1, 1369, 64]))).toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining('embeddings.position_embeddings'),
    });
  });

  it('has a layout that nobody knows', async () => {
    const error = await attempt((tensors) => {
      for (const [name, tensor] of [...tensors]) {
        tensors.delete(name);
        tensors.set(`net/${name}`, { ...tensor, name: `net/${name}` });
      }
    });
    expect(error).toMatchObject({ code: 'weights-unsupported', message: expect.stringContaining('no known layout') });
  });

  it('is truncated', async () => {
    const file = temp('truncated.safetensors');
    rewriteTensorFile(join(from, 'model.safetensors'), file, () => {});
    truncateSync(file, statSync(file).size - 1);
    await expect(convertModel({ from: file, to: temp('never') })).rejects.toMatchObject({
      code: 'weights-invalid',
      message: expect.stringContaining('tensor layernorm.bias'),
    });
  });

  it('is not there, or of an unknown kind', async () => {
    await expect(convertModel({ from: temp('nowhere'), to: temp('never') })).rejects.toMatchObject({
      code: 'weights-not-found',
    });
    mkdirSync(temp('empty'));
    await expect(convertModel({ from: temp('empty'), to: temp('never') })).rejects.toMatchObject({
      code: 'weights-not-found',
      message: expect.stringContaining('model.safetensors'),
    });
    writeFileSync(temp('x.gguf'), '');
    await expect(convertModel({ from: temp('x.gguf'), to: temp('never') })).rejects.toMatchObject({
      code: 'weights-unsupported',
    });
  });

  it('contradicts its config.json or the catalog entry', async () => {
    const dir = temp('contradiction');
    await writeRandomDinov2(dir, { depth: 1, width: 64 });
    await expect(convertModel({ from: dir, to: temp('never'), id: 'midnight-12k' })).rejects.toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining('depth 1, the catalog entry midnight-12k says 40'),
    });
    writeFileSync(join(dir, 'config.json'), JSON.stringify({ hidden_size: 128 }));
    await expect(convertModel({ from: dir, to: temp('never') })).rejects.toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining('width 64, config.json says 128'),
    });
    writeFileSync(join(dir, 'config.json'), '{"hidden_size": "wide"}');
    await expect(convertModel({ from: dir, to: temp('never') })).rejects.toMatchObject({
      code: 'weights-invalid',
      message: expect.stringContaining('hidden_size'),
    });
  });

  it.each([
    ['heads that do not divide the width', { heads: 5 }],
    ['an input that is no whole number of patches', { inputPx: 225 }],
    ['a mean without a std', { mean: [0, 0, 0] }],
    ['a std of zero', { mean: [0, 0, 0], std: [1, 0, 1] }],
    ['the patch grid as embedding', { embedding: 'patch' }],
  ] as const)('is asked for with %s', async (_, options) => {
    await expect(convertModel({ from, to: temp('never'), ...options })).rejects.toMatchObject({ code: 'usage' });
  });

  it('has a width that does not tell its heads, and no config.json', async () => {
    const dir = temp('headless');
    await writeRandomDinov2(dir, { depth: 1, width: 96, heads: 3 });
    const file = join(dir, 'weights-alone/model.safetensors');
    mkdirSync(join(dir, 'weights-alone'));
    rewriteTensorFile(join(dir, 'model.safetensors'), file, () => {});
    await expect(convertModel({ from: file, to: temp('never') })).rejects.toMatchObject({
      code: 'weights-unsupported',
      next: expect.stringContaining('--heads'),
    });
    expect(await convertModel({ from: file, to: temp('told'), heads: 3 })).toMatchObject({
      architecture: { heads: 3 },
    });
  });

  it('names an id that the catalog lacks', async () => {
    await expect(convertModel({ from, to: temp('never'), id: 'midday' })).rejects.toMatchObject({
      code: 'model-not-found',
      next: expect.stringContaining('midnight-12k'),
    });
  });
});

describe('a conversion that is stopped', () => {
  it('sees before it starts that the disk is too small', async () => {
    const { bavail, bsize } = statfsSync(temp());
    const hidden = Math.ceil((2 * bavail * bsize) / (3 * 64 * 4));
    const file = temp('huge.safetensors');
    writeHuge(file, hidden);
    const error = await convertModel({ from: file, to: temp('too-big') }).catch((error) => error);
    expect(error).toMatchObject({ code: 'disk-full', message: expect.stringContaining('bytes free') });
    expect(readdirSync(temp())).not.toContain('too-big');
  });

  it('meets a full disk while it writes, and leaves nothing', async () => {
    // A limit on the size of files stands in for the disk: the write fails in the same place.
    const script = `ulimit -f 100; exec "${process.execPath}" "${CONVERT}" "${from}" "${temp('limited/model')}"`;
    const { stdout } = await promisify(execFile)('bash', ['-c', script]);
    expect(JSON.parse(stdout)).toMatchObject({ code: 'disk-full' });
    expect(readdirSync(temp('limited'))).toEqual([]);
  });

  it('may not write there', async () => {
    writeFileSync(temp('a-file'), '');
    await expect(convertModel({ from, to: temp('a-file/model') })).rejects.toMatchObject({ code: 'out-not-writable' });
    await expect(convertModel({ from, to: temp('a-file') })).rejects.toMatchObject({ code: 'out-not-writable' });
  });

  it('is killed: no model is visible, and the next conversion removes what it left', async () => {
    mkdirSync(temp('killed'));
    const child = fork(CONVERT, [from, temp('killed/model'), 'fp32', 'stop-in-the-middle'], {
      execArgv: [],
      stdio: 'ignore',
    });
    await said(child, 'in the middle');
    child.kill('SIGKILL');
    await once(child, 'exit');
    const left = readdirSync(temp('killed'));
    expect(left).toEqual([expect.stringMatching(/^\.model\.converting-/)]);
    await convertModel({ from, to: temp('killed/model') });
    expect(readdirSync(temp('killed'))).toEqual(['model']);
  });

  it('leaves alone what another conversion is writing at this moment', async () => {
    mkdirSync(temp('busy'));
    const child = fork(CONVERT, [from, temp('busy/model'), 'fp32', 'stop-in-the-middle'], {
      execArgv: [],
      stdio: 'ignore',
    });
    await said(child, 'in the middle');
    const theirs = readdirSync(temp('busy'));
    await convertModel({ from, to: temp('busy/model') });
    expect(readdirSync(temp('busy')).sort()).toEqual([...theirs, 'model'].sort());
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
});

describe('memory', () => {
  it('stays far below the size of the weights', async () => {
    const dir = temp('wide');
    const { bytes } = await writeRandomDinov2(dir, { depth: 3, width: 1536 });
    const child = fork(CONVERT, [dir, temp('wide-model')], { execArgv: [], stdio: 'ignore' });
    const growth = Number(await said(child, 'peak growth'));
    expect(bytes).toBeGreaterThan(340e6);
    expect(growth).toBeLessThan(bytes / 2);
  });
});

async function said(child: ChildProcess, what: string): Promise<unknown> {
  for await (const [message] of on(child)) {
    if (message.what === what) return message.value;
  }
  throw new Error(`the child ended without saying: ${what}`);
}

async function* on(child: ChildProcess): AsyncGenerator<[{ what: string; value: unknown }]> {
  const messages: { what: string; value: unknown }[] = [];
  let wake = () => {};
  let ended = false;
  child.on('message', (message) => {
    messages.push(message as { what: string; value: unknown });
    wake();
  });
  child.on('exit', () => {
    ended = true;
    wake();
  });
  for (;;) {
    const next = messages.shift();
    if (next) yield [next];
    else if (ended) return;
    else {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  }
}

/** A sparse file whose header describes a one-block model with an MLP of `hidden`. */
function writeHuge(file: string, hidden: number): void {
  const weights = readFileSync(join(from, 'model.safetensors'));
  const header = JSON.parse(weights.toString('utf8', 8, 8 + Number(weights.readBigUInt64LE())));
  let end = 0;
  const entries: Record<string, unknown> = {};
  for (const [name, { shape }] of Object.entries<{ shape: number[] }>(header)) {
    if (name === '__metadata__' || name.includes('layer.1.')) continue;
    const sizes: Record<string, number> = { 352: 2 * hidden, 176: hidden };
    const grown = name.includes('.mlp.') ? shape.map((n) => sizes[n] ?? n) : shape;
    const begin = end;
    end += grown.reduce((product, n) => product * n, 4);
    entries[name] = { dtype: 'F32', shape: grown, data_offsets: [begin, end] };
  }
  const head = Buffer.concat(headed(JSON.stringify(entries)));
  writeFileSync(file, head);
  truncateSync(file, head.length + end);
}
