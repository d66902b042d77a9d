import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeRandomDinov2 } from '../../packages/core/src/model/convert/random-weights.ts';
import { readModel } from '../../packages/core/src/model/info.ts';
import { openEncoder } from '../../packages/core/src/model/onnx.ts';

/**
 * Midnight at full size with random weights (40 blocks, 1,536 wide): writes 4.5 GB of weights, converts them, loads the graph and
 * embeds. Needs 10 GB of disk and 6 GB of memory; takes minutes. `node test/bench/full-size.ts [depth] [fp32|fp16|int8]`
 */
const depth = Number(process.argv[2] ?? 40);
const precision = process.argv[3] ?? 'fp32';
const dir = mkdtempSync(join(tmpdir(), 'nightshift-full-size-'));
const gb = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
let last = performance.now();
const report = (what: string) => {
  console.log(`${((performance.now() - last) / 1000).toFixed(1).padStart(7)} s  ${what}`);
  last = performance.now();
};
const peakOf = async (pid: number) =>
  Number(/^VmHWM:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))![1]) * 1024;

try {
  const { bytes } = await writeRandomDinov2(join(dir, 'weights'), { depth, width: 1536 });
  report(`random weights written: ${gb(bytes)}`);

  const converter = join(import.meta.dirname, '../fixtures/model/convert.ts');
  const child = fork(converter, [join(dir, 'weights'), join(dir, 'model'), precision], { execArgv: [] });
  child.on('message', ({ what, value }: { what: string; value: number }) => {
    report(`converted in a process of its own: ${what} of resident memory ${gb(value)}`);
  });
  const [code] = await once(child, 'exit');
  if (code !== 0) throw new Error(`the conversion ended with ${code}`);
  const { architecture, dims, probe } = await readModel(join(dir, 'model'));
  report(`${architecture.parameters} parameters, ${architecture.gflopPerTile} GFLOP a tile, ${dims} numbers a vector`);
  if (probe !== null) report(`${precision} against fp32: cosine ${probe.cosine}, largest error ${probe.maxError}`);

  const encoder = await openEncoder({ dir: join(dir, 'model'), device: 'cpu' });
  report('loaded and verified');
  const tileBytes = 224 * 224 * 3;
  const tiles = new Uint8Array(encoder.maxBatch * tileBytes).map((_, i) => i * 7 + (i >> 9));
  const { embedding } = await encoder.embed(tiles.subarray(0, tileBytes), 1);
  const finite = embedding.every(Number.isFinite);
  report(`1 tile embedded, ${embedding.length} ${finite ? 'finite' : 'NOT FINITE'} numbers`);
  const batch = await encoder.embed(tiles, encoder.maxBatch);
  const same = embedding.every((value, i) => value === batch.embedding[i]);
  report(`${encoder.maxBatch} tiles embedded; the first is ${same ? 'the same, bit for bit' : 'NOT THE SAME'}`);
  console.log(
    `peak of the inference process ${gb(await peakOf(encoder.pid!))}, of this one ${gb(await peakOf(process.pid))}`,
  );
  await encoder.close();
} finally {
  rmSync(dir, { recursive: true, force: true });
}
