import { createHash } from 'node:crypto';
import { NightshiftError } from '../errors.ts';
import { bytes } from '../units.ts';
import type { ByteRange, ByteSource, SourcePart } from './source.ts';

/** Several files as one source: their bytes one after the other, in the order given. Closing it closes them. */
export function joinParts(uri: string, sources: readonly ByteSource[]): ByteSource {
  const parts: SourcePart[] = [];
  const id = folderContentId();
  let size = 0;
  for (const source of sources) {
    parts.push({ uri: source.uri, offset: size, size: source.size });
    id.add(source.uri, source.contentId);
    size += source.size;
  }

  async function readOne({ offset, length }: ByteRange, signal?: AbortSignal): Promise<Uint8Array> {
    const wanted: { source: ByteSource; range: ByteRange; at: number }[] = [];
    for (const [i, part] of parts.entries()) {
      const from = Math.max(offset, part.offset);
      const to = Math.min(offset + length, part.offset + part.size);
      if (from >= to) continue;
      wanted.push({ source: sources[i]!, range: { offset: from - part.offset, length: to - from }, at: from - offset });
    }
    const read = wanted.map(async ({ source, range }) => (await source.read([range], signal))[0]!);
    if (wanted.length === 1 && wanted[0]!.range.length === length) return read[0]!;
    const out = new Uint8Array(length);
    for (const [i, part] of (await Promise.all(read)).entries()) out.set(part, wanted[i]!.at);
    return out;
  }

  return {
    uri,
    size: bytes(size),
    contentId: id.digest(),
    parts,
    async read(ranges, signal) {
      for (const { offset, length } of ranges) {
        if (offset < 0 || length < 0 || offset + length > size) {
          const message = `${uri} has ${size} bytes; ${length} bytes from ${offset} were asked for`;
          throw new NightshiftError('slide-truncated', message, { data: { offset, length, size } });
        }
      }
      return Promise.all(ranges.map((range) => readOne(range, signal)));
    },
    async close() {
      await Promise.all(sources.map((source) => source.close()));
    },
  };
}

/** The content id of a folder: of the names and content ids of its files, which a listing knows too; in the order of the names. */
export function folderContentId(): { add(uri: string, contentId: string): void; digest(): string } {
  const hash = createHash('sha256');
  return {
    add: (uri, contentId) => void hash.update(`${uri.slice(uri.lastIndexOf('/') + 1)}\t${contentId}\n`),
    digest: () => hash.digest('hex').slice(0, 32),
  };
}
