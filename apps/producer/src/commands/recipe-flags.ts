import {
  choice,
  type Flag,
  integer,
  modelDirs,
  needed,
  number,
  SHARED,
  text,
  toggle,
  type Values,
} from '@nightshift/cli';
import { FILTERS, type MppRule, NightshiftError, type SealOptions } from '@nightshift/core';

const PX = { unit: 'px', min: 16, max: 4096 } as const;
const MPP = { unit: 'um/px', min: 0.05, max: 20 } as const;

/** What decides which tiles a slide gives. */
export const TILE_FLAGS = {
  mpp: number({ ...MPP, about: 'resolution of the tiles, um/px', fallback: null, defaultText: "the model's" }),
  tile: integer({ ...PX, about: 'side of a tile, px', fallback: null, defaultText: "the model's input" }),
  overlap: integer({ unit: 'px', min: 0, max: 4095, about: 'pixels that neighbouring tiles share', fallback: 0 }),
  tissue: choice({ values: ['auto', 'none'], about: 'find tissue, or take the whole slide', fallback: 'auto' }),
  minTissue: number({ unit: 'share', min: 0, max: 1, about: 'least share of a tile that is tissue', fallback: 0.4 }),
  slideMpp: {
    many: true,
    required: false,
    placeholder: '[GLOB=]N',
    about: 'um/px of the slides at level 0, where they do not say it or say it wrong; with GLOB= of those that fit it',
    fallback: [],
    defaultText: 'as each slide states',
    parse: parseMppRule,
  } satisfies Flag<readonly MppRule[]> as Flag<readonly MppRule[]>,
  mppFromObjective: toggle({
    about: 'where a slide states no plausible um/px, reckon it from its objective power: 10 / power',
  }),
};

/** `0.25`, or `GLOB=0.25`; the pattern of the former is a single star. */
function parseMppRule(given: string): { readonly value: MppRule } | { readonly expected: string } {
  const [, pattern = EVERY, number = ''] = /^(?:(.+)=)?([^=]+)$/.exec(given) ?? [];
  const mpp = number.trim() === '' ? Number.NaN : Number(number);
  return mpp >= MPP.min && mpp <= MPP.max
    ? { value: { pattern, mpp } }
    : { expected: `a number from ${MPP.min} to ${MPP.max} (${MPP.unit}), alone or as GLOB=N: 'scans/*.tif=0.25'` };
}

const EVERY = '*';

/** The um/px of every slide, which is part of the recipe, and those of patterns. The last one given for every slide counts. */
export function slideMpps(rules: readonly MppRule[]): Pick<SealOptions, 'slideMpp' | 'slideMpps'> {
  return {
    slideMpp: rules.findLast(({ pattern }) => pattern === EVERY)?.mpp ?? null,
    slideMpps: rules.filter(({ pattern }) => pattern !== EVERY),
  };
}

/** What is looked for in the pixels of tiles. */
export const PIXEL_FLAGS = {
  filter: {
    ...choice({
      values: ['none', ...FILTERS],
      about: 'leave tiles out, e.g. hsv+pen: less than 60 % of H&E-coloured pixels, out of focus, drawn over',
      fallback: 'none',
    }),
    placeholder: 'hsv+blur+pen',
  },
  qc: toggle({
    about: 'measure every tile (H&E colours, sharpness, ink): columns beside the vectors, which stay the same',
  }),
};

/** What `embed` and `submit` have in common: the recipe, the record and the model. */
export const RUN_FLAGS = {
  model: needed(SHARED.model),
  out: SHARED.out,
  ...TILE_FLAGS,
  tissueOutlines: text({
    about: 'take tissue from outlines instead: a folder or s3:// prefix of <slide name>.geojson',
    placeholder: 'DIR',
  }),
  dctScaling: toggle({
    about: 'decode levels finer than the tiles at 1/2, 1/4 or 1/8: faster, and not quite the same pixels',
  }),
  ...PIXEL_FLAGS,
  embedding: choice({
    values: ['cls', 'mean', 'cls+mean', 'patch'],
    about: 'what of the model becomes the vector',
    fallback: null,
    defaultText: "the model's",
  }),
  limit: integer({
    unit: 'tiles',
    min: 1,
    max: Number.MAX_SAFE_INTEGER,
    about: 'at most so many tiles a slide, after the filter, spread evenly',
    fallback: null,
    defaultText: 'all',
  }),
  models: SHARED.models,
  store: SHARED.store,
  shardTiles: integer({ unit: 'tiles', min: 16, max: 65_536, about: 'tiles committed at once', fallback: 1024 }),
};

export const runOptions = (sources: readonly string[], flags: Values<typeof RUN_FLAGS>): SealOptions => ({
  sources,
  model: flags.model,
  modelDirs: modelDirs(flags.models),
  out: flags.out,
  tilePx: flags.tile,
  mpp: flags.mpp,
  overlapPx: flags.overlap,
  embedding: flags.embedding,
  tissue: { method: tissueMethod(flags), min: flags.minTissue },
  tissueOutlines: flags.tissueOutlines,
  dctScaling: flags.dctScaling,
  filter: flags.filter,
  ...slideMpps(flags.slideMpp),
  mppFromObjective: flags.mppFromObjective,
  limit: flags.limit,
  shardTiles: flags.shardTiles,
  qc: flags.qc,
  store: flags.store,
});

function tissueMethod({ tissue, tissueOutlines }: Values<typeof RUN_FLAGS>): SealOptions['tissue']['method'] {
  if (tissueOutlines === null) return tissue;
  if (tissue === 'auto') return 'outline';
  throw new NightshiftError('usage', '--tissue none takes the whole slide, --tissue-outlines what is drawn', {
    next: 'Leave one of them out.',
  });
}
