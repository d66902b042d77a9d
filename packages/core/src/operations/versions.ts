import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);

/** Of nightshift, Node and ONNX Runtime: kept with a run, shown by `doctor`. Loads no native library. */
export function versions(): { readonly nightshift: string; readonly node: string; readonly onnxruntime: string } {
  return {
    nightshift: (require('../../package.json') as { version: string }).version,
    node: process.versions.node,
    onnxruntime: (require('onnxruntime-node/package.json') as { version: string }).version,
  };
}
