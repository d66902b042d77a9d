import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { f32, headed } from '../fixtures/model/tensors.ts';
import { archive, dict, legacy, tensor, writeZip } from '../fixtures/model/torch-file.ts';
import { encodeJpeg, type JpegOptions } from '../fixtures/slides/encode-jpeg.ts';
import { writeDicom } from '../fixtures/slides/write-dicom.ts';
import { leicaSlide } from '../fixtures/slides/write-leica.ts';
import { miraxSlide, writeBmp } from '../fixtures/slides/write-mirax.ts';
import { ndpiSource, restartJpeg } from '../fixtures/slides/write-ndpi.ts';
import { philipsSlide } from '../fixtures/slides/write-philips.ts';
import {
  drawPicture,
  jpegTiles,
  type TiffOptions,
  type WrittenPage,
  writeTiff,
} from '../fixtures/slides/write-tiff.ts';
import { trestleSlide } from '../fixtures/slides/write-trestle.ts';
import { ventanaSlide } from '../fixtures/slides/write-ventana.ts';
import { BETWEEN_FILES, MIRAX_FILES } from './targets.ts';

/** Writes the inputs that the fuzzer starts from: small and whole files of every kind, by the writers of the tests. */
function put(target: string, name: string, content: Uint8Array | string): void {
  const folder = join(import.meta.dirname, 'corpus', target);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), content);
}

const picture = drawPicture(32, 32);
const tiles = await jpegTiles(picture, 16, '4:4:4');
const page: WrittenPage = { width: 32, height: 32, tile: 16, tiles, description: 'Aperio |MPP = 0.5|AppMag = 20' };
const half: WrittenPage = { ...page, width: 16, height: 16, tiles: tiles.slice(0, 1) };
const plain = { ...page, photometric: 2, description: 'plain' };
const rows = await sharp(picture.data, { raw: { width: 32, height: 32, channels: 3 } })
  .extract({ left: 0, top: 0, width: 16, height: 16 })
  .raw()
  .toBuffer();
const lzw = lzwOf(rows);
const ome = `<?xml version="1.0"?><OME xmlns="x"><Instrument><Objective NominalMagnification="20"/></Instrument>
<Image><Pixels SizeX="32" SizeY="32" PhysicalSizeX="0.5" PhysicalSizeY="500" PhysicalSizeYUnit="nm"/></Image></OME>`;
const tags = {
  282: { type: 'rational', values: [20_000, 1] },
  283: { type: 'rational', values: [20_000, 1] },
} as const;

for (const [target, options] of [
  ['tiff', {}],
  ['bigtiff', { big: true }],
] as const satisfies readonly (readonly [string, TiffOptions])[]) {
  put(target, 'aperio', writeTiff([page, half], options));
  put(target, 'aperio-big-endian', writeTiff([page, half], { ...options, bigEndian: true, ifdsFirst: true }));
  put(
    target,
    'generic-deflate',
    writeTiff([{ ...plain, compression: 8, tiles: Array(4).fill(deflateSync(rows)), tags }], options),
  );
  put(target, 'generic-lzw', writeTiff([{ ...plain, compression: 5, tiles: Array(4).fill(lzw) }], options));
  put(target, 'ome', writeTiff([{ ...page, description: ome, subPages: [{ ...half, subfileType: 1 }] }], options));
}
const j2k = readFileSync(join(import.meta.dirname, '../fixtures/slides/j2k-33005.svs'));
put('tiff', 'jpeg2000', j2k);

const levels = [await restartJpeg(64, 40, 32), await restartJpeg(32, 24, 32)];
const ndpi = ndpiSource([
  { ...levels[0]!, lens: 20 },
  { ...levels[1]!, lens: 10 },
  { ...levels[1]!, lens: -1 },
]);
put('ndpi', 'two-levels', (await ndpi.read([{ offset: 0, length: ndpi.size }]))[0]!);

put('tiff', 'trestle', await trestleSlide());
put('bigtiff', 'ventana', await ventanaSlide());
put('bigtiff', 'philips', await philipsSlide());
const area = { x: 4, y: 8, width: 40, height: 30, tile: 16 };
put('bigtiff', 'leica', await leicaSlide({ glass: { width: 64, height: 48 }, areas: [area] }));
const mirax = await miraxSlide();
put(
  'mirax',
  'plain',
  Buffer.concat([mirax.get(MIRAX_FILES[0])!, Buffer.from(BETWEEN_FILES), mirax.get(MIRAX_FILES[1])!]),
);

const volume = { width: 32, height: 32, tile: 16, frames: tiles, profileBytes: 8 };
put('dicom', 'basic', writeDicom(volume));
put('dicom', 'empty', writeDicom({ ...volume, table: 'empty', undefinedLengths: true }));
put('dicom', 'extended', writeDicom({ ...volume, table: 'extended' }));
put(
  'dicom',
  'sparse',
  writeDicom({
    ...volume,
    positions: [
      [1, 1],
      [17, 1],
      [1, 17],
      [17, 17],
    ],
  }),
);
put(
  'dicom',
  'raw',
  writeDicom({ ...volume, frames: Array(4).fill(rows), transferSyntax: '1.2.840.10008.1.2', photometric: 'RGB' }),
);
put('dicom', 'label', writeDicom({ ...volume, flavor: 'LABEL' }));

const small = sharp(rows, { raw: { width: 16, height: 16, channels: 3 } });
const png = await small.clone().png().toBuffer();
const palette = await small.clone().png({ palette: true, colours: 16 }).toBuffer();
const interlaced = await small.clone().ensureAlpha(0.5).png({ progressive: true }).toBuffer();
const baseline = tiles[0]!;
const subsampled = await small.clone().jpeg({ chromaSubsampling: '4:2:0' }).toBuffer();
const progressive = await small.clone().jpeg({ progressive: true }).toBuffer();
for (const target of ['picture', 'png']) {
  put(target, 'rgb.png', png);
  put(target, 'palette.png', palette);
  put(target, 'interlaced-alpha.png', interlaced);
}
const bottomUp = writeBmp(rows, 16, 16);
const topDown = Buffer.from(bottomUp);
topDown.writeInt32LE(-16, 22);
put('bmp', 'bottom-up.bmp', bottomUp);
put('bmp', 'top-down.bmp', topDown);
for (const target of ['picture', 'jpeg', 'jpeg-wasm', 'jpeg-built-in']) {
  put(target, 'baseline.jpg', baseline);
  put(target, 'subsampled.jpg', subsampled);
  put(target, 'progressive.jpg', progressive);
}
for (const target of ['jpeg', 'jpeg-built-in']) put(target, 'restarts.jpg', levels[1]!.jpeg);
for (const [name, options] of [
  ['rgb.jpg', { chroma: '4:4:4', quality: 60, rgb: true }],
  ['half-across.jpg', { chroma: '4:2:2', quality: 95, restart: 1 }],
  ['own-codes.jpg', { chroma: '4:2:0', quality: 75, optimise: true }],
] as const satisfies readonly (readonly [string, JpegOptions])[]) {
  put('jpeg-built-in', name, encodeJpeg(picture, options));
}

// The tiles of the slide above: the first one and the last.
for (const [i, at] of [...codestreams(j2k)].entries()) if (i === 0 || i === 5) put('jpeg2000', `tile-${i}`, at);
put('deflate', 'tile', deflateSync(rows));
put('lzw', 'tile', lzw);
put('raw', 'tile', rows);

put('description', 'aperio', 'Aperio Image Library v11.2.1\r\n32x32 -> 16x16|AppMag = 20|MPP = 0.5|Filename = a');
put('description', 'ome', ome);
put('xml', 'ome', ome);
put('xml', 'mixed', '<!DOCTYPE a [<!ENTITY b "c">]><a x=\'1\' y="&lt;&#65;">t<!-- c --><b><![CDATA[<d>]]></b><e/></a>');

const header = JSON.stringify({
  __metadata__: { format: 'pt' },
  a: { dtype: 'F32', shape: [2, 3], data_offsets: [0, 24] },
});
const data = f32(0, 1, 2, 3, 4, 5);
put('safetensors', 'one', Buffer.concat([...headed(header), data]));
const state = dict({ a: tensor({ key: '0', count: 6, shape: [2, 3] }) });
put('torch', 'legacy', legacy(state, { '0': { count: 6, data: Buffer.from(data) } }));
const folder = join(import.meta.dirname, 'corpus', 'torch');
writeZip(join(folder, 'zip'), archive(state, { '0': Buffer.from(data) }));

put('manifest', 'commas.csv', 'uri,mpp,id,stain\n/slides/a.svs,0.25,A,"H&E, ""old"""\r\ns3://bucket/b.svs,,,\n');
put('manifest', 'semicolons.csv', '\ufeffuri;mpp\na.svs;0.5\n');
const ring = '[[0,0],[9e4,0],[9e4,8e4],[0,8e4],[0,0]]';
put(
  'outline',
  'qupath',
  `{"type":"FeatureCollection","features":[{"type":"Feature","geometry":{"type":"Polygon","coordinates":[${ring},[[9,9],[99,9],[9,99]]]},"properties":{"objectType":"annotation"}}]}`,
);
put(
  'outline',
  'multi',
  `[{"type":"Feature","geometry":{"type":"MultiPolygon","coordinates":[[${ring}],[[[5,5],[6.5,5],[5,7]]]]}}]`,
);
put(
  'outline',
  'collection',
  `{"type":"GeometryCollection","geometries":[{"type":"Point","coordinates":[1,2]},{"type":"Polygon","coordinates":[${ring}]}]}`,
);
put('jsonl', 'two.jsonl', '{"uri": "a.svs", "mpp": 0.5}\n\n{"uri": "s3://bucket/b.svs", "id": "B", "n": 1}\n');
put(
  's5cmd',
  'idc',
  '# comment\ncp s3://bucket/series/* .\ncp --flag "s3://bucket/a b/*" target\nsync s3://bucket/c/ .\n',
);

function* codestreams(file: Buffer): Generator<Buffer> {
  for (let at = 0; ; ) {
    const from = file.indexOf(Buffer.from('ff4fff51', 'hex'), at);
    if (from < 0) return;
    at = file.indexOf(Buffer.from('ffd9', 'hex'), from) + 2;
    yield file.subarray(from, at);
  }
}

/** LZW as TIFF has it, with no string longer than a byte: a clear code before the codes would grow. */
function lzwOf(bytes: Uint8Array): Buffer {
  let bits = '';
  for (const [i, byte] of bytes.entries()) {
    if (i % 200 === 0) bits += (256).toString(2).padStart(9, '0');
    bits += byte.toString(2).padStart(9, '0');
  }
  bits += (257).toString(2).padStart(9, '0');
  return Buffer.from(
    bits
      .padEnd(8 * Math.ceil(bits.length / 8), '0')
      .match(/.{8}/g)!
      .map((octet) => Number.parseInt(octet, 2)),
  );
}
