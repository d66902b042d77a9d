import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { writeRandomDinov2 } from '../../../packages/core/src/model/convert/random-weights.ts';
import { findModel, listModels } from '../../../packages/core/src/model/find.ts';
import { readModel, verifyModelFiles } from '../../../packages/core/src/model/info.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { convertModel } from '../../fixtures/model/without-probe.ts';

const temp = tempDir();
const first = temp('first');
const second = temp('second');

beforeAll(async () => {
  await writeRandomDinov2(temp('weights'), { depth: 1, width: 64 });
  await convertModel({ from: temp('weights'), to: join(second, 'b'), name: 'random' });
  await convertModel({ from: temp('weights'), to: join(second, 'a'), name: 'another' });
  mkdirSync(join(first, 'not-a-model'), { recursive: true });
  mkdirSync(join(first, 'broken'));
  writeFileSync(join(first, 'broken/model.json'), '{');
});

describe('findModel', () => {
  it('takes a model directory', async () => {
    const { dir, info } = await findModel(join(second, 'a'), []);
    expect(dir).toBe(join(second, 'a'));
    expect(info).toEqual(await readModel(dir));
  });

  it('looks a directory name up, then a model name, in each search directory in turn', async () => {
    expect((await findModel('b', [temp('nowhere'), first, second])).dir).toBe(join(second, 'b'));
    expect((await findModel('another', [first, second])).dir).toBe(join(second, 'a'));
    cpSync(join(second, 'a'), join(first, 'copy'), { recursive: true });
    expect((await findModel('another', [first, second])).dir).toBe(join(first, 'copy'));
    rmSync(join(first, 'copy'), { recursive: true });
  });

  it('tells where it looked', async () => {
    await expect(findModel('nothing', [first, second])).rejects.toMatchObject({
      code: 'model-not-found',
      message: `--model nothing is no directory, and not in ${first}, ${second}`,
    });
    await expect(findModel(join(first, 'not-a-model'), [])).rejects.toMatchObject({
      code: 'model-not-found',
      message: expect.stringContaining('has no model.json'),
    });
  });

  it('tells how to get a model of the catalog', async () => {
    const error = await findModel('midnight-12k', [first]).catch((error) => error);
    expect(error.code).toBe('model-not-found');
    expect(error.next).toContain('nightshift model pull midnight-12k');
    const unpublished = await findModel('midnight-92k', [first]).catch((error) => error);
    expect(unpublished.next).toContain('nightshift model convert <file> --id midnight-92k');
  });

  it('does not pass over a broken model that was named', async () => {
    await expect(findModel('broken', [first])).rejects.toMatchObject({ code: 'model-invalid' });
  });
});

describe('listModels', () => {
  it('gives the models of every directory, and passes over what is none', async () => {
    const found = await listModels([first, temp('nowhere'), second]);
    expect(found.map(({ dir, info }) => [dir, info.name])).toEqual([
      [join(second, 'a'), 'another'],
      [join(second, 'b'), 'random'],
    ]);
  });
});

describe('model.json', () => {
  const edited = async (edit: (json: Record<string, unknown>) => void) => {
    const dir = temp('edited');
    rmSync(dir, { recursive: true, force: true });
    cpSync(join(second, 'a'), dir, { recursive: true });
    const json = JSON.parse(readFileSync(join(dir, 'model.json'), 'utf8'));
    edit(json);
    writeFileSync(join(dir, 'model.json'), JSON.stringify(json));
    return verifyModelFiles(dir).catch((error) => error);
  };

  it('is checked field by field, and the field is named', async () => {
    const error = await edited((json) => {
      json.inputPx = 'large';
    });
    expect(error).toMatchObject({ code: 'model-invalid', message: expect.stringContaining('inputPx') });
  });

  it('may not point outside its directory', async () => {
    const error = await edited((json) => {
      (json.files as { data: { name: string } }).data.name = '../a/model.onnx.data';
    });
    expect(error).toMatchObject({ code: 'model-invalid', message: expect.stringContaining('files.data.name') });
  });

  it('may not claim another digest than that of its files', async () => {
    const error = await edited((json) => {
      json.digest = 'f'.repeat(64);
    });
    expect(error).toMatchObject({ code: 'model-digest' });
  });

  it('may not miss a file', async () => {
    const error = await edited(() => rmSync(temp('edited/model.onnx')));
    expect(error).toMatchObject({ code: 'model-invalid', message: expect.stringContaining('ENOENT') });
  });
});
