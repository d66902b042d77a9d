import { mkdirSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nightshift } from '../fixtures/cli.ts';
import { type Bench, bench } from '../fixtures/run.ts';
import { type WrittenInstance, writeDicom } from '../fixtures/slides/write-dicom.ts';
import { drawPicture, jpegTiles } from '../fixtures/slides/write-tiff.ts';

let b: Bench;
beforeAll(async () => {
  b = await bench();
  const frames = await jpegTiles(drawPicture(512, 512), 256);
  const good: WrittenInstance = { width: 512, height: 512, tile: 256, frames, spacing: ['0.0005', '0.0005'] };
  const put = (name: string, change: Partial<WrittenInstance> = {}) =>
    writeFileSync(b.path('in', name), writeDicom({ ...good, ...change }));
  mkdirSync(b.path('in/a'), { recursive: true });
  put('a/1.dcm');
  put('a/2.dcm', { flavor: 'LABEL', frames: frames.slice(0, 1) });
  put('jpeg-ls.dcm', { series: '1.4', transferSyntax: '1.2.840.10008.1.2.4.80' });
  put('no-spacing.dcm', { series: '1.5', spacing: null });
});
afterAll(() => b.dispose());

describe('DICOM that cannot be read', () => {
  it.each(['--dry-run', '--detach'])('is told at submit %s, with code, reason and next step', async (flag) => {
    const args = ['submit', b.path('in'), '--model', b.model, '--out', b.path('out'), '--redis', 'memory:', flag];
    const { code, stderr } = await nightshift(args, { cwd: b.dir });
    expect(code, stderr).toBe(3);
    expect(stderr).toContain('jpeg-ls.dcm: its transfer syntax 1.2.840.10008.1.2.4.80 (JPEG-LS) cannot be read');
    expect(stderr).toMatch(/\[slide-unsupported\]/);
    expect(stderr).toMatch(/\[mpp-missing\]/);
    expect(stderr).toContain('next: State it with --slide-mpp');
    if (flag === '--detach') expect(stderr).toContain('1 slide submitted');
  });

  it('is in the ledger before any worker has started', async () => {
    const { code, stdout, stderr } = await nightshift(['status', b.path('out'), '--json'], { cwd: b.dir });
    expect(code, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ state: 'running', slides: { total: 3, planned: 0, failed: 2 } });
  });
});
