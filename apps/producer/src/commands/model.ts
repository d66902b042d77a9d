import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  byteSize,
  choice,
  command,
  count,
  integer,
  modelDirs,
  needed,
  number,
  percent,
  quoted,
  SHARED,
  table,
  text,
  toggle,
  triple,
} from '@nightshift/cli';
import { CATALOG, convertModel, isNightshiftError, type ModelInfo, readModel } from '@nightshift/core';

export const modelListCommand = command({
  name: 'model list',
  about: 'List the models that are here, and those of the catalog.',
  args: { usage: '', min: 0, max: 0 },
  examples: [
    ['nightshift model list', 'in ./models'],
    ['nightshift model list --models /data/models', 'elsewhere'],
  ],
  flags: { models: SHARED.models },
  async run({ flags }) {
    const dirs = modelDirs(flags.models);
    const found = (await Promise.all(dirs.map(modelsIn))).flat();
    const rows = found.map(({ dir, info }) => [
      info.name,
      info.trained ? 'trained' : 'random weights',
      `${info.inputPx} px`,
      `${info.mpp} um/px`,
      `${info.embedding} ${info.dims}`,
      info.licence,
      dir,
    ]);
    const absent = CATALOG.filter(({ id }) => !found.some(({ info }) => info.id === id));
    return {
      exit: 0,
      data: [
        ...(rows.length === 0
          ? []
          : table(rows, ['name', 'weights', 'input', 'mpp', 'embedding', 'licence', 'directory'])),
        ...absent.map(
          ({ id, title, licence, source }) =>
            `${id}  not here: ${title}, ${licence}, https://huggingface.co/${source.repository}`,
        ),
      ],
      notes: rows.length === 0 ? [`no model in ${dirs.join(', ')}`] : [],
      next: rows.length === 0 ? ['nightshift model convert <download> --to models/midnight --id midnight-12k'] : [],
      json: {
        models: found.map(({ dir, info }) => ({ dir, ...info })),
        catalog: CATALOG,
      },
    };
  },
});

async function modelsIn(dir: string): Promise<{ dir: string; info: ModelInfo }[]> {
  const entries = await readdir(dir).catch(() => []);
  const models: { dir: string; info: ModelInfo }[] = [];
  for (const entry of entries.sort()) {
    const path = join(dir, entry);
    try {
      models.push({ dir: path, info: await readModel(path) });
    } catch (error) {
      if (!isNightshiftError(error, 'model-not-found', 'model-invalid')) throw error;
    }
  }
  return models;
}

export const modelConvertCommand = command({
  name: 'model convert',
  about: 'Make a model directory (ONNX) from published weights (safetensors).',
  args: { usage: '<dir|file>', min: 1, max: 1 },
  examples: [
    ['nightshift model convert download/ --to models/midnight --id midnight-12k', 'Midnight, as its authors use it'],
    [
      'nightshift model convert my.safetensors --to models/mine --embedding cls',
      'weights of your own, in a known layout',
    ],
  ],
  details: [
    'The layout is recognised from the names and shapes of the tensors and from config.json beside them. --id adds what the\n' +
      'catalog knows and checks it against the shapes; other flags override both. The weights stay where they are.',
  ],
  flags: {
    to: needed({ about: 'model directory to make; a model there is replaced', placeholder: 'DIR' }),
    id: text({ about: `catalog entry: ${CATALOG.map(({ id }) => id).join(', ')}`, placeholder: 'ID' }),
    name: text({ about: 'what to call the model', placeholder: 'NAME', defaultText: 'the id, or the folder' }),
    embedding: choice({
      values: ['cls', 'mean', 'cls+mean', 'patch'],
      about: 'what becomes the vector',
      fallback: null,
      defaultText: "the catalog's, or cls+mean",
    }),
    patchGrid: toggle({ about: 'also give the grid of patch vectors' }),
    input: integer({ about: 'side of the input, px', unit: 'px', min: 14, max: 4096, fallback: null }),
    mean: triple({ about: 'mean of each channel', placeholder: 'R,G,B' }),
    std: triple({ about: 'standard deviation of each channel', placeholder: 'R,G,B' }),
    mpp: number({ about: 'resolution the model expects', unit: 'um/px', min: 0.05, max: 20, fallback: null }),
    eps: number({ about: 'epsilon of the layer norms', unit: '', min: 0, max: 1, fallback: null }),
    heads: integer({ about: 'attention heads', unit: 'heads', min: 1, max: 256, fallback: null }),
    licence: text({ about: 'licence of the weights, kept in model.json', placeholder: 'NAME' }),
  },
  async run({ args, flags, terminal }) {
    const [from] = args as [string];
    const { to, id, name, embedding, patchGrid, input, mean, std, mpp, eps, heads, licence } = flags;
    let info: ModelInfo;
    try {
      info = await convertModel(
        {
          from,
          to,
          ...given({ id, name, embedding, inputPx: input, mean, std, mpp, eps, heads, licence }),
          ...(patchGrid ? { patchGrid } : {}),
        },
        (done, total) => terminal.status(`${percent(done / total)} of ${byteSize(total)}`),
      );
    } finally {
      terminal.status(null);
    }
    const { architecture, inputPx, dims, digest, files, trained } = info;
    return {
      exit: 0,
      data: [],
      piped: [to],
      notes: [
        `${terminal.paint('green', '✓')} ${info.name}: ${architecture.depth} blocks, ${architecture.width} wide, ` +
          `${count(architecture.parameters)} parameters, input ${inputPx} px, ${info.embedding} of ${count(dims)}` +
          `${trained ? '' : ' (random weights)'}`,
        `  ${byteSize(files.graph.bytes + files.data.bytes)}, digest ${digest.slice(0, 16)}`,
      ],
      next: [`nightshift embed <source...> --model ${quoted(to)} --out <dir>`],
      json: { dir: to, model: info },
    };
  },
});

/** Only what was said: the converter takes the rest from the weights. */
function given<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null)) as never;
}
