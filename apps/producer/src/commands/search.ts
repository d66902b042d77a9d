import { basename } from 'node:path';
import { command, counted, integer, list, modelDirs, quoted, SHARED, table, text, toggle } from '@nightshift/cli';
import { NightshiftError, type SearchOptions, search } from '@nightshift/core';

export const searchCommand = command({
  name: 'search',
  about: 'Find the tiles that look most like a picture or like a tile of the record.',
  args: { usage: '<out>', min: 1, max: 1 },
  examples: [
    ['nightshift search out --tile slide-1:4480,2240', 'tiles like this one (level-0 px of its top-left corner)'],
    ['nightshift search out --image tile.png -k 20', 'tiles like a picture'],
    ['nightshift search out --image tile.png --slide slide-2', 'in one slide only'],
    ['nightshift search out --tile slide-1:4480,2240 --contact-sheet hits.jpg', 'and draw them'],
  ],
  details: ['Prints one hit a line: rank, cosine similarity, slide, x, y (level-0 px).'],
  flags: {
    image: text({ about: 'picture to search by: PNG, JPEG, TIFF or WebP', placeholder: 'FILE' }),
    tile: text({ about: 'tile to search by', placeholder: 'SLIDE:X,Y' }),
    k: integer({ short: 'k', about: 'number of hits', unit: 'tiles', min: 1, max: 10_000, fallback: 10 }),
    slide: list({ about: 'search in this slide only: key, file name or stem', placeholder: 'SLIDE' }),
    metadata: toggle({ about: 'with --json: also what the manifest says of the slides of the hits' }),
    contactSheet: text({ about: 'write the query and its hits as one picture', placeholder: 'FILE.jpg' }),
    model: text({ ...SHARED.model, defaultText: "the run's" }),
    models: SHARED.models,
    store: SHARED.store,
    run: SHARED.run,
  },
  async run({ args, flags, terminal }) {
    const [out] = args as [string];
    const report = await search({
      out,
      run: flags.run,
      query: queryOf(flags.image, flags.tile),
      k: flags.k,
      slides: flags.slide,
      model: flags.model,
      modelDirs: modelDirs(flags.models),
      store: flags.store,
      contactSheet: flags.contactSheet,
      metadata: flags.metadata,
    });
    const { hits, contactSheet } = report;
    const best = hits[0];
    return {
      exit: 0,
      data: table(hits.map((hit, i) => [i + 1, hit.score.toFixed(4), hit.slide, hit.x, hit.y])),
      notes: [
        ...(hits.length === 0 ? [`${terminal.paint('yellow', '!')} no hit`] : []),
        ...(contactSheet === null
          ? []
          : [`${terminal.paint('green', '✓')} ${counted(hits.length, 'hit')} drawn in ${contactSheet}`]),
      ],
      next:
        best === undefined
          ? []
          : contactSheet === null
            ? [`nightshift search ${quoted(out)} ${queryFlag(flags)} --contact-sheet hits.jpg`]
            : [`nightshift search ${quoted(out)} --tile ${quoted(`${best.slide}:${best.x},${best.y}`)}`],
      json: report,
    };
  },
});

function queryOf(image: string | null, tile: string | null): SearchOptions['query'] {
  if ((image === null) === (tile === null)) {
    throw new NightshiftError('usage', image === null ? 'nothing to search by' : 'both --image and --tile are given', {
      next: 'Give one of --image FILE and --tile SLIDE:X,Y.',
    });
  }
  if (image !== null) return { image };
  const [, slide, x, y] = /^(.+):(\d+),(\d+)$/.exec(tile!) ?? [];
  if (slide === undefined) {
    throw new NightshiftError('usage', `--tile is "${tile}"`, {
      next: 'Give SLIDE:X,Y, with x and y in level-0 pixels: --tile slide-1:4480,2240.',
    });
  }
  return { slide: basename(slide), x: Number(x), y: Number(y) };
}

const queryFlag = ({ image, tile }: { image: string | null; tile: string | null }): string =>
  image === null ? `--tile ${quoted(tile!)}` : `--image ${quoted(image)}`;
