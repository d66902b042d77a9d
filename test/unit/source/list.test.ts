import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { listSources, type SourceEntry } from '@nightshift/core';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

let folder: string;
beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'nightshift-list-')));
});
afterEach(() => rm(folder, { recursive: true }));

async function files(...names: string[]): Promise<void> {
  for (const name of names) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), '');
  }
}

async function entries(sources: string[], warnings: string[] = []): Promise<SourceEntry[]> {
  const found: SourceEntry[] = [];
  for await (const entry of listSources(sources, { onWarning: (warning) => warnings.push(warning) })) found.push(entry);
  return found;
}

const list = async (sources: string[], warnings: string[] = []): Promise<string[]> =>
  (await entries(sources, warnings)).map((entry) => relative(folder, entry.uri));

describe('a file', () => {
  it('is a slide whatever it is called: what is wrong with it is said when it is opened', async () => {
    await files('notes.txt', 'no-extension');
    expect(await list([join(folder, 'notes.txt'), join(folder, 'no-extension')])).toEqual([
      'notes.txt',
      'no-extension',
    ]);
  });

  it('is given as an absolute path, so that the same slide from another folder is the same slide', async () => {
    await files('a.svs');
    expect(await list([relative(process.cwd(), join(folder, 'a.svs'))])).toEqual(['a.svs']);
  });

  it('may have the characters of a glob in its name', async () => {
    await files('case [1].svs', 'case 1.svs');
    expect(await list([join(folder, 'case [1].svs')])).toEqual(['case [1].svs']);
  });

  it('that is not there is source-not-found', async () => {
    await expect(list([join(folder, 'nope.svs')])).rejects.toMatchObject({ code: 'source-not-found' });
  });
});

describe('a directory', () => {
  it('gives the slides below it in the order of names, without hidden files and other kinds', async () => {
    await files('b.svs', 'a/z.tiff', 'a/y.ome.tif', 'B.SVS', '.hidden.svs', '.trash/c.svs', 'readme.md', 'c.ndpi');
    expect(await list([folder])).toEqual(['B.SVS', 'a/y.ome.tif', 'a/z.tiff', 'b.svs', 'c.ndpi']);
  });

  it('with several DICOM files is a slide, with one of them is not', async () => {
    await files('s/1.dcm', 's/2.dcm', 's/label.dcm', 's/x.svs', 's/deep/3.dcm', 't/4.DCM', 't/.5.dcm');
    expect(await list([folder])).toEqual(['s', 's/deep/3.dcm', 's/x.svs', 't/4.DCM']);
    expect(await list([join(folder, 's')])).toEqual(['s', 's/deep/3.dcm', 's/x.svs']);
    expect(await list([join(folder, '*')])).toEqual(['s', 's/deep/3.dcm', 's/x.svs', 't/4.DCM']);
    expect(await list([join(folder, 's/1.dcm')])).toEqual(['s/1.dcm']);
  });

  it('leaves out label and macro pictures, and says so', async () => {
    await files('s1.svs', 's1_label.tif', 's1-macro.ome.tif', 'label.svs');
    const warnings: string[] = [];
    expect(await list([folder], warnings)).toEqual(['label.svs', 's1.svs']);
    expect(warnings).toHaveLength(2);
  });

  it('follows links, enters no directory twice and lists no file twice', async () => {
    await files('store/x1.svs', 'real/a.svs');
    await symlink(join(folder, 'store/x1.svs'), join(folder, 'real/named.svs'));
    await symlink(folder, join(folder, 'real/loop'));
    await symlink(join(folder, 'gone.svs'), join(folder, 'real/dangling.svs'));
    const warnings: string[] = [];
    expect(await list([join(folder, 'real')], warnings)).toEqual([
      'real/a.svs',
      'real/dangling.svs',
      'real/loop/store/x1.svs',
    ]);
    expect(warnings).toEqual([expect.stringMatching(/named\.svs is the same file as .*x1\.svs; it is taken once/)]);
  });

  it('without a slide is source-empty, and the error says what was looked for', async () => {
    await files('a.jpg');
    await expect(list([folder])).rejects.toMatchObject({
      code: 'source-empty',
      message: expect.stringContaining('.svs, .tif, .tiff'),
    });
  });
});

describe('a glob', () => {
  it('gives its matches by the rules of a directory', async () => {
    await files('x/a.svs', 'x/b.tif', 'x/notes.md', 'y/c.svs', 'y/deep/d.svs', 'z/.h.svs');
    expect(await list([join(folder, '**/*.svs')])).toEqual(['x/a.svs', 'y/c.svs', 'y/deep/d.svs']);
    expect(await list([join(folder, 'x/*')])).toEqual(['x/a.svs', 'x/b.tif']);
    expect(await list([join(folder, '{y,z}')])).toEqual(['y/c.svs', 'y/deep/d.svs']);
  });

  it('takes pictures where it asks for them; a directory does not', async () => {
    await files('a.svs', 'a.png', 'b.JPG', 'c.jpeg', 'd_label.png');
    expect(await list([folder])).toEqual(['a.svs']);
    expect(await list([join(folder, '*')])).toEqual(['a.svs']);
    expect(await list([join(folder, '*.png')])).toEqual(['a.png']);
    expect(await list([join(folder, 'b.JPG')])).toEqual(['b.JPG']);
  });

  it('without a match is source-empty', async () => {
    await expect(list([join(folder, '*.svs')])).rejects.toMatchObject({ code: 'source-empty' });
  });
});

describe('a manifest', () => {
  it('brings mpp, id and metadata; a slide that is not there is listed', async () => {
    await files('a.svs');
    await writeFile(join(folder, 'cohort.csv'), 'uri,mpp,id,stain\na.svs,0.25,A,HE\ngone.svs,,,\n');
    expect(await entries([join(folder, 'cohort.csv')])).toEqual([
      { uri: join(folder, 'a.svs'), mpp: 0.25, id: 'A', metadata: { stain: 'HE' } },
      { uri: join(folder, 'gone.svs') },
    ]);
  });

  it('with a header only is source-empty', async () => {
    await writeFile(join(folder, 'cohort.csv'), 'uri\n');
    await expect(list([join(folder, 'cohort.csv')])).rejects.toMatchObject({ code: 'source-empty' });
  });
});

describe('several sources', () => {
  it('give each slide once', async () => {
    await files('a.svs', 'b.svs');
    const warnings: string[] = [];
    expect(await list([join(folder, 'b.svs'), folder], warnings)).toEqual(['b.svs', 'a.svs']);
    expect(warnings).toEqual([expect.stringContaining('was given already')]);
  });

  it('say that a bucket cannot be read', async () => {
    await expect(list(['s3://bucket/prefix'])).rejects.toMatchObject({ code: 'source-not-found' });
  });
});
