import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import { afterAll, describe, expect, test } from 'vitest';
import { MOST_OUTLINE_BYTES } from '../../packages/core/src/source/outlines.ts';
import { headed } from '../fixtures/model/tensors.ts';
import { archive, writeZip } from '../fixtures/model/torch-file.ts';
import { writeDicom } from '../fixtures/slides/write-dicom.ts';
import { type TagValue, type WrittenPage, writeTiff } from '../fixtures/slides/write-tiff.ts';
import { fuzz } from './fuzz.ts';

const folder = mkdtempSync(join(tmpdir(), 'nightshift-bombs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MiB = 1 << 20;
const long = (...values: number[]): TagValue => ({ type: 'long', values });
const text = (value: string) => Buffer.from(value, 'latin1');

function dicomOf(dataset: Buffer): Buffer {
  return writeDicom({ width: 16, height: 16, tile: 16, frames: [], transferSyntax: '1.2.840.10008.1.2', dataset });
}
/** Repeats a pattern to a length. */
const filled = (length: number, pattern: Buffer | string) => Buffer.alloc(length, pattern as string, 'latin1');

/** An implicit element of undefined length. */
function open(group: number, element: number): Buffer {
  const out = Buffer.alloc(8, 0xff);
  out.writeUInt16LE(group);
  out.writeUInt16LE(element, 2);
  return out;
}
const ITEM = Buffer.from('feff00e0ffffffff', 'hex');

function png(width: number, height: number, chunks: readonly (readonly [string, Buffer])[]): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width);
  header.writeUInt32BE(height, 4);
  header.set([8, 2], 8);
  const parts = ([['IHDR', header], ...chunks, ['IEND', Buffer.alloc(0)]] as const).map(([name, data]) => {
    const body = Buffer.concat([text(name), data]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(data.length);
    frame.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
  });
  return Buffer.concat([text('\x89PNG\r\n\x1a\n'), ...parts]);
}

/** A codestream whose header says `side` x `side` px in tiles of `tile`, and that ends behind it. */
function codestream(side: number, tile: number): Buffer {
  const u32 = (...values: number[]) => {
    const out = Buffer.alloc(4 * values.length);
    for (const [i, value] of values.entries()) out.writeUInt32BE(value, 4 * i);
    return out;
  };
  const hex = (digits: string) => Buffer.from(digits, 'hex');
  const size = [hex('ff4fff51002f0000'), u32(side, side, 0, 0, tile, tile, 0, 0), hex('0003070101070101070101')];
  const coding = hex('ff52000c00000001010504040001ff5c00134040484850484850484850484850484850'.slice(0, 28));
  const quantization = hex('ff5c0004402000'.slice(0, 12));
  const parts = hex('ff90000a0000000000120001ff930000'.concat('ffd9'));
  return Buffer.concat([...size, coding, quantization, parts]);
}

const small: WrittenPage = { width: 16, height: 16, tile: 16, tiles: [Buffer.from([0xff, 0xd8])] };
const wide = { 256: long(2 ** 20), 257: long(2 ** 20), 322: long(512), 323: long(512) };

let deflated: Buffer | undefined;
/** 64 MiB of nothing. */
function zeros(): Buffer {
  deflated ??= deflateSync(Buffer.alloc(64 * MiB));
  return deflated;
}

/** Large or unlucky files of every kind, each built against what its reader would have to do for it. */
const BOMBS: readonly (readonly [string, target: string, () => Buffer])[] = [
  [
    'a thousand IFDs of a thousand tags',
    'tiff',
    () => {
      const tags = Object.fromEntries(Array.from({ length: 980 }, (_, i) => [40_000 + i, long(i)]));
      return writeTiff(Array.from({ length: 1_000 }, () => ({ ...small, tags })));
    },
  ],
  [
    'four million tiles in each of a hundred pages',
    'tiff',
    () => {
      const bytes = writeTiff(
        Array.from({ length: 100 }, () => ({ ...small, description: 'Aperio |MPP = 0.5', tags: wide })),
      );
      // All pages share one array of offsets behind the file, and of lengths.
      const arrays = bytes.length;
      for (let ifd = bytes.readUInt32LE(4); ifd !== 0; ) {
        const count = bytes.readUInt16LE(ifd);
        for (let at = ifd + 2; at < ifd + 2 + 12 * count; at += 12) {
          if (![324, 325].includes(bytes.readUInt16LE(at))) continue;
          bytes.writeUInt16LE(4, at + 2);
          bytes.writeUInt32LE(2 ** 22, at + 4);
          bytes.writeUInt32LE(arrays, at + 8);
        }
        ifd = bytes.readUInt32LE(ifd + 2 + 12 * count);
      }
      return Buffer.concat([bytes, Buffer.alloc(16 * MiB, 1)]);
    },
  ],
  [
    'tiles of 4096 px of noise',
    'tiff',
    () => {
      const tags = { 256: long(4_096), 257: long(4_096), 322: long(4_096), 323: long(4_096), 270: null };
      return writeTiff([
        { ...small, compression: 5, photometric: 2, tiles: [filled(16 * MiB, '\x80\x12\x9f\x03')], tags },
      ]);
    },
  ],
  ['a number of many digits as mpp', 'description', () => text(`Aperio |MPP = ${'1'.repeat(65_000)}x`)],
  ['a key among many bars', 'description', () => text(`Aperio ${'| '.repeat(32_000)}`)],
  ['spaces between bar and key', 'description', () => text(`Aperio |${' '.repeat(65_000)}MPQ`)],
  ['a megabyte of open elements', 'xml', () => filled(MiB, '<a>')],
  ['elements that are closed by others', 'xml', () => text(`${'<a>'.repeat(60)}${'</b>'.repeat(500_000)}`)],
  ['a million attributes', 'xml', () => text(`<a ${'b="" '.repeat(MiB)}/>`)],
  ['a million names without a value', 'xml', () => text(`<a ${'b '.repeat(4 * MiB)}/>`)],
  ['quotes that are not closed', 'xml', () => text(`<a ${`b='"c="'`.repeat(MiB)}`)],
  ['ampersands', 'xml', () => text(`<a>${'&#x1'.repeat(2 * MiB)}</a>`)],
  ['a number of many digits', 'xml', () => text(`<a>${'1'.repeat(MiB)}x</a>`)],
  ['comments that never end', 'xml', () => text(`<a>${'<!--'.repeat(MiB)}`)],
  ['a million lines', 'mirax', () => filled(16 * MiB, '[A]\r\nB = 1\r\n')],
  ['a section without an end', 'mirax', () => filled(8 * MiB, '[')],
  ['a number of many digits', 'mirax', () => text(`[GENERAL]\r\nIMAGENUMBER_X = ${'1'.repeat(MiB)}x\r\n`)],
  [
    'a Philips description of eight megabytes',
    'bigtiff',
    () => {
      const xml = `<DataObject ObjectType="DPUfsImport">${'<Attribute Name="a">1</Attribute>'.repeat(220_000)}</DataObject>`;
      return writeTiff([{ ...small, description: xml }], { big: true });
    },
  ],
  [
    'items in items',
    'dicom',
    () =>
      dicomOf(
        Buffer.concat(
          Array(100_000)
            .fill([open(0x5200, 0x9230), ITEM])
            .flat(),
        ),
      ),
  ],
  [
    'eight million empty items of frames',
    'dicom',
    () => {
      const empty = Buffer.from('feff00e000000000', 'hex');
      const start = [open(0x5200, 0x9230), ITEM, open(0x0048, 0x021a)];
      return dicomOf(Buffer.concat([...start, filled(63 * MiB, empty)]));
    },
  ],
  [
    'sixty megabytes of empty elements',
    'dicom',
    () => dicomOf(filled(63 * MiB, Buffer.from('2800110000000000', 'hex'))),
  ],
  ['a PNG of nothing for 48 MiB', 'picture', () => png(4_096, 4_096, [['IDAT', zeros()]])],
  ['a PNG of one pixel with 64 MiB', 'png', () => png(1, 1, [['IDAT', zeros()]])],
  [
    'a PNG with a colour profile of 64 MiB',
    'picture',
    () =>
      png(16, 16, [
        ['iCCP', Buffer.concat([text('a\0\0'), zeros()])],
        ['IDAT', deflateSync(Buffer.alloc(16 * 49))],
      ]),
  ],
  [
    'a PNG with twenty texts of 10 MiB',
    'picture',
    () => {
      const body = Buffer.concat([text('a\0\0'), deflateSync(Buffer.alloc(10 * MiB))]);
      return png(16, 16, [...Array(20).fill(['zTXt', body]), ['IDAT', deflateSync(Buffer.alloc(16 * 49))]]);
    },
  ],
  ['a tile that inflates to 64 MiB', 'deflate', () => zeros()],
  ['sixteen megabytes of clear codes', 'lzw', () => filled(16 * MiB, Buffer.from('80402010080402010', 'hex'))],
  ['a codestream of 65,536 tiles', 'jpeg2000', () => codestream(256, 1)],
  [
    'a JPEG 2000 tile of 4096 px and no data',
    'tiff',
    () => {
      const tags = { 256: long(4_096), 257: long(4_096), 322: long(4_096), 323: long(4_096), 270: null };
      return writeTiff([{ ...small, compression: 33_005, photometric: 2, tiles: [codestream(4_096, 4_096)], tags }]);
    },
  ],
  [
    'a header of fifty thousand names',
    'safetensors',
    () => {
      const entry = '{"dtype":"F32","shape":[0],"data_offsets":[0,0]}';
      const names = Array.from({ length: 55_000 }, (_, i) => `"${i}":${entry}`);
      return Buffer.concat(headed(`{${names.join(',')}}`));
    },
  ],
  ['a header of brackets', 'safetensors', () => Buffer.concat(headed(`{"a":${'['.repeat(3_900_000)}`))],
  [
    'a shape of two million sides',
    'safetensors',
    () => {
      const shape = '1,'.repeat(1_900_000);
      return Buffer.concat(headed(`{"a":{"dtype":"F32","shape":[${shape}1],"data_offsets":[0,0]}}`));
    },
  ],
  ['a pickle that remembers sixteen million times', 'torch', () => torch(filled(16 * MiB - 8, '\x94'))],
  ['a pickle of a million lists', 'torch', () => torch(filled(3 * MiB, ']'))],
  ['a pickle of marks', 'torch', () => torch(filled(3 * MiB, '('))],
  ['a pickle of copies', 'torch', () => torch(filled(15 * MiB, '2'))],
  [
    'a header of two hundred thousand columns',
    'manifest',
    () => {
      return text(`uri,${Array.from({ length: 200_000 }, (_, i) => i.toString(36)).join(',')}\n`);
    },
  ],
  ['a quote that spans a million lines', 'manifest', () => text(`uri\n"${'\n'.repeat(MiB - 16)}`)],
  ['a line without an end', 'manifest', () => filled(32 * MiB, 'a')],
  ['objects in objects', 'jsonl', () => text(`${'{"uri":'.repeat(100_000)}`)],
  ['an outline of lists in lists', 'outline', () => filled(MOST_OUTLINE_BYTES, '[')],
  [
    'an outline of points',
    'outline',
    () => text(`[{"type":"Polygon","coordinates":[[${'[1,2],'.repeat(MOST_OUTLINE_BYTES / 6 - 10)}[1,2]]]}]`),
  ],
  ['an outline of empty objects', 'outline', () => text(`[${'{},'.repeat(MOST_OUTLINE_BYTES / 3 - 2)}{}]`)],
  [
    'an outline that goes up and down',
    'outline',
    () => text(`{"type":"Polygon","coordinates":[[${'[9,-1e6],[7,1e6],'.repeat(90_000)}[1,2]]]}`),
  ],
  [
    'an outline of twenty thousand slides',
    'outline',
    () =>
      text(
        `{"type":"MultiPolygon","coordinates":[${'[[[0,0],[1e6,0],[1e6,1e6],[0,1e6]]],'.repeat(19_999)}[[[0,0],[1,0],[0,1]]]]}`,
      ),
  ],
  ['a line of quotes', 's5cmd', () => text(`cp ${`"' `.repeat(300_000)}`)],
  ['a line of stars', 's5cmd', () => text(`cp s3://b${'/*'.repeat(400_000)}a .`)],
];

function torch(pickle: Buffer): Buffer {
  const path = join(folder, 'torch');
  writeZip(path, archive({ raw: Buffer.concat([text('\x80\x02}'), pickle]) }, {}));
  return readFileSync(path);
}

/** These take so little memory that one process for all of a target shows what each takes. */
const TOGETHER = ['picture', 'jpeg2000', 'mirax', 'xml', 'description', 'manifest', 'torch', 's5cmd'];
const groups = Map.groupBy(BOMBS, ([name, target]) =>
  TOGETHER.includes(target) ? `all (${target})` : `${name} (${target})`,
);

describe('no file, however large or unlucky, costs more than 5 s or 512 MiB', () => {
  test.each([...groups])('%s', async (_, bombs) => {
    const corpus = bombs.map(([, , make], i) => {
      const path = join(folder, `bomb-${i}`);
      writeFileSync(path, make());
      return path;
    });
    const { report, findings } = await fuzz(bombs[0]![1], { inputs: 0, corpus });
    expect(findings.map(({ what }) => what)).toEqual([]);
    expect(report?.inputs).toBe(bombs.length);
  });
});
