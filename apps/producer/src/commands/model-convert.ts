import { choice, command, integer, needed, number, quoted, text, toggle, triple } from '@nightshift/cli';
import { CATALOG, convertModel, type ModelInfo, POS_INTERPOLATIONS, type PosInterpolation } from '@nightshift/core';
import { licenceLines, modelLines } from '../model-lines.ts';
import { showTransfer } from '../transfer.ts';

export const modelConvertCommand = command({
  name: 'model convert',
  about: 'Make a model directory (ONNX) from published weights.',
  args: { usage: '<dir|file>', min: 1, max: 1 },
  examples: [
    ['nightshift model convert download/ --to models/midnight --id midnight-12k', 'Midnight, as its authors use it'],
    [
      'nightshift model convert my.safetensors --to models/mine --embedding cls',
      'weights of your own, in a known layout',
    ],
  ],
  details: [
    'Reads safetensors (also in several files) and what torch.save writes, in which nothing is ever run: a checkpoint that asks for\n' +
      'anything but tensors is refused. Of a training checkpoint the teacher is taken.',
    'The layout is recognised from the names and shapes of the tensors and from config.json beside them. --id adds what the\n' +
      'catalog knows and checks it against the shapes; other flags override both. The weights stay where they are.',
    'When the model is written it is run on a few tiles, and the vectors of its float32 graph are kept as its probe: every machine\n' +
      'that runs it is checked against them. For fp16 and int8 the float32 graph is written for that moment too.',
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
    precision: choice({
      values: ['fp32', 'fp16', 'int8'],
      about: 'of the weights and matrix products; int8 is a draft for CPUs',
      fallback: 'fp32',
    }),
    noProbe: toggle({ about: 'keep no vectors to check machines with; model.json says so' }),
    input: integer({ about: 'side of the input, px', unit: 'px', min: 14, max: 4096, fallback: null }),
    mean: triple({ about: 'mean of each channel', placeholder: 'R,G,B' }),
    std: triple({ about: 'standard deviation of each channel', placeholder: 'R,G,B' }),
    mpp: number({ about: 'resolution the model expects', unit: 'um/px', min: 0.05, max: 20, fallback: null }),
    eps: number({ about: 'epsilon of the layer norms', unit: '', min: 0, max: 1, fallback: null }),
    posInterpolation: choice<PosInterpolation>({
      values: Object.keys(POS_INTERPOLATIONS) as PosInterpolation[],
      about: 'how positions are brought to another input size',
      fallback: null,
      defaultText: 'as the library that the names are of',
    }),
    heads: integer({ about: 'attention heads', unit: 'heads', min: 1, max: 256, fallback: null }),
    licence: text({ about: 'licence of the weights, kept in model.json', placeholder: 'NAME' }),
  },
  async run({ args, flags, terminal }) {
    const [from] = args as [string];
    const {
      to,
      id,
      name,
      embedding,
      patchGrid,
      precision,
      noProbe,
      input,
      mean,
      std,
      mpp,
      eps,
      heads,
      posInterpolation,
      licence,
    } = flags;
    const progress = showTransfer(terminal);
    let info: ModelInfo;
    try {
      info = await convertModel(
        {
          from,
          to,
          ...given({ id, name, embedding, inputPx: input, mean, std, mpp, eps, heads, posInterpolation, licence }),
          patchGrid,
          precision,
          probe: !noProbe,
        },
        (done, total, stage) =>
          stage === 'probing' ? terminal.status('running the probe') : progress.update(stage, done, total),
      );
    } finally {
      progress.end();
    }
    return {
      exit: 0,
      data: [],
      piped: [to],
      notes: [...modelLines(info, terminal), ...licenceLines(info, terminal)],
      next: [`nightshift embed <source...> --model ${quoted(to)} --out <dir>`],
      json: { dir: to, model: info },
    };
  },
});

/** Only what was said: the converter takes the rest from the weights. */
function given<T extends object>(options: T): { [K in keyof T]?: NonNullable<T[K]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== null)) as never;
}
