import { readFile, writeFile } from 'node:fs/promises';
import asc from 'assemblyscript/asc';

const OPTIONS = ['--optimizeLevel', '3', '--runtime', 'stub', '--enable', 'simd', '--noAssert', '--use', 'abort='];

/** `jpeg.ts` as the source of the module that the JPEG codec carries. Throws with the compiler's words where it does not compile. */
export async function buildJpegModule(): Promise<string> {
  const source = await readFile(new URL('jpeg.ts', import.meta.url), 'utf8');
  let binary: Uint8Array | undefined;
  const { error, stderr } = await asc.main(['jpeg.ts', '--outFile', 'jpeg.wasm', ...OPTIONS], {
    readFile: (name) => (name === 'jpeg.ts' ? source : null),
    writeFile(_, contents) {
      binary = contents as Uint8Array;
    },
    listFiles: () => [],
  });
  if (error !== null || binary === undefined) throw new Error(`jpeg.ts does not compile: ${stderr.toString()}`);
  const lines = Buffer.from(binary)
    .toString('base64')
    .match(/.{1,114}/g)!;
  return `/** \`packages/core/wasm/jpeg.ts\` as compiled by \`npm run wasm\`: a test compares them. */
export const JPEG_MODULE = [
${lines.map((line) => `  '${line}',\n`).join('')}].join('');
`;
}

if (import.meta.main) {
  await writeFile(new URL('../src/slide/codec/sequential/module.ts', import.meta.url), await buildJpegModule());
}
