import type { MppReading } from '../../slide.ts';
import type { StoredLevel } from '../../stored-level.ts';

/** What a kind of TIFF says in its own way. */
export interface Vendor {
  readonly name: string;
  readonly mpp: MppReading | null;
  readonly objectivePower: number | null;
  /** Finest first. */
  readonly levels: readonly StoredLevel[];
}
