import { describe, expect, it } from 'vitest';
import { canonicalJson, parseRecipe, recipeId, slideKey } from '../../../packages/core/src/plan/recipe.ts';
import { recipe } from './samples.ts';

describe('canonical JSON', () => {
  it('does not depend on the order of keys, and keeps the order of lists', () => {
    expect(canonicalJson({ b: [2, 1], a: { d: null, c: 'x' } })).toBe('{"a":{"c":"x","d":null},"b":[2,1]}');
  });

  it('leaves out what is undefined', () => {
    expect(canonicalJson({ a: undefined, b: 1 })).toBe('{"b":1}');
  });

  it.each([[Number.NaN], [Number.POSITIVE_INFINITY], [new Map()], [undefined], [1n]])('refuses %s', (value) => {
    expect(() => canonicalJson({ value: [value] })).toThrow(/no canonical JSON/);
  });
});

describe('the recipe id', () => {
  it('is 12 hex digits that stay the same from release to release', () => {
    expect(recipeId(recipe())).toBe('e20c2c6fb6e8');
  });

  it('changes with everything that decides a vector', () => {
    const changed = [
      recipe({ filter: 'hsv' }),
      recipe({ limit: 10 }),
      recipe({ tile: { ...recipe().tile, overlap: 1 as never } }),
      recipe({ model: { ...recipe().model, digest: 'other' } }),
    ];
    expect(new Set([recipe(), ...changed].map(recipeId)).size).toBe(1 + changed.length);
  });
});

describe('a slide key', () => {
  const safe = /^[A-Za-z0-9][A-Za-z0-9._-]{0,79}-[0-9a-f]{8}$/;

  it.each([
    ['/data/TCGA-CR-7395-01A-01-TS1.svs', /^TCGA-CR-7395-01A-01-TS1-[0-9a-f]{8}$/],
    ['s3://bucket/a b/Müller 1.2.ome.tif', /^Muller_1\.2-[0-9a-f]{8}$/],
    ['/data/series/', /^series-[0-9a-f]{8}$/],
    ['C:\\slides\\x.ndpi', /^x-[0-9a-f]{8}$/],
    ['/data/.svs', /^svs-[0-9a-f]{8}$/],
    ['/data/..', /^slide-[0-9a-f]{8}$/],
    ['/data/切片.svs', /^slide-[0-9a-f]{8}$/],
    ['', /^slide-[0-9a-f]{8}$/],
  ])('of %j is readable', (uri, expected) => {
    expect(slideKey(uri, 'id')).toMatch(expected);
    expect(slideKey(uri, 'id')).toMatch(safe);
  });

  it.each([
    ['..'],
    ['../../etc/passwd'],
    ['.'],
    ['a/../..'],
    ['x\0y'],
    ['-rf'],
    ['a'.repeat(500)],
    ['\n'],
    ['CON:aux|?*<>"'],
  ])('of the hostile %j is a harmless file name', (uri) => {
    expect(slideKey(uri, 'id')).toMatch(safe);
  });

  it('tells equal stems, replaced content and another mpp apart', () => {
    const keys = [
      slideKey('/a/x.svs', '1'),
      slideKey('/b/x.svs', '1'),
      slideKey('/a/x.svs', '2'),
      slideKey('/a/x.svs', '1', 0.25),
    ];
    expect(new Set(keys).size).toBe(4);
    expect(slideKey('/a/x.svs', '1', null)).toBe(keys[0]);
  });
});

describe('a stored recipe', () => {
  it('comes back as it was', () => {
    expect(parseRecipe(JSON.parse(JSON.stringify(recipe())))).toEqual(recipe());
  });

  it.each([
    [{ version: 2 }, /version/],
    [{ tissue: { method: 'auto', min: 1.5 } }, /tissue\.min/],
    [{ tile: { ...recipe().tile, overlap: 224 } }, /overlap/],
    [{ colour: 'red' }, /colour/],
  ])('with %j is refused by name', (change, message) => {
    expect(() => parseRecipe({ ...recipe(), ...change })).toThrow(message);
    expect(() => parseRecipe({ ...recipe(), ...change })).toThrow(expect.objectContaining({ code: 'record-corrupt' }));
  });
});
