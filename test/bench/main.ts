import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * `npm run bench [decode] [jpeg] [pipeline] [memory] [scaling] [--write]`: measures, compares each ratio with the stored baseline, and fails when one
 * is worse by more than the noise of these machines. `--write` stores the new ratios.
 */
const BASELINE = join(import.meta.dirname, 'baseline.json');
/** A ratio may be this much worse than the baseline. */
const NOISE = 0.15;

interface Figure {
  readonly name: string;
  readonly ratio: number;
  /** +1: more is better; -1: less is. */
  readonly better: 1 | -1;
  readonly aim: string;
  readonly detail: string;
}

const slides = join(import.meta.dirname, '../../../shared/slides');
const cmu = join(slides, 'CMU-1-Small-Region.svs');
const mosaic = join(slides, 'derived/cmu-mosaic-16x12.svs');
const bigMosaic = join(slides, 'derived/cmu-mosaic-48x36-big.svs');
if (!existsSync(cmu)) {
  console.error('skipped: the benchmarks need the slides of ../shared beside the checkout');
  process.exit(0);
}

// Each loads its own program when it is run: in a process that holds all of them V8 collects garbage once a second, 40 ms of CPU time each,
// which is a tenth of what `decode` measures.
const benches: Record<string, () => Promise<Figure[]>> = {
  async decode() {
    const { benchDecode } = await import('./decode.ts');
    const result = await benchDecode();
    return (result?.slides ?? []).map(({ slide, aim, ours, openSlide, ratio }) => ({
      name: `decode ${slide}`,
      ratio,
      better: 1 as const,
      aim,
      detail: `${ours.toFixed(0)} against ${openSlide.toFixed(0)} tiles of 224 per CPU-second (OpenSlide)`,
    }));
  },
  async jpeg() {
    const { benchJpeg } = await import('./jpeg.ts');
    return ((await benchJpeg()) ?? []).map(({ slide, blocks, native, wasm }) => ({
      name: `jpeg ${slide}`,
      ratio: native,
      better: 1 as const,
      aim: 'about 1 or more',
      detail: `pixels a second over libjpeg-turbo's, and ${wasm.toFixed(1)} times its WebAssembly's (${blocks} blocks)`,
    }));
  },
  async pipeline() {
    const { benchPipeline } = await import('./pipeline.ts');
    const { ratio, pipelineTilesPerSecond, encoderTilesPerSecond } = await benchPipeline(mosaic);
    const detail = `${pipelineTilesPerSecond.toFixed(1)} against ${encoderTilesPerSecond.toFixed(1)} tiles/s (encoder alone)`;
    return [{ name: 'pipeline efficiency', ratio, better: 1, aim: '0.95 or more', detail }];
  },
  async scaling() {
    const { benchScaling } = await import('./scaling.ts');
    const { steps, cores, latencyMs, load, coresCarry } = await benchScaling(mosaic);
    console.log(
      `scaling: ${cores} cores, load ${load.toFixed(1)} before; a worker takes ${steps[0].cpuShare.toFixed(3)} cores at ` +
        `${latencyMs} ms a batch of 8, so that the cores stop at about ${coresCarry} workers`,
    );
    return steps.slice(1).map(({ workers, ratio, tilesPerSecond, cpuShare }) => ({
      name: `scaling, ${workers} workers`,
      ratio,
      better: 1 as const,
      aim: '0.95 or more a worker',
      detail: `${tilesPerSecond.toFixed(1)} tiles/s by all, ${steps[0].tilesPerSecond.toFixed(1)} by one alone; ${cpuShare.toFixed(3)} cores a worker`,
    }));
  },
  async memory() {
    const { benchMemory } = await import('./memory.ts');
    const { small, large, huge } = await benchMemory(cmu, mosaic, bigMosaic);
    const figure = (name: string, over: number, under: number, what: string): Figure => ({
      name,
      ratio: over / under,
      better: -1,
      aim: 'flat',
      detail: `${over.toFixed(0)} against ${under.toFixed(0)} MiB (${what})`,
    });
    return [
      figure('peak memory, 34,560 px slide', large, small, 'the 2,220 px slide, whose 50 tiles fill no buffer'),
      figure('peak memory, 103,680 px slide', huge, large, 'the 34,560 px slide, as many tiles'),
    ];
  },
};

const asked = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const unknown = asked.find((name) => !(name in benches));
if (unknown) {
  console.error(`no benchmark ${unknown}; there are ${Object.keys(benches).join(', ')}`);
  process.exit(2);
}
const baseline = JSON.parse(await readFile(BASELINE, 'utf8').catch(() => '{}')) as Record<string, number>;
let worse = 0;
for (const name of asked.length > 0 ? asked : Object.keys(benches)) {
  for (const figure of await benches[name]!()) {
    const before = baseline[figure.name];
    const change = before === undefined ? 0 : figure.better * (figure.ratio / before - 1);
    const verdict = before === undefined ? 'no baseline' : `baseline ${before.toFixed(2)}`;
    if (change < -NOISE) worse += 1;
    console.log(`${figure.name}: ratio ${figure.ratio.toFixed(2)} (aim ${figure.aim}; ${verdict}) - ${figure.detail}`);
    if (change < -NOISE) console.log(`  worse than the baseline by ${(-change * 100).toFixed(0)} %`);
    baseline[figure.name] = Number(figure.ratio.toFixed(3));
  }
}
if (process.argv.includes('--write')) await writeFile(BASELINE, `${JSON.stringify(baseline, null, 2)}\n`);
process.exitCode = worse > 0 ? 1 : 0;
