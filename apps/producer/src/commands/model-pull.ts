import { choice, command, modelDirs, quoted, SHARED, text, toggle } from '@nightshift/cli';
import { CATALOG, HUB_ENDPOINT, modelPage, type Pulled, pullModel, requireEntry } from '@nightshift/core';
import { licenceLines, modelLines } from '../model-lines.ts';
import { showTransfer } from '../transfer.ts';

const FROM = {
  hub: 'downloaded and checked',
  cache: 'from the cache of the hub’s own tools',
  copy: 'from your copy',
  here: 'there already',
} as const satisfies Record<Pulled['source'], string>;

export const modelPullCommand = command({
  name: 'model pull',
  about: 'Download a model of the catalog, check it and convert it.',
  args: { usage: '<id>', min: 1, max: 1 },
  examples: [
    ['nightshift model pull midnight-12k', 'to ./models/midnight-12k'],
    ['nightshift model pull uni2-h --token-file ~/.hf-token', 'a gated model, with a token of your own'],
    ['nightshift model pull midnight-92k --from teacher.ckpt', 'from files that you hold: no network'],
  ],
  details: [
    `Models: ${CATALOG.map(({ id }) => id).join(', ')}.`,
    'The same command goes on where it stopped. A token is found where the tools of the hub keep it: HF_TOKEN, or the file that\n' +
      '`hf auth login` writes. It is sent to the endpoint only. HF_ENDPOINT, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are honoured.',
  ],
  flags: {
    to: text({ about: 'directory of models', placeholder: 'DIR', defaultText: 'the first of --models' }),
    models: SHARED.models,
    from: text({ about: 'a copy of the published files: nothing is downloaded', placeholder: 'DIR|FILE' }),
    endpoint: text({
      about: 'hub, or a mirror of it',
      placeholder: 'URL',
      defaultText: `HF_ENDPOINT, or ${HUB_ENDPOINT}`,
    }),
    tokenFile: text({ about: 'file that holds the token', placeholder: 'FILE' }),
    embedding: choice({
      values: ['cls', 'mean', 'cls+mean'],
      about: 'what becomes the vector',
      fallback: null,
      defaultText: "the authors'",
    }),
    patchGrid: toggle({ about: 'also give the grid of patch vectors' }),
    precision: choice({ values: ['fp32', 'fp16', 'int8'], about: 'of the converted model', fallback: 'fp32' }),
    replace: toggle({ about: 'make it again where it is there already' }),
    keepDownload: toggle({ about: 'keep the downloaded weights beside the model' }),
  },
  async run({ args, flags, terminal, signal }) {
    const entry = requireEntry(args[0]!);
    const { to, models, from, endpoint, tokenFile, embedding, patchGrid, precision, replace, keepDownload } = flags;
    terminal.say(`${entry.title}`);
    for (const line of licenceLines(entry, terminal)) terminal.say(line);
    const progress = showTransfer(terminal);
    let pulled: Pulled;
    try {
      pulled = await pullModel(
        {
          ...{ entry, from, endpoint, tokenFile, replace, keepDownload, signal },
          to: to ?? modelDirs(models)[0]!,
          convert: { patchGrid, precision, ...(embedding === null ? {} : { embedding }) },
        },
        ({ stage, file, done, total }) => progress.update(stage === 'convert' ? 'converting' : `${file}`, done, total),
      );
    } finally {
      progress.end();
    }
    const { dir, model, source, unchecked } = pulled;
    return {
      exit: 0,
      data: [],
      piped: [dir],
      notes: [
        ...modelLines(model, terminal),
        `  ${FROM[source]}: ${dir}`,
        ...unchecked.map(
          (file) =>
            `  ${terminal.paint('yellow', '!')} ${file}: the server states no digest, only its size was checked`,
        ),
      ],
      next: [`nightshift embed <source...> --model ${quoted(dir)} --out <dir>`],
      json: { dir, source, unchecked, page: modelPage(entry), model },
    };
  },
});
