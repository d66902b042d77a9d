import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { connect, type Table } from '@lancedb/lancedb';
import { fileBlobs } from '@nightshift/core';
import { type Table as ArrowTable, tableFromIPC, tableToIPC } from 'apache-arrow';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openLance } from '../../packages/core/src/store/lancedb.ts';
import { problemsOf } from '../fixtures/checker.ts';
import { type Cluster, type Yard, yard } from '../fixtures/faults/cluster.ts';

let y: Yard;
let cluster: Cluster;
beforeAll(async () => {
  y = await yard();
  cluster = y.cluster();
  await cluster.submit();
  await cluster.finish();
});
afterAll(() => y?.close());

/** A copy of the finished run, to be broken by hand. */
interface Copy {
  readonly out: string;
  readonly recipe: string;
  readonly redis: Redis;
  /** Path of a file of the record. */
  file(folder: string, name: RegExp): string;
  /** Rewrites the file of the slide `many`. */
  slide(change: (table: ArrowTable) => ArrowTable): void;
  store(change: (table: Table, row: Record<string, unknown>) => Promise<unknown>): Promise<void>;
}

let copies = 0;

async function problemsAfter(breaking: (copy: Copy) => unknown): Promise<string[]> {
  copies += 1;
  const out = y.path(`copy-${copies}`);
  const dir = `${out}-store`;
  cpSync(cluster.out, out, { recursive: true });
  cpSync(`${cluster.out}-store`, dir, { recursive: true });
  const recipe = readdirSync(out).find((name) => /^[0-9a-f]{12}$/.test(name))!;
  const url = `${y.redis.url}/${50 + copies}`;
  const redis = new Redis(url);
  const file = (folder: string, name: RegExp) => {
    const found = readdirSync(join(out, recipe, folder)).find((entry) => name.test(entry))!;
    return join(out, recipe, folder, found);
  };
  const store = await openLance({ dir, recipe, dims: dimsOf(file('slides', /^many/)) });
  try {
    await breaking({
      ...{ out, recipe, redis, file },
      slide(change) {
        const path = file('slides', /^many/);
        writeFileSync(path, tableToIPC(change(tableFromIPC(readFileSync(path))), 'file'));
      },
      async store(change) {
        const table = await (await connect(dir)).openTable(`tiles_${recipe}`);
        const [row] = await table.query().limit(1).toArray();
        await change(table, { ...row, vector: [...row.vector] });
      },
    });
    return await problemsOf({
      blobs: fileBlobs(out),
      reference: y.reference,
      redis: url,
      store: { dir, open: store },
    });
  } finally {
    await store.close();
    redis.disconnect();
  }
}

const dimsOf = (path: string): number => tableFromIPC(readFileSync(path)).getChild('vector')!.get(0).length;

function put(path: string, text = 'left'): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

const changeJson = <T>(path: string, change: (value: T) => unknown): void =>
  writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')) as T)));

type Plan = { x: number[]; y: number[] };

const BROKEN: readonly { readonly name: string; breaking(copy: Copy): unknown; readonly finds: RegExp }[] = [
  {
    name: 'a slide file that is gone',
    breaking: ({ file }) => rmSync(file('slides', /^one/)),
    finds: /neither a slide file nor in the ledger/,
  },
  { name: 'a row that is gone', breaking: ({ slide }) => slide((table) => table.slice(1)), finds: /^tiles of many/ },
  {
    name: 'a row that is there twice',
    breaking: ({ slide }) => slide((table) => table.concat(table.slice(0, 1))),
    finds: /^tiles of many.* is 2 times/,
  },
  {
    name: 'a vector that differs by a bit',
    breaking({ file }) {
      const bytes = readFileSync(file('slides', /^many/));
      bytes[bytes.length >> 1]! ^= 1;
      writeFileSync(file('slides', /^many/), bytes);
    },
    finds: /^slide files: many/,
  },
  {
    name: 'a tile that is a row and in the ledger',
    breaking({ out, recipe, file }) {
      const plan = JSON.parse(readFileSync(file('plans', /^many.*\.json$/), 'utf8')) as Plan;
      const error = { code: 'tile-truncated', message: 'm', next: 'n', data: {} };
      const tiles = [{ x: plan.x[0], y: plan.y[0], error }];
      const key = /many-[0-9a-f]+/.exec(file('slides', /^many/))![0];
      put(join(out, recipe, 'failures', `${key}.json`), JSON.stringify({ version: 1, slide: null, tiles }));
    },
    finds: /^tiles of many.* is 2 times/,
  },
  {
    name: 'a planned tile that nobody made',
    breaking: ({ file }) =>
      changeJson<Plan>(file('plans', /\.json$/), (plan) => ({ ...plan, x: [...plan.x, 0], y: [...plan.y, 0] })),
    finds: /^tiles of .* is not there, not 1 times/,
  },
  {
    name: 'a shard that was not dropped',
    breaking: ({ out, recipe }) => put(join(out, recipe, 'shards/many-1/00000.arrow')),
    finds: /shards\/many-1\/00000.arrow is left over/,
  },
  { name: 'a temporary file', breaking: ({ out }) => put(join(out, '.tmp/host-1-2')), finds: /\.tmp\/.* is left over/ },
  {
    name: 'a picture that is gone',
    breaking: ({ file }) => rmSync(file('qc', /^one/)),
    finds: /^one.* has no picture/,
  },
  {
    name: 'a vector that the store lacks',
    breaking: ({ store }) => store((table, row) => table.delete(`id = '${row.id}'`)),
    finds: /^the vector store: .* is not there, not 1 times/,
  },
  {
    name: 'a vector that the store holds twice',
    breaking: ({ store }) => store((table, row) => table.add([row])),
    finds: /^the vector store: .* is 2 times/,
  },
  {
    name: 'a vector of a slide that is in no run',
    breaking: ({ store }) => store((table, row) => table.add([{ ...row, id: 'z@1,1', slide: 'z' }])),
    finds: /^the vector store: z@1,1 is 1 times, not absent/,
  },
  {
    name: 'a vector that is another in the store',
    breaking: ({ store }) =>
      store(async (table, row) => {
        await table.delete(`id = '${row.id}'`);
        await table.add([{ ...row, vector: (row.vector as number[]).map((value) => -value) }]);
      }),
    finds: /^the vector store: .* has another vector than its slide file/,
  },
  {
    name: 'a job that still waits',
    breaking: ({ redis }) => redis.zadd('{nightshift}:plan:prioritized', 1, 'a'),
    finds: /^Redis still holds .*:prioritized/,
  },
  {
    name: 'a lock that nobody holds',
    breaking: ({ redis }) => redis.set('{nightshift}:plan:a:lock', 'token'),
    finds: /^Redis still holds .*:lock/,
  },
];

describe('the checker of the fault tests', () => {
  it('has nothing to say about a run that nothing happened to', async () => {
    expect(await problemsAfter(() => {})).toEqual([]);
  });

  it.each(BROKEN)('finds $name', async ({ breaking, finds }) => {
    expect(await problemsAfter(breaking)).toContainEqual(expect.stringMatching(finds));
  });
});
