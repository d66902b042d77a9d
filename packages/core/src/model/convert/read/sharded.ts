import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { NightshiftError } from '../../../errors.ts';
import { openFile } from './file.ts';
import type { TensorEntry, Weights } from './weights.ts';

const MAX_INDEX_BYTES = 10_000_000;
const MAX_SHARDS = 1000;

const Index = z.object({
  weight_map: z.record(z.string(), z.string().regex(/^(?!\.)[^/\\\p{Cc}]+$/u, 'not a plain file name')),
});

/**
 * Several files as one checkpoint: `model.safetensors.index.json`, whose `weight_map` says which file beside it holds which
 * tensor. Files and index must tell the same story.
 *
 * @throws NightshiftError `weights-not-found`, `weights-invalid`, `weights-unsupported`
 */
export async function openSharded(path: string, openShard: (path: string) => Promise<Weights>): Promise<Weights> {
  const invalid = (what: string) => new NightshiftError('weights-invalid', `${path}: ${what}`);
  const { weightMap, sha256 } = await readIndex(path, invalid);
  const names = [...new Set(weightMap.values())].sort();
  if (names.length > MAX_SHARDS) throw invalid(`${names.length} files, more than is allowed (${MAX_SHARDS})`);

  const shards = new Map<string, Weights>();
  const close = async () => {
    for (const shard of shards.values()) await shard.close();
  };
  try {
    for (const name of names) shards.set(name, await openShard(join(dirname(path), name)));
    const tensors = new Map<string, TensorEntry>();
    for (const [name, shardName] of weightMap) {
      const entry = shards.get(shardName)!.tensors.get(name);
      if (entry === undefined) throw invalid(`tensor ${name} is not in ${shardName}, where the index puts it`);
      tensors.set(name, entry);
    }
    for (const [shardName, shard] of shards) {
      const stray = [...shard.tensors.keys()].find((name) => weightMap.get(name) !== shardName);
      if (stray !== undefined) throw invalid(`${shardName} holds tensor ${stray}, which the index does not put there`);
    }
    return {
      file: path,
      size: [...shards.values()].reduce((sum, shard) => sum + shard.size, 0),
      tensors,
      async read(name, rows) {
        const shard = shards.get(weightMap.get(name) ?? '');
        if (shard === undefined)
          throw new NightshiftError('weights-unsupported', `${path}: there is no tensor ${name}`);
        return shard.read(name, rows);
      },
      async digest(onBytes) {
        const hash = createHash('sha256').update(`${sha256}\n`);
        for (const shard of shards.values()) hash.update(`${await shard.digest(onBytes)}\n`);
        return hash.digest('hex');
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function readIndex(path: string, invalid: (what: string) => Error) {
  const file = await openFile(path);
  try {
    if (file.size > MAX_INDEX_BYTES) throw invalid(`an index of ${file.size} bytes, more than ${MAX_INDEX_BYTES}`);
    const bytes = await file.read(0, file.size, 'the index');
    const parsed = Index.safeParse(parseJson(bytes.toString('utf8')));
    if (!parsed.success) throw invalid(`not an index of weights: ${z.prettifyError(parsed.error).split('\n')[0]}`);
    const weightMap: ReadonlyMap<string, string> = new Map(Object.entries(parsed.data.weight_map));
    return { weightMap, sha256: createHash('sha256').update(bytes).digest('hex') };
  } finally {
    await file.close();
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
