import { MOST_FOLDER_FILES } from './folder.ts';
import type { ListedObject } from './list.ts';
import type { SourceEntry } from './manifest.ts';
import { folderContentId } from './parts.ts';
import { type FolderFile, type SeriesIndex, seriesUri } from './series.ts';

export interface GroupOptions {
  /** Tells the series of files. Without it all files of a folder are taken for one. */
  readonly series?: SeriesIndex;
  readonly onWarning?: (message: string) => void;
}

/**
 * The slides that the DICOM files of a folder are, given in the order of their names: one file is a slide by itself; the files of
 * one series are the folder; of several, each is a slide by its UID. Reports and annotations beside them are left out, which is
 * said. A file that does not tell its series is listed, to fail by name, or, beside a single series, the folder with it.
 */
export async function* slidesOfFolder(
  folder: string,
  files: readonly FolderFile[],
  { series, onWarning }: GroupOptions,
): AsyncGenerator<SourceEntry> {
  if (files.length === 1) return yield files[0]!;
  const whole = { uri: folder, ...idOf(files) };
  // What is too much to be told apart fails by the folder's name.
  if (series === undefined || files.length > MOST_FOLDER_FILES) return yield whole;
  const heads = await series.of(files);
  const groups = Map.groupBy(files.keys(), (i) => heads[i]?.series ?? null);
  const isSlide = (members: readonly number[]) => members.some((i) => heads[i]?.isWholeSlide);
  const known = [...groups].filter(([uid]) => uid !== null);
  if (known.filter(([, members]) => isSlide(members)).length <= 1) return yield whole;
  for (const [uid, members] of groups) {
    const group = members.map((i) => files[i]!);
    if (uid === null) yield* group;
    else if (!isSlide(members)) {
      onWarning?.(`${seriesUri(folder, uid)} was left out: it is no whole-slide image (files: ${group.length})`);
    } else if (group.length === 1) yield group[0]!;
    else yield { uri: seriesUri(folder, uid), ...idOf(group) };
  }
}

function idOf(files: readonly FolderFile[]): { contentId?: string } {
  const id = folderContentId();
  for (const { uri, contentId } of files) {
    if (contentId === undefined) return {};
    id.add(uri, contentId);
  }
  return { contentId: id.digest() };
}

/**
 * DICOM files of a listing, by the folder that holds them. Keys come in order, so that a folder is complete once a key comes that
 * does not lie in it: no more of them are held than lie in one another.
 */
export function dicomFolders(options: GroupOptions): {
  add(entry: ListedObject): void;
  /** The slides of the folders that `uri` is not in. */
  left(uri: string): AsyncGenerator<SourceEntry>;
} {
  const open: { readonly uri: string; readonly files: ListedObject[] }[] = [];
  return {
    add(entry) {
      const uri = entry.uri.slice(0, entry.uri.lastIndexOf('/') + 1);
      let folder = open.at(-1);
      if (folder?.uri !== uri) {
        folder = { uri, files: [] };
        open.push(folder);
      }
      folder.files.push(entry);
    },
    async *left(uri) {
      while (open.length > 0 && !uri.startsWith(open.at(-1)!.uri)) {
        const folder = open.pop()!;
        yield* slidesOfFolder(folder.uri, folder.files, options);
      }
    },
  };
}
