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
  ];
}

/** Its licence, and loudly what it forbids. */
export function licenceLines(
  { licence, licenceNote }: Pick<ModelInfo, 'licence' | 'licenceNote'>,
  { paint }: Terminal,
): string[] {
  return [`  licence: ${licence}`, ...(licenceNote === null ? [] : [`  ${paint('yellow', '!')} ${licenceNote}`])];
}
