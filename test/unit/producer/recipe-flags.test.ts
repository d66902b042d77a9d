import { readFlags } from '@nightshift/cli';
import { ruleFor } from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import { slideMpps, TILE_FLAGS } from '../../../apps/producer/src/commands/recipe-flags.ts';

const read = (...argv: string[]) =>
  slideMpps(readFlags(TILE_FLAGS, argv, { env: {}, cwd: '/nowhere', knownKeys: new Set() }).values.slideMpp);

describe('--slide-mpp', () => {
  it('is a number for every slide, or one for those that fit a glob', () => {
    expect(read()).toEqual({ slideMpp: null, slideMpps: [] });
    expect(read('--slide-mpp', '0.25')).toEqual({ slideMpp: 0.25, slideMpps: [] });
    expect(read('--slide-mpp', '*.tif=0.5', '--slide-mpp', '0.25', '--slide-mpp', 's3://b/a=b/*=1')).toEqual({
      slideMpp: 0.25,
      slideMpps: [
        { pattern: '*.tif', mpp: 0.5 },
        { pattern: 's3://b/a=b/*', mpp: 1 },
      ],
    });
  });

  it.each(['x', '', '*.tif=', '*.tif=x', '0.01', '*.tif=21', '=0.25x'])('%j is refused', (given) => {
    expect(() => read(`--slide-mpp=${given}`)).toThrow(expect.objectContaining({ code: 'usage' }));
  });

  it('fits by file name, or by the end of the path where the glob has a slash', () => {
    const fits = (pattern: string, uri: string) => ruleFor(uri, [{ pattern, mpp: 1 }]) !== null;
    expect(fits('*.tif', '/data/a.tif')).toBe(true);
    expect(fits('a.*', 's3://bucket/x/a.svs')).toBe(true);
    expect(fits('x/*', 's3://bucket/x/a.svs')).toBe(true);
    expect(fits('s3://bucket/**', 's3://bucket/x/y/a.svs')).toBe(true);
    expect(fits('/data/*.tif', '/data/a.tif')).toBe(true);
    expect(fits('y/*', 's3://bucket/x/a.svs')).toBe(false);
    expect(fits('data', '/data/a.tif')).toBe(false);
  });
});
