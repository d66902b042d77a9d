import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NightshiftError } from '../../packages/core/src/errors.ts';
import { openWeights } from '../../packages/core/src/model/convert/read/open.ts';
import { outlineArea, parseOutline } from '../../packages/core/src/plan/outline-file.ts';
import { resolveMpp } from '../../packages/core/src/slide/mpp.ts';
import { openSlide } from '../../packages/core/src/slide/open.ts';
import { findAll, parseXml, xmlNumber } from '../../packages/core/src/slide/xml.ts';
import { readManifest } from '../../packages/core/src/source/manifest.ts';
import { joinParts } from '../../packages/core/src/source/parts.ts';
import { readS5cmd } from '../../packages/core/src/source/s5cmd.ts';
import type { ByteSource } from '../../packages/core/src/source/source.ts';
import { miraxSlide } from '../fixtures/slides/write-mirax.ts';
import { memorySource, writeTiff } from '../fixtures/slides/write-tiff.ts';
import { builtInTarget, codecTarget } from './codec-target.ts';
import { openAndDecode, strictSource } from './slide-target.ts';

/** What reads inputs that nobody trusts. */
export interface Target {
  /** Words that a mutation may put in. */
  readonly words: readonly string[];
  /**
   * Reads one input; resolves when it was understood, rejects with a `NightshiftError` when it was refused. Anything else, a
   * process that dies, 5 s or 512 MiB are a finding. `folder` is the target's own.
   */
  run(input: Buffer, folder: string): Promise<void>;
}

const slide = (uri: string, words: readonly string[] = []): Target => ({
  words,
  run: (input) => openAndDecode(strictSource(input, uri)),
});

const APERIO = ['Aperio ', '|', '=', 'MPP = 0.5', 'AppMag = 20', ',', '1e-999', '  ', 'NaN'];
const XML = [
  '<',
  '>',
  '</',
  '/>',
  '="',
  "'",
  '&amp;',
  '&#x10ffff;',
  '&#',
  '<!--',
  '-->',
  '<![CDATA[',
  ']]>',
  '<!',
  '<?',
];
const OME = [
  '<OME>',
  '<Pixels ',
  'SizeX="32"',
  'SizeY="32"',
  'PhysicalSizeX="0.5"',
  'PhysicalSizeXUnit="nm"',
  '<Objective ',
];

/** A TIFF with a description as its first page's: who wrote it is told by this text, and much is read out of it. */
function described(description: Buffer): Buffer {
  const tags = { 270: { type: 'bytes', bytes: description } } as const;
  return writeTiff([{ width: 32, height: 32, tile: 16, tiles: Array(4).fill(new Uint8Array(4)), tags }]);
}

const lines = async function* (input: Buffer) {
  yield* input.toString('utf8').split('\n');
};

/** The files of a MIRAX slide that say where everything lies, in one input, and the others as they are. */
export const MIRAX_FILES = ['mirax/Slidedat.ini', 'mirax/Index.dat'] as const;
export const BETWEEN_FILES = '\0--\0';
const mirax = miraxSlide();

async function miraxOf(input: Buffer): Promise<ByteSource> {
  const files = new Map(await mirax);
  const at = input.indexOf(BETWEEN_FILES, 0, 'latin1');
  const cut = at < 0 ? input.length : at;
  files.set(MIRAX_FILES[0], input.subarray(0, cut));
  files.set(MIRAX_FILES[1], input.subarray(cut + BETWEEN_FILES.length));
  return joinParts(
    'mirax.mrxs',
    Array.from(files, ([name, bytes]) => strictSource(bytes, name)),
  );
}

/** One target for each container, each text that slides carry, each codec, and each other file that people are handed. */
export const TARGETS: Readonly<Record<string, Target>> = {
  tiff: slide('fuzz.tif', ['II*\0', 'MM\0*']),
  bigtiff: slide('fuzz.tif', ['II+\0\x08\0\0\0']),
  ndpi: slide('fuzz.ndpi'),
  dicom: slide('fuzz.dcm', ['SQ', 'OB', 'UN', '\xfe\xff\x00\xe0', '\xfe\xff\xdd\xe0', '\xff\xff\xff\xff', 'VOLUME']),
  mirax: {
    words: ['[', ']', '=', '\r\n', BETWEEN_FILES, 'IMAGENUMBER_X = 6', 'HIERARCHICAL', 'VIMSLIDE_POSITION_BUFFER'],
    run: async (input) => openAndDecode(await miraxOf(input)),
  },
  picture: slide('fuzz.png', ['\x89PNG\r\n\x1a\n', 'IHDR', 'IDAT', 'IEND', 'PLTE', 'iCCP', 'eXIf']),
  description: {
    words: [...APERIO, ...XML, ...OME],
    async run(input) {
      const slide = await openSlide(memorySource(described(input)));
      resolveMpp(slide, null);
    },
  },
  xml: {
    words: XML,
    async run(input) {
      const root = parseXml(input.toString('utf8'));
      if (root === null) throw new NightshiftError('slide-corrupt', 'no XML');
      for (const { text, attributes } of findAll(root, 'a')) [text, ...attributes.values()].map(xmlNumber);
    },
  },
  jpeg: codecTarget({ kind: 'jpeg', prefix: Uint8Array.of(0xff, 0xd8) }),
  'jpeg-wasm': codecTarget({ kind: 'jpeg', prefix: Uint8Array.of(0xff, 0xd8) }, 'wasm'),
  'jpeg-built-in': builtInTarget(),
  jpeg2000: codecTarget({ kind: 'jpeg2000', yCbCr: true }),
  png: codecTarget({ kind: 'png' }),
  bmp: codecTarget({ kind: 'bmp' }),
  lzw: codecTarget({ kind: 'lzw', predictor: 2 }),
  deflate: codecTarget({ kind: 'deflate', predictor: 2 }),
  raw: codecTarget({ kind: 'raw', predictor: 1 }),
  safetensors: {
    words: ['{"', '":', 'F32', 'BF16', '"shape":[', '"data_offsets":[0,4]', '__metadata__', '1e99', '__proto__'],
    run: readWeights,
  },
  torch: {
    words: ['c', 'q\x01', 'PK\x03\x04', 'PK\x01\x02', 'PK\x05\x06', '(', 't', 'R', 'b.', 'X\x01\0\0\0a'],
    run: readWeights,
  },
  manifest: {
    words: [
      'uri',
      'mpp',
      'id',
      ',',
      ';',
      '\t',
      '"',
      '""',
      '\r\n',
      '\n',
      's3://bucket/a.svs',
      '../',
      '\ufeff',
      '__proto__',
    ],
    async run(input) {
      for await (const _ of readManifest(
        '/slides/fuzz.csv',
        undefined,
        (async function* () {
          yield input;
        })(),
      ));
    },
  },
  jsonl: {
    words: ['{"uri":"a"}', '"mpp":', '"id":', '\n', '[', '{', 'null', '1e999', '\\u0000', '__proto__'],
    async run(input) {
      for await (const _ of readManifest(
        '/slides/fuzz.jsonl',
        undefined,
        (async function* () {
          yield input;
        })(),
      ));
    },
  },
  outline: {
    words: [
      '"type":',
      '"Polygon"',
      '"MultiPolygon"',
      '"coordinates":',
      '[[[',
      ']]]',
      '[0,0],',
      '1e999',
      '-1e7',
      'null',
      '__proto__',
    ],
    async run(input) {
      outlineArea(parseOutline(input.toString('utf8'), 'fuzz.geojson'), { width: 100_000, height: 80_000 });
    },
  },
  s5cmd: {
    words: ['cp ', 's3://bucket/', '/* ', '"', "'", '#', '\n', 'sync ', '--flag '],
    async run(input) {
      for await (const _ of readS5cmd('/slides/fuzz.s5cmd', lines(input)));
    },
  },
};

async function readWeights(input: Buffer, folder: string): Promise<void> {
  const path = join(folder, 'weights');
  await writeFile(path, input);
  const weights = await openWeights(path);
  try {
    for (const name of weights.tensors.keys()) await weights.read(name);
  } finally {
    await weights.close();
  }
}
