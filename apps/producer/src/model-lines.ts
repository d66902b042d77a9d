import { byteSize, count, type Terminal } from '@nightshift/cli';
import type { ModelInfo } from '@nightshift/core';

/** A model that was just made, in two lines. */
export function modelLines(info: ModelInfo, { paint }: Terminal): string[] {
  const { architecture, inputPx, dims, digest, files, trained, precision } = info;
  return [
    `${paint('green', '✓')} ${info.name}: ${architecture.depth} blocks, ${architecture.width} wide, ` +
      `${count(architecture.parameters)} parameters, input ${inputPx} px, ${info.embedding} of ${count(dims)}` +
      `${trained ? '' : ' (random weights)'}`,
    `  ${precision}, ${byteSize(files.graph.bytes + files.data.bytes)}, digest ${digest.slice(0, 16)}`,
    `  ${info.probe === null ? `${paint('yellow', '!')} ` : ''}${faithfulness(info)}`,
  ];
}

const faithfulness = ({ precision, probe }: ModelInfo): string => {
  if (probe === null) return 'no probe: machines that run it cannot be checked';
  return precision === 'fp32' ? 'with a probe' : `cosine to fp32 ${cosineText(probe.cosine)} on its probe`;
};

/** Rounded down: 1 is 1. */
export const cosineText = (cosine: number): string => (cosine >= 1 ? '1' : `${Math.floor(cosine * 1e6) / 1e6}`);

/** Its licence, and loudly what it forbids. */
export function licenceLines(
  { licence, licenceNote }: Pick<ModelInfo, 'licence' | 'licenceNote'>,
  { paint }: Terminal,
): string[] {
  return [`  licence: ${licence}`, ...(licenceNote === null ? [] : [`  ${paint('yellow', '!')} ${licenceNote}`])];
}
