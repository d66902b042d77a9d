import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { listSources } from '@nightshift/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { s3Listing } from '../../../packages/core/src/source/s3-list.ts';
import { faultyS3 } from '../../fixtures/s3.ts';

let folder: string;
beforeAll(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'nightshift-gdc-')));
});
afterAll(() => rm(folder, { recursive: true }));

const HEADER = 'id\tfilename\tmd5\tsize\tstate';
const manifest = [
  HEADER,
  '11aa\tTCGA-A1-01Z-00-DX1.svs\t0f0f\t4096\treleased',
  '22bb\treads.bam\t1e1e\t70000\treleased',
  '33cc\tTCGA-B2-01A-01-TS1.svs\t2d2d\t8192\treleased',
  '',
].join('\n');

async function list(name: string, content: string | Uint8Array) {
  await mkdir(dirname(join(folder, name)), { recursive: true });
  await writeFile(join(folder, name), content);
  const warnings: string[] = [];
  const found = listSources([join(folder, name)], { onWarning: (warning) => warnings.push(warning) });
  return { entries: await Array.fromAsync(found), warnings };
}

describe('a GDC manifest', () => {
  it.each([
    ['gdc_manifest.2024-05-01.txt', manifest],
    ['windows.txt', `\uFEFF${manifest.replaceAll('\n', '\r\n')}`],
    ['cohort.tsv', manifest],
  ])('%s names the slides that lie beside it by id and file name, downloaded or not', async (name, content) => {
    const { entries, warnings } = await list(name, content);
    expect(entries).toEqual([
      { uri: join(folder, '11aa/TCGA-A1-01Z-00-DX1.svs'), id: '11aa', metadata: { md5: '0f0f', size: '4096' } },
      { uri: join(folder, '33cc/TCGA-B2-01A-01-TS1.svs'), id: '33cc', metadata: { md5: '2d2d', size: '8192' } },
    ]);
    expect(warnings).toEqual([
      expect.stringContaining('2 not downloaded'),
      expect.stringContaining('no slides by their names: 1 of its files'),
    ]);
  });

  it('says what is not downloaded or not whole, and what to type', async () => {
    const rows = ['44dd\twhole.svs\t0\t5', '55ee\tpartial.svs\t0\t500', '66ff\tmissing.svs\t0\t5'];
    for (const name of ['44dd/whole.svs', '55ee/partial.svs']) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), 'bytes');
    }
    const { entries, warnings } = await list('download.txt', [HEADER, ...rows].join('\n'));
    expect(entries).toHaveLength(3);
    const path = join(folder, 'download.txt');
    const first = `${join(folder, '55ee/partial.svs')}, which has 5 of 500 bytes`;
    expect(warnings).toEqual([
      `${path}: of its slides 1 not downloaded, 1 of another size (first: ${first}); type: gdc-client download -m ${path}`,
    ]);
    expect((await list('download.txt', `${HEADER}\n${rows[0]}\n`)).warnings).toEqual([]);
  });

  it('may lie on S3, the slides beside it', async () => {
    const { server, client } = await faultyS3();
    server.put('tcga/gdc_manifest.txt', manifest);
    const entries = await Array.fromAsync(
      listSources(['s3://bucket/tcga/gdc_manifest.txt'], { objects: async () => s3Listing(client) }),
    );
    expect(entries[0]!.uri).toBe('s3://bucket/tcga/11aa/TCGA-A1-01Z-00-DX1.svs');
  });

  it.each(['../escape\ta.svs\t0\t1', '11aa\t/etc/passwd.svs\t0\t1', '11aa', '..\ta.svs\t0\t1'])(
    'with the line %j is refused, and the line named',
    async (line) => {
      const reading = list('bad.txt', `${HEADER}\n${line}\n`);
      await expect(reading).rejects.toMatchObject({ code: 'manifest-invalid', data: { line: 2 } });
    },
  );

  it('without a slide is source-empty', async () => {
    await expect(list('bams.txt', `${HEADER}\n1\ta.bam\t0\t1\n`)).rejects.toMatchObject({ code: 'source-empty' });
  });
});

describe('a text file', () => {
  it('of another header, or of no text, is a slide whatever it is called', async () => {
    for (const content of ['id\tname\n', '', new Uint8Array([0xff, 0xd8, 0xff, 0xe0])]) {
      expect((await list('other.txt', content)).entries).toEqual([{ uri: join(folder, 'other.txt') }]);
    }
  });

  it('of tab-separated columns with a uri is a manifest', async () => {
    expect((await list('rows.tsv', 'uri\tmpp\na.svs\t0.5\n')).entries).toEqual([
      { uri: join(folder, 'a.svs'), mpp: 0.5 },
    ]);
  });

  it('of copies from S3 is an s5cmd manifest', async () => {
    const { server, client } = await faultyS3();
    for (const name of ['1.dcm', '2.dcm']) server.put(`series/${name}`, name);
    const text = '# s5cmd run manifest.txt\ncp s3://bucket/series/* .\ncp s3://bucket/series/* .\n';
    await writeFile(join(folder, 's5.txt'), text);
    const options = { objects: async () => s3Listing(client) };
    const entries = await Array.fromAsync(listSources([join(folder, 's5.txt')], options));
    expect(entries.map(({ uri }) => uri)).toEqual(['s3://bucket/series/']);
  });
});
