import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Blobs, NightshiftError } from '@nightshift/core';
import { beforeEach, describe, expect, it } from 'vitest';

export interface BlobsUnderTest {
  readonly blobs: Blobs;
  /** Arguments of node for a process that begins to write `key` to the same place, says "half written" and goes on for ever. */
  readonly writer: (key: string) => readonly string[];
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const read = async (blobs: Blobs, key: string): Promise<string | null> => {
  const found = await blobs.get(key);
  return found && new TextDecoder().decode(found);
};

async function listed(blobs: Blobs, prefix: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of blobs.list(prefix)) keys.push(key);
  return keys;
}

async function* chunks(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield text(part);
}

/** What every driver of `Blobs` promises. `open` gives an empty place. */
export function blobsContract(name: string, open: () => Promise<BlobsUnderTest>): void {
  describe(`blobs: ${name}`, () => {
    let blobs: Blobs;
    let writer: BlobsUnderTest['writer'];
    beforeEach(async () => {
      ({ blobs, writer } = await open());
    });

    it('gives back what was put, whole and by ranges', async () => {
      expect(await blobs.putIfAbsent('a/b.bin', text('0123456789'))).toBe('written');
      expect(await read(blobs, 'a/b.bin')).toBe('0123456789');
      const source = (await blobs.open('a/b.bin'))!;
      expect(source.size).toBe(10);
      const parts = await source.read([
        { offset: 7, length: 3 },
        { offset: 0, length: 0 },
        { offset: 1, length: 2 },
      ]);
      expect(parts.map((part) => new TextDecoder().decode(part))).toEqual(['789', '', '12']);
      await source.close();
    });

    it('refuses a range that leaves the blob', async () => {
      await blobs.put('short', text('abc'));
      const source = (await blobs.open('short'))!;
      await expect(source.read([{ offset: 2, length: 2 }])).rejects.toThrow(NightshiftError);
      await source.close();
    });

    it('has nothing under a name that nobody put', async () => {
      expect(await blobs.get('nothing/here')).toBeNull();
      expect(await blobs.open('nothing/here')).toBeNull();
      await blobs.delete('nothing/here');
    });

    it('takes an empty blob and a blob in parts', async () => {
      await blobs.putIfAbsent('empty', new Uint8Array(0));
      await blobs.putIfAbsent('parts', chunks('one ', '', 'two'));
      expect([await read(blobs, 'empty'), await read(blobs, 'parts')]).toEqual(['', 'one two']);
    });

    it('takes a long body from several writers at once, and keeps one of them whole', async () => {
      const MiB = 1 << 20;
      async function* long(writer: number) {
        for (let i = 0; i < 20; i++) yield new Uint8Array(MiB).fill(writer * 20 + i);
      }
      const results = await Promise.all([0, 1, 2, 3].map((writer) => blobs.putIfAbsent('long', long(writer))));
      expect(results.filter((result) => result === 'written')).toHaveLength(1);
      const winner = results.indexOf('written');
      const found = (await blobs.get('long'))!;
      expect(found.length).toBe(20 * MiB);
      for (let i = 0; i < 20; i++)
        expect([found[i * MiB], found[(i + 1) * MiB - 1]]).toEqual([winner * 20 + i, winner * 20 + i]);
      expect(await listed(blobs, '')).toEqual(['long']);
      expect(await blobs.putIfAbsent('long', long(0))).toBe('exists');
    });

    it('keeps the first of two writers and tells the second', async () => {
      expect(await blobs.putIfAbsent('once', text('first'))).toBe('written');
      expect(await blobs.putIfAbsent('once', chunks('second'))).toBe('exists');
      expect(await read(blobs, 'once')).toBe('first');
    });

    it('has exactly one winner of 32 that write at once, and its content', async () => {
      const writers = Array.from({ length: 32 }, (_, i) => i);
      const results = await Promise.all(writers.map((i) => blobs.putIfAbsent('race', chunks(`writer ${i} `, 'done'))));
      const winner = results.indexOf('written');
      expect(results.filter((result) => result === 'written')).toHaveLength(1);
      expect(await read(blobs, 'race')).toBe(`writer ${winner} done`);
      expect(await listed(blobs, '')).toEqual(['race']);
    });

    it('replaces with put, and never shows a part of either version', async () => {
      const size = 1 << 20;
      const versions = [1, 2, 3, 4].map((value) => new Uint8Array(size).fill(value));
      await blobs.put('replaced', versions[0]!);
      let writing = true;
      const seen = new Set<number>();
      const reader = (async () => {
        while (writing) {
          const found = (await blobs.get('replaced'))!;
          expect(found.length).toBe(size);
          expect(found.every((value) => value === found[0])).toBe(true);
          seen.add(found[0]!);
        }
      })();
      for (const version of [...versions, ...versions]) await blobs.put('replaced', version);
      writing = false;
      await reader;
      expect(seen.size).toBeGreaterThan(0);
      expect((await blobs.get('replaced'))![0]).toBe(4);
    });

    it('shows a blob written in parts only once it is complete', async () => {
      const seenWhileWriting: (Uint8Array | null)[] = [];
      async function* watched() {
        yield text('first half, ');
        seenWhileWriting.push(await blobs.get('slow'));
        seenWhileWriting.push((await listed(blobs, '')).length > 0 ? text('listed') : null);
        yield text('second half');
      }
      await blobs.putIfAbsent('slow', watched());
      expect(seenWhileWriting).toEqual([null, null]);
      expect(await read(blobs, 'slow')).toBe('first half, second half');
    });

    it('leaves nothing of a body that fails, and passes its error on', async () => {
      async function* failing() {
        yield text('some');
        throw new NightshiftError('record-corrupt', 'the shard is damaged');
      }
      await expect(blobs.putIfAbsent('failed', failing())).rejects.toMatchObject({ code: 'record-corrupt' });
      await expect(blobs.put('failed', failing())).rejects.toMatchObject({ code: 'record-corrupt' });
      expect(await listed(blobs, '')).toEqual([]);
      expect(await blobs.putIfAbsent('failed', text('later'))).toBe('written');
    });

    it('shows nothing of a writer that is killed half way, and lets another write', async () => {
      const child = spawn(process.execPath, [...writer('killed/blob')], { stdio: ['ignore', 'pipe', 'inherit'] });
      const exited = once(child, 'exit');
      await once(child.stdout, 'data');
      child.kill('SIGKILL');
      await exited;
      expect(await blobs.get('killed/blob')).toBeNull();
      expect(await listed(blobs, '')).toEqual([]);
      expect(await blobs.putIfAbsent('killed/blob', text('mine'))).toBe('written');
      expect(await read(blobs, 'killed/blob')).toBe('mine');
    });

    it('lists keys under a prefix with sizes, ordered by the whole key', async () => {
      for (const key of ['b/2', 'b-1', 'b/10', 'a', 'b/c/d', 'bb', 'c']) await blobs.put(key, text(key));
      expect(await listed(blobs, '')).toEqual(['a', 'b-1', 'b/10', 'b/2', 'b/c/d', 'bb', 'c']);
      expect(await listed(blobs, 'b/')).toEqual(['b/10', 'b/2', 'b/c/d']);
      expect(await listed(blobs, 'b/c')).toEqual(['b/c/d']);
      expect(await listed(blobs, 'b')).toEqual(['b-1', 'b/10', 'b/2', 'b/c/d', 'bb']);
      expect(await listed(blobs, 'none/')).toEqual([]);
      for await (const { key, size } of blobs.list('')) expect(size).toBe(key.length);
    });

    it('deletes one blob and no other', async () => {
      for (const key of ['d/1', 'd/2']) await blobs.put(key, text(key));
      await blobs.delete('d/1');
      expect(await listed(blobs, 'd')).toEqual(['d/2']);
      await blobs.delete('d/2');
      expect(await listed(blobs, '')).toEqual([]);
      expect(await blobs.putIfAbsent('d/1', text('again'))).toBe('written');
    });

    it('writes into a folder while others empty it', async () => {
      const rounds = Array.from({ length: 50 }, (_, i) => `folder/sub/${i}`);
      await Promise.all(
        rounds.map(async (key) => {
          expect(await blobs.putIfAbsent(key, text(key))).toBe('written');
          await blobs.delete(key);
        }),
      );
      expect(await listed(blobs, '')).toEqual([]);
    });

    it('refuses keys that leave it', async () => {
      for (const key of ['', '/etc/passwd', '../up', 'a/../../up', 'a//b', './a', 'a/', 'nul\0', 'back\\slash']) {
        await expect(blobs.put(key, text('x')), JSON.stringify(key)).rejects.toThrow(NightshiftError);
        await expect(blobs.get(key), JSON.stringify(key)).rejects.toThrow(NightshiftError);
        await expect(blobs.delete(key), JSON.stringify(key)).rejects.toThrow(NightshiftError);
      }
    });

    it('probes without leaving anything', async () => {
      await blobs.probe();
      expect(await listed(blobs, '')).toEqual([]);
    });
  });
}
