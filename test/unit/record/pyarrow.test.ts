import { join } from 'node:path';
import { fileBlobs, openRecord } from '@nightshift/core';
import { beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { canonicalJson, recipeId } from '../../../packages/core/src/plan/recipe.ts';
import { findPyarrow, type Pyarrow } from '../../fixtures/pyarrow.ts';
import { aPlan, aRecipe, aSlide, rowsOf, temporaryDirectory, vectorValue } from '../../fixtures/record.ts';

let pyarrow: Pyarrow | string;
beforeAll(async () => {
  pyarrow = await findPyarrow();
}, 300_000);

/** In CI a machine without pyarrow fails the test; elsewhere the test is skipped with the reason. */
function needPyarrow(context: TestContext): Pyarrow {
  if (typeof pyarrow === 'string') {
    if (process.env.CI) throw new Error(pyarrow);
    context.skip(pyarrow);
  }
  return pyarrow as Pyarrow;
}

const READ = `
import sys, json
import pyarrow as pa
file = pa.ipc.open_file(sys.argv[1])
table = file.read_all()
table.validate(full=True)
with open(sys.argv[1], 'rb') as stream:
    stream.seek(8)
    streamed = pa.ipc.open_stream(stream).read_all()
print(json.dumps({
    'types': [[f.name, str(f.type), f.nullable] for f in table.schema],
    'batches': [file.get_batch(i).num_rows for i in range(file.num_record_batches)],
    'x': table['x'].to_pylist(), 'y': table['y'].to_pylist(), 'vector': table['vector'].to_pylist(),
    'metadata': {k.decode(): v.decode() for k, v in table.schema.metadata.items()},
    'streamed': streamed.equals(table),
}))`;

describe('a slide file, read by pyarrow', () => {
  it('has the columns, rows and metadata that the design names', async (context) => {
    const python = needPyarrow(context);
    const dir = await temporaryDirectory();
    const record = await openRecord(fileBlobs(dir), { create: true });
    const recipe = aRecipe(3);
    const plan = aPlan(recipe, aSlide('CMU-1'), 7);
    const error = { code: 'tile-truncated', message: 'the file ends', next: 'x', data: { offset: 12 } } as const;
    const failures = [{ x: plan.x[5]!, y: plan.y[5]!, error }];
    await record.putShard(recipe, plan, { index: 0, from: 0, to: 4 }, rowsOf(plan, 3, 0, 4), []);
    await record.putShard(recipe, plan, { index: 1, from: 4, to: 7 }, rowsOf(plan, 3, 4, 7, [5]), failures);
    await record.publishSlide(recipe, plan);

    const id = recipeId(recipe);
    const found = await python(READ, join(dir, id, 'slides', `${plan.slide.key}.arrow`));
    const tiles = [0, 1, 2, 3, 4, 6];
    expect(found).toEqual({
      types: [
        ['x', 'int32', false],
        ['y', 'int32', false],
        ['vector', 'fixed_size_list<item: float not null>[3]', false],
      ],
      batches: [4, 2],
      x: tiles.map((i) => plan.x[i]),
      y: tiles.map((i) => plan.y[i]),
      vector: tiles.map((i) => [0, 1, 2].map((d) => vectorValue(i, d))),
      metadata: {
        'nightshift.version': '1',
        'nightshift.recipe_id': id,
        'nightshift.recipe': canonicalJson(recipe),
        'nightshift.model': 'demo',
        'nightshift.model_digest': 'a'.repeat(64),
        'nightshift.embedding': 'cls',
        'nightshift.dims': '3',
        'nightshift.slide_key': plan.slide.key,
        'nightshift.slide_uri': '/slides/CMU-1.svs',
        'nightshift.slide_content_id': '1000-1',
        'nightshift.slide_mpp': '',
        'nightshift.slide_width': '4480',
        'nightshift.slide_height': '224000',
        'nightshift.mpp_x': '0.25',
        'nightshift.mpp_y': '0.25',
        'nightshift.mpp_source': 'aperio',
        'nightshift.level': '0',
        'nightshift.tile_size': '448',
        'nightshift.planned': '7',
        'nightshift.shard': '',
        'nightshift.failures': JSON.stringify([
          { x: 2240, y: 0, code: 'tile-truncated', message: 'the file ends', data: { offset: 12 } },
        ]),
      },
      streamed: true,
    });
  });

  it('has the patch grids in a float16 column of their own, with their shape in the metadata', async (context) => {
    const python = needPyarrow(context);
    const dir = await temporaryDirectory();
    const record = await openRecord(fileBlobs(dir), { create: true });
    const { model, ...rest } = aRecipe(3);
    const recipe = { ...rest, model: { ...model, embedding: 'patch' as const, patch: { grid: 2, width: 3 } } };
    const plan = aPlan(recipe, aSlide('CMU-1'), 4);
    const grids = (from: number, to: number) =>
      Float16Array.from({ length: (to - from) * 12 }, (_, i) => from * 12 + i);
    const rows = (from: number, to: number) => ({ ...rowsOf(plan, 3, from, to), patch: grids(from, to) });
    await record.putShard(recipe, plan, { index: 0, from: 0, to: 3 }, rows(0, 3), []);
    await record.putShard(recipe, plan, { index: 1, from: 3, to: 4 }, rows(3, 4), []);
    await record.publishSlide(recipe, plan);
    const script = READ.replace("'metadata'", "'patch': table['patch'].to_pylist(), 'metadata'");
    const found = await python(script, join(dir, recipeId(recipe), 'slides', `${plan.slide.key}.arrow`));
    expect(found).toMatchObject({
      batches: [3, 1],
      patch: Array.from({ length: 4 }, (_, i) => [...grids(i, i + 1)]),
      metadata: { 'nightshift.patch_shape': '[2,2,3]', 'nightshift.embedding': 'patch' },
      streamed: true,
    });
    expect((found as { types: unknown[] }).types[3]).toEqual([
      'patch',
      'fixed_size_list<item: halffloat not null>[12]',
      false,
    ]);
  });
});
