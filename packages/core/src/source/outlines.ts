import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NightshiftError } from '../errors.ts';
import type { ObjectListing } from './list.ts';
import { resolveUri } from './manifest.ts';

/** Of an outline file. Contours of tissue have some kilobytes; cells of a whole slide do not belong here. */
export const MOST_OUTLINE_BYTES = 6 << 20;

/** A folder with an outline file a slide, on disk or in a store of objects. */
export interface OutlineFolder {
  readonly uri: string;
  /** The first of these files that is there, or null. @throws `usage` for one of more than 6 MiB */
  read(names: readonly string[]): Promise<{ readonly uri: string; readonly text: string } | null>;
}

/** @throws `source-not-found` where a folder of this machine is none */
export async function outlineFolder(
  folder: string,
  objects: (uri: string) => Promise<ObjectListing | null>,
): Promise<OutlineFolder> {
  const uri = resolveUri(folder, process.cwd()).replace(/\/+$/, '');
  const store = uri.includes('://') ? await objects(uri) : null;
  if (store === null) {
    const stats = await stat(uri).catch(() => null);
    if (!stats?.isDirectory()) throw new NightshiftError('source-not-found', `${folder} is no folder of outlines`);
  }
  const get =
    store === null
      ? (name: string) => fileText(join(uri, name))
      : (name: string) => objectText(store, `${uri}/${name}`);
  return {
    uri,
    async read(names) {
      for (const name of names) {
        const text = await get(name);
        if (text !== null) return { uri: `${uri}/${name}`, text };
      }
      return null;
    },
  };
}

async function fileText(path: string): Promise<string | null> {
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENAMETOOLONG') return null;
    throw new NightshiftError('source-not-found', `cannot read ${path}: ${cause.message}`, { cause });
  });
  if (file === null) return null;
  try {
    return await boundedText(path, file.createReadStream({ autoClose: false }));
  } finally {
    await file.close();
  }
}

const objectText = async (store: ObjectListing, uri: string): Promise<string | null> =>
  (await store.contentId(uri)) === null ? null : boundedText(uri, store.content(uri));

async function boundedText(uri: string, content: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of content) {
    bytes += part.length;
    if (bytes > MOST_OUTLINE_BYTES) {
      throw new NightshiftError('usage', `${uri} has more than ${MOST_OUTLINE_BYTES} bytes, too many for an outline`, {
        next: 'Export the annotations of tissue alone, without detections.',
      });
    }
    parts.push(part);
  }
  return new TextDecoder().decode(Buffer.concat(parts));
}

/**
 * Names that the outline of a slide may have: the slide's key (as this program writes outlines itself), its file name, and its file name
 * without the extension (QuPath, TRIDENT), each with `.geojson`.
 */
export function outlineNames(uri: string, key: string): string[] {
  const name =
    uri
      .replace(/\/#[^/]*$/, '')
      .replace(/[/\\]+$/, '')
      .split(/[/\\]/)
      .at(-1) ?? '';
  const stems = [key, name, name.replace(/\.[^.]+$/, ''), name.replace(/\.ome\.tiff?$/i, '')];
  return [...new Set(stems.filter((stem) => stem !== ''))].map((stem) => `${stem}.geojson`);
}
