import type { TissueOptions } from '../plan/plan.ts';
import type { Level, MppReading } from '../slide/slide.ts';

export interface InspectOptions {
  readonly slide: string;
  readonly tilePx: number;
  readonly mpp: number;
  readonly overlapPx: number;
  readonly tissue: TissueOptions;
  readonly slideMpp: number | null;
}

export interface InspectReport {
  readonly version: 1;
  readonly uri: string;
  readonly bytes: number;
  readonly format: string;
  readonly vendor: string;
  readonly objectivePower: number | null;
  readonly mpp: MppReading | null;
  readonly levels: readonly (Level & { readonly mpp: number | null; readonly codec: string })[];
  /** What a plan at these options would hold; an error's text where none can be made. */
  readonly plan:
    | {
        readonly level: number;
        readonly readPx: number;
        readonly resampled: boolean;
        readonly grid: number;
        readonly tiles: number;
        readonly tissueShare: number;
        readonly warnings: readonly string[];
      }
    | { readonly error: string; readonly next: string };
}

/** What a slide is, and what a plan would make of it. Writes nothing. */
export declare function inspect(options: InspectOptions): Promise<InspectReport>;
