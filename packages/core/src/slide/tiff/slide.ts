import { NightshiftError } from '../../errors.ts';
import type { ByteSource } from '../../source/source.ts';
import { levelPx } from '../../units.ts';
import type { BlockCodec, BlockIndex, Level, Slide } from '../slide.ts';
import { recogniseVendor } from '../vendor.ts';
import { Tiff } from './ifd.ts';
import { type Page, pageCodec, readBlockIndex, readPage } from './page.ts';

/** A TIFF or BigTIFF file as a slide; null where the file is no TIFF. `headers` is the same source, cached. */
export async function openTiff(source: ByteSource, headers: ByteSource): Promise<Slide | null> {
  const opened = await Tiff.open(headers);
  if (opened === null) return null;
  const { tiff, ifds } = opened;
  const vendor = await recogniseVendor(tiff, ifds[0]!);
  const pages: Page[] = [];
  for (const ifd of [...ifds, ...(await tiff.subIfds(ifds[0]!))]) {
    const page = await readPage(tiff, ifd);
    if (page !== null) pages.push(page);
  }
  const chosen = vendor.levels(pages);
  if (chosen.length === 0) {
    throw new NightshiftError('slide-unsupported', `${source.uri} is a TIFF without a tiled page`);
  }
  const codecs: BlockCodec[] = [];
  for (const page of chosen) codecs.push(await pageCodec(tiff, page));
  const indexes: (Promise<BlockIndex> | undefined)[] = [];
  const base = chosen[0]!;

  return {
    source,
    format: tiff.bigTiff ? 'bigtiff' : 'tiff',
    vendor: vendor.name,
    levels: chosen.map((page) => level(page, base)),
    mpp: await vendor.mpp(tiff, base.ifd),
    objectivePower: vendor.objectivePower(),
    codec: (i) => codecs[i]!,
    blocks(i, signal) {
      indexes[i] ??= readBlockIndex(tiff, chosen[i]!, signal).catch((error: unknown) => {
        indexes[i] = undefined;
        throw error;
      });
      return indexes[i];
    },
    close: () => source.close(),
  };
}

function level(page: Page, base: Page): Level {
  return {
    width: levelPx(page.width),
    height: levelPx(page.height),
    downsample: page === base ? 1 : (base.width / page.width + base.height / page.height) / 2,
    blockWidth: levelPx(page.tileWidth),
    blockHeight: levelPx(page.tileHeight),
    columns: page.columns,
    rows: page.rows,
  };
}
