import { createHash } from 'node:crypto';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openSafetensors } from '../../../packages/core/src/model/convert/read/safetensors.ts';
import { tempDir } from '../../fixtures/model/temp.ts';
import { f32, headed, type TensorSpec, u16, writeTensorFile } from '../../fixtures/model/tensors.ts';

const temp = tempDir();
const file = temp('t.safetensors');
const matrix: TensorSpec = { name: 'matrix', dtype: 'F32', shape: [3, 2], data: f32(1, 2, 3, 4, 5, 6) };
const vector: TensorSpec = { name: 'vector', dtype: 'F32', shape: [2], data: f32(7, 8) };

describe('safetensors reader', () => {
  it('gives names, shapes and float32 values', async () => {
    writeTensorFile(file, [matrix, vector]);
    const weights = await openSafetensors(file);
    expect([...weights.tensors.keys()]).toEqual(['matrix', 'vector']);
    expect(weights.tensors.get('matrix')).toMatchObject({ dtype: 'F32', shape: [3, 2] });
    expect([...(await weights.read('matrix'))]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...(await weights.read('vector'))]).toEqual([7, 8]);
    await weights.close();
  });

  it('reads some rows only', async () => {
    writeTensorFile(file, [vector, matrix]);
    const weights = await openSafetensors(file);
    expect([...(await weights.read('matrix', { from: 1, to: 3 }))]).toEqual([3, 4, 5, 6]);
    await weights.close();
  });

  it('widens float16 and bfloat16 exactly, subnormals and infinity included', async () => {
    writeTensorFile(file, [
      { name: 'half', dtype: 'F16', shape: [6], data: u16(0x3c00, 0xc000, 0x0001, 0x03ff, 0x7bff, 0xfc00) },
      { name: 'brain', dtype: 'BF16', shape: [3], data: u16(0x3f80, 0xc040, 0x0001) },
    ]);
    const weights = await openSafetensors(file);
    expect([...(await weights.read('half'))]).toEqual([1, -2, 2 ** -24, 1023 * 2 ** -24, 65504, -Infinity]);
    expect([...(await weights.read('brain'))]).toEqual([1, -3, 2 ** -133]);
    await weights.close();
  });

  it('reads a tensor at an offset that its type does not align with', async () => {
    writeTensorFile(file, [{ name: 'flag', dtype: 'U8', shape: [1], data: Uint8Array.of(1) }, vector]);
    const weights = await openSafetensors(file);
    expect([...(await weights.read('vector'))]).toEqual([7, 8]);
    await weights.close();
  });

  it('gives the sha256 of the file and tells how far it is', async () => {
    writeFileSync(file, Buffer.concat(headed('{}')));
    const weights = await openSafetensors(file);
    let read = 0;
    const digest = await weights.digest((bytes) => {
      read += bytes;
    });
    expect(digest).toBe(createHash('sha256').update(readFileSync(file)).digest('hex'));
    expect(read).toBe(weights.size);
    await weights.close();
  });
});

describe('a safetensors file that lies', () => {
  const refused = async (code: string, ...words: string[]) => {
    const error = await openSafetensors(file).then(
      () => null,
      (error) => error,
    );
    expect(error).toMatchObject({ code });
    for (const word of words) expect(error.message).toContain(word);
  };

  it('does not exist', async () => {
    await expect(openSafetensors(temp('absent.safetensors'))).rejects.toMatchObject({ code: 'weights-not-found' });
  });

  it('is shorter than a header length', async () => {
    writeFileSync(file, 'abc');
    await refused('weights-invalid', '3 bytes');
  });

  it('claims a header above the cap, before anything is allocated', async () => {
    writeFileSync(file, Buffer.concat(headed('{}', 2 ** 50)));
    await refused('weights-invalid', String(2 ** 50));
  });

  it('claims a header that runs past its end', async () => {
    writeFileSync(file, Buffer.concat(headed('{}', 1000)));
    await refused('weights-invalid', '1000 bytes');
  });

  it.each(['not json', '[]', '"text"'])('has the header %s', async (json) => {
    writeFileSync(file, Buffer.concat(headed(json)));
    await refused('weights-invalid', 'JSON');
  });

  it('is truncated: names the first tensor that is cut', async () => {
    writeTensorFile(file, [matrix, vector]);
    truncateSync(file, statSync(file).size - 5);
    await refused('weights-invalid', 'tensor vector', '5 bytes', 'truncated');
  });

  it('has bytes after the last tensor', async () => {
    writeTensorFile(file, [vector, { ...matrix, shape: [2, 2] }], (header) => {
      header.matrix!.data_offsets = [8, 24];
    });
    await refused('weights-invalid', '8 bytes after tensor matrix');
  });

  it('gives a tensor another number of bytes than its shape takes', async () => {
    writeTensorFile(file, [matrix], (header) => {
      header.matrix!.shape = [3, 3];
    });
    await refused('weights-invalid', 'tensor matrix', 'takes 36 bytes', '24');
  });

  it('lets two tensors overlap', async () => {
    writeTensorFile(file, [matrix, vector], (header) => {
      header.vector!.data_offsets = [20, 28];
    });
    await refused('weights-invalid', 'tensor vector overlaps tensor matrix');
  });

  it('leaves a hole between tensors', async () => {
    writeTensorFile(file, [matrix, vector], (header) => {
      header.vector!.data_offsets = [28, 36];
    });
    await refused('weights-invalid', '4 bytes between tensor matrix and tensor vector');
  });

  it.each([
    ['negative', [-8, 0]],
    ['fractional', [0, 23.5]],
    ['three', [0, 8, 24]],
    ['text', ['0', '24']],
  ])('has %s offsets', async (_, offsets) => {
    writeTensorFile(file, [matrix], (header) => {
      header.matrix!.data_offsets = offsets as [number, number];
    });
    await refused('weights-invalid', 'tensor matrix');
  });

  it('overflows with its shape', async () => {
    writeTensorFile(file, [matrix], (header) => {
      header.matrix!.shape = [2 ** 40, 2 ** 40];
    });
    await refused('weights-invalid', 'tensor matrix');
  });

  it.each(['F4', 'constructor'])('has the dtype %s', async (dtype) => {
    writeTensorFile(file, [{ ...matrix, dtype }]);
    await refused('weights-unsupported', 'tensor matrix', dtype);
  });

  it('holds a tensor of integers where weights are asked for', async () => {
    writeTensorFile(file, [{ ...vector, dtype: 'I32' }]);
    const weights = await openSafetensors(file);
    await expect(weights.read('vector')).rejects.toMatchObject({
      code: 'weights-unsupported',
      message: expect.stringContaining('tensor vector is I32'),
    });
    await weights.close();
  });

  it('loses its end after it was opened', async () => {
    writeTensorFile(file, [matrix, vector]);
    const weights = await openSafetensors(file);
    truncateSync(file, 100);
    await expect(weights.read('vector')).rejects.toMatchObject({
      code: 'weights-invalid',
      message: expect.stringContaining('tensor vector'),
    });
    await weights.close();
  });
});
