import { describe, expect, it } from 'vitest';
import {
  type Architecture,
  CATALOG,
  gflopPerTile,
  isUnverified,
  modelPage,
  requireEntry,
} from '../../../packages/core/src/model/catalog.ts';
import { modelsTable, readmeTable } from '../../fixtures/model/readme-table.ts';

/** Values of all tensors but the positions of the patches. */
function parameters({ depth, width, mlp, mlpHidden, patchPx, registers, layerScale }: Architecture): number {
  const attention = 4 * width * width + 4 * width;
  const gated = 3 * width * mlpHidden + 2 * mlpHidden + width;
  const plain = 2 * width * mlpHidden + mlpHidden + width;
  const norms = (layerScale ? 6 : 4) * width;
  const block = attention + (mlp === 'swiglu' ? gated : plain) + norms;
  return 3 * patchPx * patchPx * width + (4 + registers) * width + depth * block;
}

describe.each(CATALOG)('catalog entry $id', (entry) => {
  const { architecture, source } = entry;

  it('has an input of whole patches, heads that divide the width, and an embedding of its length', () => {
    expect(entry.inputPx % architecture.patchPx).toBe(0);
    expect(architecture.width % architecture.heads).toBe(0);
    expect(entry.resize.shortEdge).toBeGreaterThanOrEqual(entry.inputPx);
    expect(entry.dims).toBe(architecture.width * (entry.embedding === 'cls+mean' ? 2 : 1));
    const all = [entry.embedding, ...entry.otherEmbeddings].sort();
    expect(all).toEqual(['cls', 'cls+mean', 'mean', 'patch']);
  });

  it('states the cost and the size that follow from its architecture', () => {
    expect(entry.gflopPerTile).toBeCloseTo(gflopPerTile(architecture, entry.inputPx), 0);
    expect(parameters(architecture) / entry.parameters).toBeGreaterThan(0.99);
    expect(parameters(architecture) / entry.parameters).toBeLessThanOrEqual(1);
  });

  it('says where its weights are, or that they are nowhere', () => {
    expect(source.repository === null).toBe(source.access === 'unpublished');
    expect(source.weights.length > 0).toBe(source.repository !== null);
    if (source.revision !== null) expect(source.revision).toMatch(/^[0-9a-f]{40}$/);
    else if (source.repository !== null) expect(isUnverified(entry, 'source.revision')).toBe(true);
    for (const { path, sha256 } of source.weights) {
      expect(path).toMatch(/^[\w.-]+$/);
      if (sha256 !== undefined) expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    }
    expect(modelPage(entry)).toBe(source.repository && `https://huggingface.co/${source.repository}`);
  });

  it('says what its licence forbids', () => {
    if (/-ND/.test(entry.licence)) expect(entry.derivatives).toBe('forbidden');
    if (entry.derivatives !== 'allowed') expect(entry.licenceNote).toMatch(/./);
    if (entry.derivatives === 'unclear') expect(isUnverified(entry, 'derivatives')).toBe(true);
  });

  it('names in `unverified` only facts that it states', () => {
    for (const path of entry.unverified) {
      const fact = path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], entry);
      expect(fact, path).toBeDefined();
    }
  });
});

describe('the catalog', () => {
  it('holds every model of the results table, once', () => {
    const ids = CATALOG.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.sort()).toEqual([
      'dinov2-vitg14',
      'h-optimus-0',
      'hibou-l',
      'kaiko-b8',
      'lunit-s16',
      'midnight-12k',
      'midnight-92k',
      'midnight-92k-392',
      'phikon',
      'phikon-v2',
      'prov-gigapath',
      'uni',
      'uni2-h',
      'virchow2',
    ]);
  });

  it('is what the README says', () => {
    expect(readmeTable(), 'run: node test/fixtures/model/readme-table.ts').toBe(modelsTable());
  });

  it('tells its ids to who asks for another', () => {
    expect(() => requireEntry('midday')).toThrow(expect.objectContaining({ next: expect.stringContaining('uni2-h') }));
  });
});
