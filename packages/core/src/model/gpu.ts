import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Dense float16 peaks without sparsity, TFLOPS, as the vendor states them. */
const PEAK_TFLOPS: readonly (readonly [name: RegExp, tflops: number])[] = [
  [/\bH[12]00\b/, 989],
  [/\bA100\b/, 312],
  [/\bL40S\b/, 362],
  [/\bRTX 4090\b/, 165],
  [/\bL4\b/, 121],
];

export interface Gpu {
  readonly name: string;
  /** Null for one that the table lacks. */
  readonly peakTflops: number | null;
}

/** The GPU behind a device `cuda:N`, by what its driver's tool says; null for other devices, and without the tool. */
export async function gpuOf(device: string): Promise<Gpu | null> {
  const index = /^cuda:(\d+)$/.exec(device)?.[1];
  if (index === undefined) return null;
  const query = ['--query-gpu=name', '--format=csv,noheader', `--id=${index}`];
  const answer = await promisify(execFile)('nvidia-smi', query, { timeout: 10_000 }).catch(() => null);
  const name = answer?.stdout.trim();
  return name ? { name, peakTflops: peakTflopsOf(name) } : null;
}

export const peakTflopsOf = (name: string): number | null => PEAK_TFLOPS.find(([gpu]) => gpu.test(name))?.[1] ?? null;
