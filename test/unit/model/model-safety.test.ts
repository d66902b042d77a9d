import { fork } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { catalogEntry } from '../../../packages/core/src/model/catalog.ts';
import { convertModel } from '../../../packages/core/src/model/convert/convert.ts';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import { modelDigest } from '../../../packages/core/src/model/info.ts';
import { openEncoder } from '../../../packages/core/src/model/onnx.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { rewriteAsTorch } from '../../fixtures/model/torch-file.ts';

const temp = tempDir();
const CONVERT = join(import.meta.dirname, '../../fixtures/model/convert.ts');

describe('a model directory made by somebody else', () => {
  it('may not bring a graph that reads files outside the directory', async () => {
    await writeRandomDinov2(temp('weights'), { depth: 1, width: 64 });
    const info = await convertModel({ from: temp('weights'), to: temp('model'), probe: false });
    // As long as `model.onnx.data`, so that the lengths in the protobuf hold.
    const outside = '../x/model.data';
    mkdirSync(temp('x'));
    copyFileSync(temp('model/model.onnx.data'), temp('x/model.data'));
    const graph = readFileSync(temp('model/model.onnx'), 'latin1').replaceAll('model.onnx.data', outside);
    expect(graph).toContain(outside);
    writeFileSync(temp('model/model.onnx'), graph, 'latin1');
    const sha256 = createHash('sha256')
      .update(readFileSync(temp('model/model.onnx')))
      .digest('hex');
    const files = {
      ...info.files,
      graph: { ...info.files.graph, bytes: statSync(temp('model/model.onnx')).size, sha256 },
    };
    const digest = modelDigest(files.graph, files.data);
    writeFileSync(temp('model/model.json'), JSON.stringify({ ...info, files, digest }));
    const opened = await openEncoder({ dir: temp('model'), device: 'cpu' }).catch((error) => error);
    expect(opened).toMatchObject({ code: expect.stringMatching(/^(model-invalid|encoder-failed)$/) });
    expect(opened.message).toMatch(/outside|escape|external data/i);
  });
});

describe('weights of a known digest', () => {
  it('are those, or are not converted', async () => {
    await writeRandomDinov2(temp('known'), { depth: 1, width: 64 });
    const from = temp('known/model.safetensors');
    const sha256 = createHash('sha256').update(readFileSync(from)).digest('hex');
    const midnight = catalogEntry('midnight-12k')!;
    const entry = (pinned: string) => ({
      ...midnight,
      source: { ...midnight.source, weights: [{ path: 'model.safetensors', sha256: pinned }] },
      architecture: { ...midnight.architecture, depth: 1, width: 64, heads: 1, mlpHidden: 176 },
    });
    const convert = (options: object) => convertModel({ from, to: temp('known-model'), probe: false, ...options });
    expect((await convert({ entry: entry(sha256), sha256 })).weights).toMatchObject({
      sha256,
      prefix: '',
      origin: null,
    });
    for (const options of [{ entry: entry('0'.repeat(64)) }, { sha256: '0'.repeat(64) }]) {
      await expect(convert(options)).rejects.toMatchObject({
        code: 'weights-digest',
        message: expect.stringContaining(sha256),
      });
    }
  });
});

describe('memory', () => {
  it('stays far below the size of a PyTorch checkpoint', async () => {
    const { bytes } = await writeRandomDinov2(temp('wide'), { depth: 3, width: 1536 });
    rewriteAsTorch(temp('wide/model.safetensors'), temp('wide.bin'));
    const child = fork(CONVERT, [temp('wide.bin'), temp('wide-model')], { execArgv: [], stdio: 'ignore' });
    const growth = await new Promise<number>((resolve, reject) => {
      child.on(
        'message',
        (told: { what: string; value: number }) => told.what === 'peak growth' && resolve(told.value),
      );
      child.on('exit', (code) => reject(new Error(`the conversion ended with ${code}`)));
    });
    expect(bytes).toBeGreaterThan(340e6);
    expect(growth).toBeLessThan(bytes / 2);
  }, 120_000);
});
