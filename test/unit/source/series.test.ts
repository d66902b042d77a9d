import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { composeSeries, composeSource } from '../../../packages/core/src/compose.ts';
import { readHead } from '../../../packages/core/src/slide/dicom/instance.ts';
import { openFolder } from '../../../packages/core/src/source/folder.ts';
import { listSources } from '../../../packages/core/src/source/list.ts';
import { openS3 } from '../../../packages/core/src/source/s3.ts';
import { s3Listing } from '../../../packages/core/src/source/s3-list.ts';
import { parseSeriesUri, seriesIndex, seriesUri } from '../../../packages/core/src/source/series.ts';
import { faultyS3 } from '../../fixtures/s3.ts';
import { type WrittenInstance, writeDicom } from '../../fixtures/slides/write-dicom.ts';
import { memorySource } from '../../fixtures/slides/write-tiff.ts';

const instance = (series: string, change: Partial<WrittenInstance> = {}) =>
  writeDicom({ width: 64, height: 64, tile: 64, frames: [Buffer.alloc(5_000, 1)], series, ...change });
const report = { sopClass: '1.2.840.10008.5.1.4.1.1.88.34' };

/** Two series, a third of one file, a report and a file that is no DICOM, as a flat download has them. */
const mixed: Readonly<Record<string, Buffer>> = {
  '1.dcm': instance('1.2.3'),
  '2.dcm': instance('1.2.4'),
  '3.dcm': instance('1.2.3', { flavor: 'LABEL' }),
  '4.dcm': instance('1.2.4', { width: 32, height: 32 }),
  '5.dcm': instance('1.2.5'),
  '6.dcm': instance('1.2.6', report),
  '7.dcm': Buffer.from('no dicom'),
};

async function directory(files: Readonly<Record<string, Uint8Array>>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'nightshift-series-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
  return folder;
}

const partsOf = async (uri: string) => {
  const source = await composeSource(uri);
  await source.close();
  return { files: source.parts?.map((part) => part.uri.split('/').at(-1)), contentId: source.contentId };
};

describe('a folder of several series', () => {
  it('is a slide for each, whose URI opens its files alone; a report beside them is left out, aloud', async () => {
    const folder = await directory(mixed);
    const warnings: string[] = [];
    const options = { series: await composeSeries(), onWarning: (warning: string) => warnings.push(warning) };
    const entries = await Array.fromAsync(listSources([folder], options));
    const names = ['#1.2.3', '#1.2.4', '5.dcm', '7.dcm'];
    expect(entries.map(({ uri }) => uri)).toEqual(names.map((name) => `${folder}/${name}`));
    expect(warnings).toEqual([expect.stringContaining('#1.2.6 was left out: it is no whole-slide image (files: 1)')]);
    expect(await partsOf(entries[0]!.uri)).toEqual({ files: ['1.dcm', '3.dcm'], contentId: entries[0]!.contentId });
    expect(await partsOf(entries[1]!.uri)).toEqual({ files: ['2.dcm', '4.dcm'], contentId: entries[1]!.contentId });
    // As a source of its own too.
    expect(await Array.fromAsync(listSources([entries[1]!.uri], options))).toEqual([{ uri: entries[1]!.uri }]);
    await expect(composeSource(seriesUri(folder, '9.9'))).rejects.toMatchObject({ code: 'slide-not-found' });
  });

  it('is named by the folder where there is one series, also beside reports and files that tell none', async () => {
    const { '2.dcm': _, '4.dcm': __, '5.dcm': ___, ...one } = mixed;
    const folder = await directory(one);
    const [entry, ...rest] = await Array.fromAsync(listSources([folder], { series: await composeSeries() }));
    expect(rest).toEqual([]);
    expect(entry).toEqual({ uri: folder, contentId: (await partsOf(folder)).contentId });
  });

  it('on S3 is told apart by one read of each file, once', async () => {
    const { server, client } = await faultyS3();
    for (const [name, content] of Object.entries(mixed)) server.put(`flat/${name}`, content);
    const listing = s3Listing(client);
    const open = (uri: string) => openS3(uri, client);
    const series = seriesIndex(open, readHead);
    const entries = await Array.fromAsync(listSources(['s3://bucket/flat/'], { objects: async () => listing, series }));
    const names = ['#1.2.3', '#1.2.4', '5.dcm', '7.dcm'];
    expect(entries.map(({ uri }) => uri)).toEqual(names.map((name) => `s3://bucket/flat/${name}`));
    const gets = () => server.requests.filter(({ operation }) => operation === 'get').length;
    expect(gets()).toBe(7);
    const { folder, ...named } = parseSeriesUri(entries[1]!.uri)!;
    const only = { ...named, index: series };
    const source = await openFolder(entries[1]!.uri, listing.filesOf(folder), open, only);
    expect(source.parts!.map(({ uri }) => uri)).toEqual(['s3://bucket/flat/2.dcm', 's3://bucket/flat/4.dcm']);
    expect(source.contentId).toBe(entries[1]!.contentId);
    expect(gets()).toBe(7);
  });

  it('may have a name like that of a series itself', async () => {
    const folder = await directory({ '#1.2/1.dcm': instance('7.7'), '#1.2/2.dcm': instance('7.7') });
    expect((await partsOf(join(folder, '#1.2'))).files).toEqual(['1.dcm', '2.dcm']);
  });
});

describe('the beginning of a file', () => {
  const head = async (bytes: Uint8Array) => {
    let most = 0;
    const source = memorySource(bytes, 'x.dcm');
    const read: typeof source.read = (ranges, signal) => {
      for (const { offset, length } of ranges) most = Math.max(most, offset + length);
      return source.read(ranges, signal);
    };
    return { head: await readHead({ ...source, read }), most };
  };

  it('tells series and kind; of a label no more than 4 KB are read', async () => {
    const label = instance('1.2.3', { flavor: 'LABEL', profileBytes: 1 << 20 });
    expect(await head(label)).toEqual({ head: { series: '1.2.3', isWholeSlide: true }, most: 4_096 });
    expect((await head(instance('1.2.3', report))).head).toEqual({ series: '1.2.3', isWholeSlide: false });
  });

  it('of anything else tells nothing', async () => {
    const whole = instance('1.2.3');
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from('short'),
      whole.subarray(0, 150),
      instance('PATIENT^NAME'),
      instance(''),
      writeDicom({ width: 1, height: 1, tile: 1, frames: [], dataset: Buffer.from('0800080000000000', 'hex') }),
    ]) {
      expect((await head(bytes)).head).toBeNull();
    }
  });
});
