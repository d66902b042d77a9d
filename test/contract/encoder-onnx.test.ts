import { beforeAll } from 'vitest';
import { convertModel } from '../../packages/core/src/model/convert/convert.ts';
import { writeRandomDinov2 } from '../../packages/core/src/model/convert/random-weights.ts';
import { openEncoder } from '../../packages/core/src/model/onnx.ts';
import { tempDir } from '../fixtures/model/temp.ts';
import { encoderContract } from './encoder.ts';

const temp = tempDir();

beforeAll(async () => {
  await writeRandomDinov2(temp('weights'), { depth: 2, width: 128 });
  await convertModel({ from: temp('weights'), to: temp('model'), patchGrid: true });
});

for (const threads of [1, 3]) {
  encoderContract(`onnx on ${threads} threads`, () =>
    openEncoder({ dir: temp('model'), device: 'cpu', threads, maxBatch: 8 }),
  );
}
