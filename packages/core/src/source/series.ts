import { isNightshiftError } from '../errors.ts';
import type { ByteSource } from './source.ts';

/** What the beginning of a DICOM file says of it. */
export interface DicomHead {
  /** Series Instance UID. */
  readonly series: string;
  /** False: a report, an annotation, an image of another kind. */
  readonly isWholeSlide: boolean;
}

/** A file of a folder, as a listing knows it. */
export interface FolderFile {
  readonly uri: string;
  /** As `ByteSource.contentId`; absent where nobody could tell. */
  readonly contentId?: string;
}

/** Tells the series of DICOM files, by reading their beginnings; what it has read once it knows. */
export interface SeriesIndex {
  /** null: no DICOM file, or one that cannot be read. */
  of(files: readonly FolderFile[]): Promise<readonly (DicomHead | null)[]>;
}

const READ_AT_ONCE = 32;
/** Files that are remembered: some 200 bytes each. */
const MOST_KNOWN = 200_000;

export function seriesIndex(
  open: (uri: string) => Promise<ByteSource>,
  readHead: (source: ByteSource) => Promise<DicomHead | null>,
): SeriesIndex {
  const known = new Map<string, DicomHead | null>();

  async function read(uri: string): Promise<DicomHead | null | undefined> {
    try {
      const source = await open(uri);
      return await readHead(source).finally(() => source.close());
    } catch (error) {
      if (isNightshiftError(error) && error.scope === 'slide') return undefined;
      throw error;
    }
  }

  async function headOf({ uri, contentId }: FolderFile): Promise<DicomHead | null> {
    const key = contentId === undefined ? null : `${uri}\t${contentId}`;
    const before = key === null ? undefined : known.get(key);
    if (before !== undefined) return before;
    const head = await read(uri);
    if (head === undefined) return null;
    if (known.size >= MOST_KNOWN) known.clear();
    if (key !== null) known.set(key, head);
    return head;
  }

  return {
    async of(files) {
      const heads = new Array<DicomHead | null>(files.length).fill(null);
      let next = 0;
      const reader = async () => {
        for (let i = next++; i < files.length; i = next++) heads[i] = await headOf(files[i]!);
      };
      await Promise.all(Array.from({ length: Math.min(READ_AT_ONCE, files.length) }, reader));
      return heads;
    },
  };
}

const SERIES = /^(.+)\/#([0-9][0-9.]{0,63})$/;

/** One of several series in a folder, as a slide's URI. */
export const seriesUri = (folder: string, series: string): string => `${folder.replace(/\/+$/, '')}/#${series}`;

/** The folder, ending in a slash, and the series that a URI names; null where it names none. */
export function parseSeriesUri(uri: string): { readonly folder: string; readonly series: string } | null {
  const match = SERIES.exec(uri);
  return match && { folder: `${match[1]}/`, series: match[2]! };
}
