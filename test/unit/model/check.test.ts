import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { checkModel, requireFaithful } from '../../../packages/core/src/model/check.ts';
import { convertModel } from '../../../packages/core/src/model/convert/convert.ts';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import type { ModelInfo, Precision } from '../../../packages/core/src/model/encoder.ts';
import { openEncoder } from '../../../packages/core/src/model/onnx.ts';
import { compareVectors, probeTiles } from '../../../packages/core/src/model/probe.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { f32, rewriteTensorFile } from '../../fixtures/model/tensors.ts';

const temp = tempDir();
const PRECISIONS = ['fp32', 'fp16', 'int8'] as const;
const model = (precision: Precision) => temp(`model-${precision}`);

beforeAll(async () => {
  await writeRandomDinov2(temp('weights'), { depth: 2, width: 128, seed: 3 });
  for (const precision of PRECISIONS) await convertModel({ from: temp('weights'), to: model(precision), precision });
});

const infoOf = (dir: string): ModelInfo => JSON.parse(readFileSync(`${dir}/model.json`, 'utf8'));

async function check(dir: string, maxBatch = 4) {
  const encoder = await openEncoder({ dir, device: 'cpu', threads: 1, maxBatch });
  try {
    const refusal = await requireFaithful(encoder, dir).catch((error) => error);
    return { report: await checkModel(encoder, dir), refusal };
  } finally {
    await encoder.close();
  }
}

/** A model directory with other probe vectors, as if the machine computed others than the one that made it. */
function otherProbe(change: (vectors: Float32Array) => void): string {
  const dir = temp('other');
  rmSync(dir, { recursive: true, force: true });
  cpSync(model('fp32'), dir, { recursive: true });
  const path = `${dir}/probe.safetensors`;
  rewriteTensorFile(path, path, (tensors) => {
    const tensor = tensors.get('embedding')!;
    const vectors = new Float32Array(Uint8Array.from(tensor.data).buffer);
    change(vectors);
    tensors.set('embedding', { ...tensor, data: f32(...vectors) });
  });
  const bytes = readFileSync(path);
  const info = infoOf(dir);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const file = { name: 'probe.safetensors', bytes: bytes.length, sha256 };
  writeFileSync(`${dir}/model.json`, JSON.stringify({ ...info, probe: { ...info.probe, file } }));
  return dir;
}

describe('the probe of a model', () => {
  it('is of tiles that are the same everywhere and for ever', () => {
    const sha256 = (px: number) => createHash('sha256').update(probeTiles(px)).digest('hex').slice(0, 16);
    expect([sha256(224), sha256(392)]).toEqual(['963089f188686aa2', '1ce63c139621ec82']);
  });

  it('holds vectors of the float32 graph, whatever the precision of the model', () => {
    const probes = PRECISIONS.map((precision) => readFileSync(`${model(precision)}/probe.safetensors`));
    expect(probes[1]).toEqual(probes[0]);
    expect(probes[2]).toEqual(probes[0]);
    for (const precision of PRECISIONS) {
      expect(readdirSync(model(precision)).sort()).toEqual([
        'model.json',
        'model.onnx',
        'model.onnx.data',
        'probe.safetensors',
      ]);
    }
  });

  it('says in model.json how far the precision is from float32', () => {
    const [fp32, fp16, int8] = PRECISIONS.map((precision) => infoOf(model(precision)).probe!);
    expect(fp32).toMatchObject({ cosine: 1, maxError: 0, tiles: 1 });
    expect(fp16!.cosine).toBeGreaterThan(0.99999);
    expect(fp16!.cosine).toBeLessThan(1);
    expect(int8!.cosine).toBeGreaterThan(0.99);
    expect(int8!.cosine).toBeLessThan(fp16!.cosine);
  });

  it('may be left out, and model.json says so', async () => {
    const dir = temp('unprobed');
    const info = await convertModel({ from: temp('weights'), to: dir, probe: false });
    expect(info.probe).toBeNull();
    expect(infoOf(dir).probe).toBeNull();
    expect(info.digest).toBe(infoOf(model('fp32')).digest);
    expect(existsSync(`${dir}/probe.safetensors`)).toBe(false);
    expect(await check(dir)).toEqual({ report: null, refusal: undefined });
  });
});

describe('checking a model on a machine', () => {
  it.each(PRECISIONS)(
    'finds the vectors of %s within its tolerance, and as they were at conversion',
    async (precision) => {
      const { report, refusal } = await check(model(precision), 3);
      expect(refusal).toBeUndefined();
      const { cosine, maxError } = infoOf(model(precision)).probe!;
      expect(report).toMatchObject({
        ok: true,
        precision,
        device: 'cpu',
        tiles: 4,
        atConversion: { cosine, maxError },
      });
      expect(report).toMatchObject({ cosine, maxError });
    },
  );

  it('refuses a machine whose vectors are others, and says by how much', async () => {
    const dir = otherProbe((vectors) => {
      for (let i = 0; i < vectors.length; i += 2) vectors[i]! *= 1.01;
    });
    const { report, refusal } = await check(dir);
    expect(report).toMatchObject({ ok: false, tolerance: { cosine: 0.99999 } });
    expect(report!.cosine).toBeLessThan(0.99999);
    expect(refusal).toMatchObject({
      code: 'model-drift',
      exit: 4,
      message: expect.stringMatching(/cosine 0\.9999\d+ /),
    });
  });

  it('refuses one that is off in a single value', async () => {
    const { report } = await check(otherProbe((vectors) => (vectors[5]! += 0.05)));
    expect(report).toMatchObject({ ok: false });
    expect(report!.cosine).toBeGreaterThan(0.99999);
  });

  it('refuses vectors that are no numbers', async () => {
    const { report } = await check(otherProbe((vectors) => (vectors[0] = Number.NaN)));
    expect(report).toMatchObject({ ok: false });
  });

  it('believes only the probe file that model.json speaks of', async () => {
    const dir = temp('touched');
    cpSync(model('fp32'), dir, { recursive: true });
    const bytes = readFileSync(`${dir}/probe.safetensors`);
    bytes[bytes.length - 3]! ^= 1;
    writeFileSync(`${dir}/probe.safetensors`, bytes);
    const encoder = await openEncoder({ dir, device: 'cpu', threads: 1 });
    await expect(requireFaithful(encoder, dir)).rejects.toMatchObject({ code: 'model-digest' });
    await encoder.close();
  });
});

describe('weights that a precision does not suit', () => {
  const changed = (name: string, values: (old: Float32Array) => Float32Array) => {
    const file = temp('changed.safetensors');
    rewriteTensorFile(`${temp('weights')}/model.safetensors`, file, (tensors) => {
      const tensor = tensors.get(name)!;
      const data = values(new Float32Array(Uint8Array.from(tensor.data).buffer));
      tensors.set(name, { ...tensor, data: new Uint8Array(data.buffer) });
    });
    return { from: file, to: temp('never'), heads: 2 };
  };

  it('hold values beyond float16', async () => {
    const options = changed('encoder.layer.0.mlp.weights_in.weight', (old) => old.map((v, i) => (i === 7 ? 1e6 : v)));
    await expect(convertModel({ ...options, precision: 'fp16' })).rejects.toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining('1000000'),
    });
    expect(existsSync(temp('never'))).toBe(false);
  });

  it('give no numbers in any precision', async () => {
    const options = changed('layernorm.bias', (old) => old.map((v, i) => (i === 0 ? Number.NaN : v)));
    await expect(convertModel(options)).rejects.toMatchObject({ code: 'weights-invalid' });
    expect(existsSync(temp('never'))).toBe(false);
  });
});

describe('comparing vectors', () => {
  it('takes the worst of them, in cosine and in share of the largest value', () => {
    const reference = Float32Array.of(3, 4, 10, 0);
    const { cosine, maxError } = compareVectors(Float32Array.of(3, 4, 0, 10), reference, 2);
    expect(cosine).toBe(0);
    expect(maxError).toBe(1);
    expect(compareVectors(reference, reference, 2)).toEqual({ cosine: 1, maxError: 0 });
  });
});
