import type { ByteRange, ByteSource } from '../source/source.ts';
import type { LevelPx, Mpp } from '../units.ts';
import type { BlockLayout } from './layout.ts';

/**
 * Where a slide's mpp was found. `override` is the person's own word (`--slide-mpp` or a manifest column); `estimate` is reckoned from the
 * objective power, where the person asked for that.
 */
export type MppSource = 'aperio' | 'tiff-resolution' | 'ome' | 'dicom' | 'vendor' | 'override' | 'estimate';

export interface MppReading {
  readonly x: Mpp;
  readonly y: Mpp;
  readonly source: MppSource;
}

/** One stored resolution. Level 0 is the finest; levels are ordered by `downsample`, whatever their order in the file. */
export interface Level {
  readonly width: LevelPx;
  readonly height: LevelPx;
  /** Level-0 pixels per pixel of this level: as the container states it, or the mean of the width and height ratios (OpenSlide's rule); 1 at level 0. */
  readonly downsample: number;
  /** Size of a compressed block (TIFF tile, DICOM frame) in pixels of this level. */
  readonly blockWidth: LevelPx;
  readonly blockHeight: LevelPx;
  /** How the blocks are numbered, and how they lie but where the `BlockIndex` has a layout. */
  readonly columns: number;
  readonly rows: number;
}

/** How the blocks of a level are compressed. Plain data: it crosses threads. */
export type BlockCodec =
  | {
      readonly kind: 'jpeg';
      /** Bytes put in place of a block's SOI: SOI, an APP14 marker where the container states the colour space, tables. */
      readonly prefix: Uint8Array;
    }
  | {
      /** Blocks are stretches of one large JPEG between restart markers. */
      readonly kind: 'jpeg-stretch';
      /** The large picture's header, with the width of a block. */
      readonly header: Uint8Array;
      /** Where in the header the height stands. */
      readonly heightAt: number;
      readonly mcuHeight: number;
    }
  | {
      readonly kind: 'jpeg2000';
      /** The container says that the components are YCbCr, which the codestream does not know. */
      readonly yCbCr: boolean;
    }
  | { readonly kind: 'png' | 'bmp' }
  /** Decoded by OpenSlide already, or what went wrong there: see `codec/openslide.ts`. */
  | { readonly kind: 'openslide' }
  | {
      readonly kind: 'raw' | 'deflate' | 'lzw';
      /** TIFF's: 1 none, 2 horizontal differences. */
      readonly predictor: 1 | 2;
    };

export interface BlockIndex {
  /** Bytes of block (column, row) as the file states them, unchecked; null where a sparse file stores none. */
  range(column: number, row: number): ByteRange | null;
  /** Of blocks that do not lie side by side from the origin. Where none lies nobody scanned. */
  readonly layout?: BlockLayout;
}

/**
 * An open whole-slide image: metadata in memory, pixels as compressed blocks behind byte ranges. It decodes nothing.
 * Label and macro pictures are not levels and are never read.
 */
export interface Slide {
  readonly source: ByteSource;
  /** Container: `tiff`, `bigtiff`, `dicom`, `mirax`, `png`, `jpeg`; `openslide` where OpenSlide reads it. */
  readonly format: string;
  /** `aperio`, `generic-tiff`, `hamamatsu`, ... */
  readonly vendor: string;
  readonly levels: readonly Level[];
  /** As the file states it, unchecked; null where it states none. */
  readonly mpp: MppReading | null;
  readonly objectivePower: number | null;
  codec(level: number): BlockCodec;
  /** Where the blocks of a level lie. Read at the first call (megabytes for a large level), then kept. */
  blocks(level: number, signal?: AbortSignal): Promise<BlockIndex>;
  close(): Promise<void>;
}
