import { levelPx } from '../units.ts';
import type { BlockCodec, BlockIndex, Level, Slide } from './slide.ts';

/** A level as a container stores it, px. */
export interface StoredLevel {
  readonly width: number;
  readonly height: number;
  readonly blockWidth: number;
  readonly blockHeight: number;
  readonly codec: BlockCodec;
  /** How the blocks are numbered where they do not lie side by side; see `BlockIndex.layout`. */
  readonly numbered?: { readonly columns: number; readonly rows: number };
  /** Where the container states it; else the mean of the ratios of the sides. */
  readonly downsample?: number;
  /** Reads where the blocks lie. The slide keeps the answer. */
  readIndex(signal?: AbortSignal): Promise<BlockIndex>;
}

/**
 * Whether a picture is the base made smaller by one factor, so one of its levels. Writers round the size of each level from the one
 * before: two pixels or 1 % of slack.
 */
export function sameAspect(picture: Size, base: Size): boolean {
  const height = (picture.width * base.height) / base.width;
  return Math.abs(picture.height - height) <= Math.max(2, picture.height / 100);
}

type Size = { readonly width: number; readonly height: number };

/** The slide of some levels, finest first. */
export function assembleSlide(
  facts: Pick<Slide, 'source' | 'format' | 'vendor' | 'mpp' | 'objectivePower'>,
  levels: readonly StoredLevel[],
): Slide {
  const indexes: (Promise<BlockIndex> | undefined)[] = [];
  return {
    ...facts,
    levels: levels.map((level) => describe(level, levels[0]!)),
    codec: (i) => levels[i]!.codec,
    blocks(i, signal) {
      indexes[i] ??= levels[i]!.readIndex(signal).catch((error: unknown) => {
        indexes[i] = undefined;
        throw error;
      });
      return indexes[i];
    },
    close: () => facts.source.close(),
  };
}

function describe(level: StoredLevel, base: StoredLevel): Level {
  const { width, height, blockWidth, blockHeight } = level;
  return {
    width: levelPx(width),
    height: levelPx(height),
    downsample: level === base ? 1 : (level.downsample ?? (base.width / width + base.height / height) / 2),
    blockWidth: levelPx(blockWidth),
    blockHeight: levelPx(blockHeight),
    columns: level.numbered?.columns ?? Math.ceil(width / blockWidth),
    rows: level.numbered?.rows ?? Math.ceil(height / blockHeight),
  };
}
