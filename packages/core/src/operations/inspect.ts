import { availableParallelism } from 'node:os';
import { composeSource } from '../compose.ts';
import { isNightshiftError } from '../errors.ts';
import type { LeftOut, QcReport } from '../pipeline/progress.ts';
import { axisMpp } from '../plan/geometry.ts';
import { makePlan } from '../plan/make-plan.ts';
import type { Recipe, TissueOptions } from '../plan/plan.ts';
import { createDecodePool } from '../slide/decode-pool.ts';
import { resolveMpp } from '../slide/mpp.ts';
import { openSlide } from '../slide/open.ts';
import { readOverview } from '../slide/overview.ts';
import type { Level, MppReading, Slide } from '../slide/slide.ts';
import { mpp, tilePx } from '../units.ts';
import { judgeTiles } from './judge-tiles.ts';
import { leftOutTally, qcTally } from './qc-report.ts';

export interface InspectOptions {
  readonly slide: string;
  readonly tilePx: number;
  readonly mpp: number;
  readonly overlapPx: number;
  readonly tissue: TissueOptions;
  readonly slideMpp: number | null;
  readonly mppFromObjective?: boolean;
  /** With a filter, or with `qc`, every tile of the plan is read. */
  readonly filter?: Recipe['filter'];
  readonly qc?: boolean;
}

export interface InspectHooks {
  readonly signal: AbortSignal;
  readonly onTiles?: (done: number, total: number) => void;
}

export interface InspectReport {
  readonly version: 1;
  readonly uri: string;
  readonly bytes: number;
  readonly format: string;
  readonly vendor: string;
  readonly objectivePower: number | null;
  /** As the file or the person states it. */
  readonly mpp: MppReading | null;
  readonly levels: readonly (Level & {
    /** Of both axes, or across where pixels are not square. */
    readonly mpp: number | null;
    /** Where pixels are not square. */
    readonly mppDown?: number;
    readonly codec: string;
  })[];
  /** What a plan at these options would hold; an error's text where none can be made. */
  readonly plan:
    | {
        readonly level: number;
        readonly readPx: number;
        /** Where pixels are not square. */
        readonly readPxDown?: number;
        readonly resampled: boolean;
        readonly grid: number;
        readonly tiles: number;
        readonly leftOut: LeftOut;
        /** Tiles that cannot be read; null where they were not. */
        readonly unreadable: number | null;
        /** Null without `qc`. `embedded` are the tiles that a run would embed. */
        readonly qc: QcReport | null;
        readonly warnings: readonly string[];
      }
    | { readonly code: string; readonly error: string; readonly next: string };
}

/**
 * What a slide is, and what a plan would make of it. Writes nothing.
 * @throws the errors of opening a slide: `slide-not-found`, `slide-not-a-slide`, ...
 */
export async function inspect(options: InspectOptions, hooks: InspectHooks = NO_HOOKS): Promise<InspectReport> {
  const source = await composeSource(options.slide);
  const pool = createDecodePool({ threads: readsTiles(options) ? Math.max(1, availableParallelism() - 1) : 1 });
  try {
    const slide = await openSlide(source);
    const stated = statedMpp(slide, options);
    return {
      version: 1,
      uri: source.uri,
      bytes: source.size,
      format: slide.format,
      vendor: slide.vendor,
      objectivePower: slide.objectivePower,
      mpp: stated,
      levels: slide.levels.map((level, index) => ({
        ...level,
        ...levelMpp(stated, level.downsample),
        codec: slide.codec(index).kind,
      })),
      plan: await planOf(slide, options, pool, hooks),
    };
  } finally {
    await Promise.all([pool.close(), source.close()]);
  }
}

const NO_HOOKS: InspectHooks = { signal: new AbortController().signal };

const readsTiles = ({ filter = 'none', qc = false }: InspectOptions): boolean => filter !== 'none' || qc;

function levelMpp(
  stated: MppReading | null,
  downsample: number,
): Pick<InspectReport['levels'][number], 'mpp' | 'mppDown'> {
  if (stated === null) return { mpp: null };
  const { x, y } = axisMpp(stated);
  return { mpp: x * downsample, ...(x === y ? {} : { mppDown: y * downsample }) };
}

/** The person's word or estimate where there is one, else what the file says, plausible or not. */
function statedMpp(slide: Slide, { slideMpp, mppFromObjective }: InspectOptions): MppReading | null {
  if (slideMpp !== null) return resolveMpp(slide, mpp(slideMpp));
  try {
    return resolveMpp(slide, null, mppFromObjective);
  } catch {
    return slide.mpp;
  }
}

async function planOf(
  slide: Slide,
  options: InspectOptions,
  pool: ReturnType<typeof createDecodePool>,
  hooks: InspectHooks,
): Promise<InspectReport['plan']> {
  try {
    const reading = resolveMpp(
      slide,
      options.slideMpp === null ? null : mpp(options.slideMpp),
      options.mppFromObjective,
    );
    const overview = await readOverview(slide, { maxPixels: 1_000_000 }, pool, hooks.signal);
    const filter = options.filter ?? 'none';
    const tile = {
      ...{ px: tilePx(options.tilePx), mpp: mpp(options.mpp), overlap: tilePx(options.overlapPx) },
      resampling: 'bilinear' as const,
    };
    const whole = makePlan({
      slide,
      ref: { key: 'inspect', uri: slide.source.uri, contentId: slide.source.contentId, mpp: null },
      mpp: reading,
      overview,
      recipeId: 'inspect',
      shardTiles: 1024,
      ...(options.qc && { qc: true }),
      recipe: {
        version: 1,
        model: { name: 'inspect', digest: 'inspect', precision: 'fp32', embedding: 'cls', dims: 1 },
        tile,
        tissue: options.tissue,
        filter: 'none',
        slideMpp: null,
        limit: null,
      },
    });
    const judged = readsTiles(options) ? await judgeTiles(slide, whole, { filter, tile }, pool, hooks) : null;
    const { geometry, counts, warnings } = judged?.plan ?? whole;
    const [leftOut, qc] = [leftOutTally(), qcTally()];
    leftOut.add(counts);
    qc.add(judged?.qc ?? null);
    const { level, readPx, down, tilePx: px } = geometry;
    return {
      level,
      readPx,
      ...(down && { readPxDown: down.readPx }),
      resampled: [readPx, down?.readPx ?? readPx].some((side: number) => side !== px),
      grid: counts.grid,
      tiles: counts.planned,
      ...{ leftOut: leftOut.sum, unreadable: judged?.unreadable ?? null, qc: qc.report() },
      warnings,
    };
  } catch (error) {
    if (isNightshiftError(error)) return { code: error.code, error: error.message, next: error.next };
    throw error;
  }
}
