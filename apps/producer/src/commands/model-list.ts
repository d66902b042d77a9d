import { command, modelDirs, SHARED, table } from '@nightshift/cli';
import {
  CATALOG,
  type CatalogEntry,
  type FoundModel,
  isUnverified,
  listModels,
  modelPage,
  requireEntry,
} from '@nightshift/core';
import { cosineText } from '../model-lines.ts';

export const modelListCommand = command({
  name: 'model list',
  about: 'List the models that are here and those of the catalog, or tell all about one.',
  args: { usage: '[id]', min: 0, max: 1 },
  examples: [
    ['nightshift model list', 'in ./models, and the catalog'],
    ['nightshift model list uni2-h', 'all that the catalog knows of one'],
    ['nightshift model list --models /data/models --json', 'elsewhere, for a program'],
  ],
  details: [
    'A question mark stands behind what was not seen in the files of the authors. `share`: whether the licence lets you give a\n' +
      'converted model to others.',
  ],
  flags: { models: SHARED.models },
  async run({ args, flags, terminal }) {
    const dirs = modelDirs(flags.models);
    const found = await listModels(dirs);
    const [id] = args;
    if (id !== undefined) {
      const entry = requireEntry(id);
      const here = found.filter(({ info }) => info.id === id);
      return {
        exit: 0,
        data: details(entry, here),
        notes: [],
        next: here.length === 0 ? [howToGet(entry)] : [],
        json: { entry, page: modelPage(entry), models: here.map(({ dir, info }) => ({ dir, ...info })) },
      };
    }
    const bold = (lines: readonly string[]) => lines.map((line, i) => (i === 0 ? terminal.paint('bold', line) : line));
    return {
      exit: 0,
      data: [...bold(modelTable(found)), ...(found.length > 0 ? [''] : []), ...bold(catalogTable(found))],
      notes: found.length === 0 ? [`no model in ${dirs.join(', ')}`] : [],
      next: found.length === 0 ? ['nightshift model pull midnight-12k'] : [],
      json: { models: found.map(({ dir, info }) => ({ dir, ...info })), catalog: CATALOG },
    };
  },
});

function modelTable(found: readonly FoundModel[]): string[] {
  if (found.length === 0) return [];
  const rows = found.map(({ dir, info }) => [
    info.name,
    info.trained ? 'trained' : 'random weights',
    info.precision,
    info.probe === null ? 'no probe' : cosineText(info.probe.cosine),
    `${info.inputPx} px`,
    `${info.mpp} um/px`,
    `${info.embedding} ${info.dims}`,
    info.licence,
    dir,
  ]);
  return table(rows, [
    'here',
    'weights',
    'precision',
    'cos to fp32',
    'input',
    'mpp',
    'embedding',
    'licence',
    'directory',
  ]);
}

const SHARE = { allowed: 'yes', forbidden: 'no', unclear: 'unclear' } as const;

function catalogTable(found: readonly FoundModel[]): string[] {
  const rows = CATALOG.map((entry) => {
    const { id, source, licence, derivatives, inputPx, mpp, embedding, dims, gflopPerTile } = entry;
    const doubt = (path: string) => (isUnverified(entry, path) ? '?' : '');
    return [
      `${id}${found.some(({ info }) => info.id === id) ? ' (here)' : ''}`,
      `${source.access}${doubt('source.access')}`,
      licence,
      derivatives === 'unclear' ? 'unclear' : `${SHARE[derivatives]}${doubt('derivatives')}`,
      `${inputPx} px`,
      `${mpp}${doubt('mpp')} um/px`,
      `${embedding} ${dims}`,
      gflopPerTile,
    ];
  });
  return table(rows, ['catalog', 'access', 'licence', 'share', 'input', 'mpp', 'embedding', 'GFLOP/tile']);
}

function details(entry: CatalogEntry, here: readonly FoundModel[]): string[] {
  const { source, architecture: a, resize } = entry;
  const rows: readonly (readonly [name: string, path: string, value: string])[] = [
    ['model', 'id', entry.id],
    ['title', 'title', entry.title],
    ['here', 'here', here.length === 0 ? 'no' : here.map(({ dir }) => dir).join(', ')],
    ['page', 'source.repository', modelPage(entry) ?? 'none: the weights are not public'],
    [
      'revision',
      'source.revision',
      source.revision ?? (source.repository === null ? 'none' : 'the newest: none is pinned'),
    ],
    ...source.weights.map(
      ({ path, sha256 }) => ['weights', 'source.weights', `${path}${sha256 ? `, sha256 ${sha256}` : ''}`] as const,
    ),
    ['access', 'source.access', source.access],
    ['licence', 'licence', entry.licence],
    ['share converted', 'derivatives', SHARE[entry.derivatives]],
    ...(entry.licenceNote === null ? [] : [['', 'licence', entry.licenceNote] as const]),
    ['architecture', 'architecture', `${a.depth} blocks of ${a.width}, ${a.heads} heads, ${a.mlp} ${a.mlpHidden}`],
    ['', 'architecture', `patch ${a.patchPx} px, ${a.registers} registers, LayerScale ${a.layerScale ? 'yes' : 'no'}`],
    ['norm epsilon', 'architecture.eps', a.eps.toExponential()],
    ['parameters', 'parameters', `${(entry.parameters / 1e6).toFixed(1)} million`],
    ['input', 'inputPx', `${entry.inputPx} px`],
    [
      'resize',
      'resize.filter',
      `shorter edge to ${resize.shortEdge} px (${resize.filter}), centre of ${entry.inputPx} px`,
    ],
    ...(entry.resizeNote === null ? [] : [['', 'resize', entry.resizeNote] as const]),
    ['mean', 'mean', entry.mean.join(', ')],
    ['std', 'std', entry.std.join(', ')],
    ['mpp', 'mpp', `${entry.mpp} um/px`],
    ['embedding', 'embedding', `${entry.embedding}, ${entry.dims} numbers; also ${entry.otherEmbeddings.join(', ')}`],
    ['cost', 'gflopPerTile', `${entry.gflopPerTile} GFLOP a tile`],
  ];
  return table(
    rows.map(([name, path, value]) => [name, `${value}${name && isUnverified(entry, path) ? '  (not verified)' : ''}`]),
  );
}

const howToGet = ({ id, source }: CatalogEntry): string =>
  source.access === 'unpublished' ? `nightshift model pull ${id} --from <file>` : `nightshift model pull ${id}`;
