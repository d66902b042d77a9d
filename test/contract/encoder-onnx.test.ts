import { beforeAll } from 'vitest';
import { writeRandomDinov2 } from '../../packages/core/src/model/convert/random-weights.ts';
import { openEncoder } from '../../packages/core/src/model/onnx.ts';
import { tempDir } from '../fixtures/model/temp.ts';
import { convertModel } from '../fixtures/model/without-probe.ts';
import { encoderContract } from './encoder.ts';

const temp = tempDir();

beforeAll(async () => {
  await writeRandomDinov2(temp('weights'), { depth: 2, width: 128 });
  for (const precision of ['fp32', 'fp16', 'int8'] as const) {
    await convertModel({ from: temp('weights'), to: temp(precision), precision, patchGrid: true });
  }
});

for (const [precision, threads] of [
  ['fp32', 1],
  ['fp32', 3],
  ['fp16', 3],
  ['int8', 3],
] as const) {
  encoderContract(`onnx, ${precision} on ${threads} threads`, () =>
    openEncoder({ dir: temp(precision), device: 'cpu', threads, maxBatch: 8 }),
  );
}
