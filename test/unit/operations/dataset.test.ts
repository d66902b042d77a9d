import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import type { SourceEntry } from '@nightshift/core';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { listDataset } from '../../../packages/core/src/operations/dataset.ts';
import { temporaryDirectory } from '../../fixtures/record.ts';

const MiB = 1 << 20;

async function datasetOf(entries: readonly SourceEntry[]) {
  async function* given() {
    yield* entries;
  }
  return listDataset([], { entries: given(), signal: new AbortController().signal, onWarning: () => {} });
}

const slides = Array.from({ length: 40 }, (_, i) => ({ uri: `s3://bucket/${i}.svs`, contentId: `etag${i}-1` }));

describe('the dataset of some sources', () => {
  it('has one digest whatever the order of its slides, and another one for other slides', async () => {
    const digestOf = async (entries: readonly SourceEntry[]) => {
      const dataset = await datasetOf(entries);
      await dataset.close();
      return dataset.digest;
    };
    const digest = await digestOf(slides);
    expect(await digestOf(slides.toReversed())).toBe(digest);
    expect(await digestOf(slides.slice(1))).not.toBe(digest);
    expect(await digestOf([...slides.slice(1), { ...slides[0]!, contentId: 'etag-new-1' }])).not.toBe(digest);
    expect(await digestOf([...slides.slice(1), { ...slides[0]!, mpp: 0.25 }])).not.toBe(digest);
    // What decides no vector makes no other run.
    const described = slides.map((slide, i) => ({ ...slide, id: `case ${i}`, metadata: { stain: 'H&E' } }));
    expect(await digestOf(described)).toBe(digest);
  });

  it('gives the slides in the order of the sources, as often as asked, and apart from them what a manifest says', async () => {
    const dataset = await datasetOf(
      slides.map((slide, i) =>
        i === 7 ? { ...slide, id: 'seven', metadata: { site: 'lung\u2028', age: 61 } } : slide,
      ),
    );
    try {
      expect(dataset).toMatchObject({ slides: 40, described: 1 });
      const refs = await Array.fromAsync(dataset.refs());
      expect(refs.map(({ uri }) => uri)).toEqual(slides.map(({ uri }) => uri));
      expect(await Array.fromAsync(dataset.refs())).toEqual(refs);
      expect(Object.keys(refs[7]!).sort()).toEqual(['contentId', 'key', 'mpp', 'uri']);
      expect(await Array.fromAsync(dataset.metadata())).toEqual([
        { key: refs[7]!.key, id: 'seven', columns: { site: 'lung\u2028', age: 61 } },
      ]);
    } finally {
      await dataset.close();
    }
  });

  it('has the mpp of the first pattern that a slide fits, where its manifest says none', async () => {
    const warnings: string[] = [];
    async function* given() {
      yield* ['/data/scans/a.svs', '/data/scans/b.tif', '/data/old/c.tif', 's3://bucket/x/d.tif'].map((uri, i) => ({
        ...{ uri, contentId: 'id' },
        ...(i === 1 ? { mpp: 0.3 } : {}),
      }));
    }
    const dataset = await listDataset([], {
      entries: given(),
      signal: new AbortController().signal,
      onWarning: (message) => warnings.push(message),
      slideMpps: [
        { pattern: 'scans/*.tif', mpp: 0.2 },
        { pattern: '*.tif', mpp: 0.5 },
      ],
    });
    const refs = await Array.fromAsync(dataset.refs());
    await dataset.close();
    expect(refs.map(({ mpp }) => mpp)).toEqual([null, 0.3, 0.5, 0.5]);
    expect(new Set(refs.map(({ key }) => key)).size).toBe(4);
    expect(warnings).toEqual(['--slide-mpp: no slide without an mpp of its own fits scans/*.tif']);
  });

  it('leaves no file behind that holds it, also while it is open', async () => {
    const dir = await temporaryDirectory();
    vi.stubEnv('TMPDIR', dir);
    onTestFinished(() => void vi.unstubAllEnvs());
    const dataset = await datasetOf(slides);
    expect(readdirSync(dir)).toEqual([]);
    expect(await Array.fromAsync(dataset.refs())).toHaveLength(40);
    await dataset.close();
  });

  it('of 50,000 keys takes as much memory as one of 5,000', { timeout: 120_000 }, async () => {
    const seal = async (count: number) => {
      const script = resolve('test/fixtures/seal-many.ts');
      const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', script, String(count)]);
      return JSON.parse(stdout) as { digest: string; slides: number; read: number; peak: number };
    };
    const [small, large] = [await seal(5_000), await seal(50_000)];
    expect(large).toMatchObject({ slides: 50_000, read: 50_000 });
    // An array of them would be 15 MiB more.
    expect(large.peak - small.peak).toBeLessThan(5 * MiB);
  });
});
