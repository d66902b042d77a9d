import { choice, integer, number } from '@nightshift/cli';

const PX = { unit: 'px', min: 16, max: 4096 } as const;
const MPP = { unit: 'um/px', min: 0.05, max: 20 } as const;

/** What decides which tiles a slide gives. */
export const TILE_FLAGS = {
  mpp: number({ ...MPP, about: 'resolution of the tiles, um/px', fallback: null, defaultText: "the model's" }),
  tile: integer({ ...PX, about: 'side of a tile, px', fallback: null, defaultText: "the model's input" }),
  overlap: integer({ unit: 'px', min: 0, max: 4095, about: 'pixels that neighbouring tiles share', fallback: 0 }),
  tissue: choice({ values: ['auto', 'none'], about: 'find tissue, or take the whole slide', fallback: 'auto' }),
  minTissue: number({ unit: 'share', min: 0, max: 1, about: 'least share of a tile that is tissue', fallback: 0.4 }),
  slideMpp: number({
    ...MPP,
    about: 'um/px of the slides at level 0, where they do not say it or say it wrong',
    fallback: null,
    defaultText: 'as each slide states',
  }),
};
