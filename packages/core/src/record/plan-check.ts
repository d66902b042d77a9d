import { NightshiftError } from '../errors.ts';
import type { Plan } from '../plan/plan.ts';
import { firstNotFinite, type TileRows } from './arrow.ts';
import type { TileFailure } from './tile-file.ts';

/** A part of a plan: tiles [from, to). */
export interface PlanRange {
  readonly from: number;
  readonly to: number;
}

export interface PlanCheck {
  /** The next rows, in plan order. @throws `vector-not-finite`, or what `wrong` makes. */
  rows(rows: TileRows, dims: number): void;
  /** After the last rows. @throws what `wrong` makes when tiles or failures are left over. */
  end(): void;
}

const NO_PATCH = new Float16Array(0);

const at = (x: number | undefined, y: number | undefined): string => `${x},${y}`;

/**
 * Checks, as rows go by, that rows and failures together are the tiles of a range of the plan: each exactly once, rows in plan
 * order, every vector finite. `wrong` makes the error for what does not fit.
 */
export function planCheck(
  plan: Plan,
  range: PlanRange,
  failures: readonly TileFailure[],
  wrong: (what: string) => NightshiftError,
): PlanCheck {
  const failed = new Set(failures.map((failure) => at(failure.x, failure.y)));
  const here = () => at(plan.x[next], plan.y[next]);
  let next = range.from;
  let passed = 0;

  function passFailures(): void {
    while (next < range.to && failed.has(here())) {
      next += 1;
      passed += 1;
    }
  }

  return {
    rows({ x, y, vectors, patch = NO_PATCH, qc }, dims) {
      for (let i = 0; i < x.length; i++) {
        passFailures();
        if (next >= range.to || plan.x[next] !== x[i] || plan.y[next] !== y[i]) {
          const wanted = next < range.to ? `tile ${next} at ${here()}` : `no tile after ${range.to - 1}`;
          throw wrong(`a row at ${at(x[i], y[i])} where the plan has ${wanted}`);
        }
        next += 1;
      }
      const row = Math.max(firstNotFinite(vectors, dims), firstNotFinite(patch, patch.length / x.length));
      if (row >= 0) {
        const where = `${plan.slide.key} at ${at(x[row], y[row])}`;
        throw new NightshiftError('vector-not-finite', `the vector of ${where} holds NaN or infinity`);
      }
      for (const [measure, values] of Object.entries(qc ?? {})) {
        const unmeasured = firstNotFinite(values, 1);
        if (unmeasured >= 0) throw wrong(`qc_${measure} of ${at(x[unmeasured], y[unmeasured])} is NaN or infinity`);
      }
    },
    end() {
      passFailures();
      if (next !== range.to) throw wrong(`tile ${next} at ${here()} is neither a row nor a failure`);
      if (passed !== failures.length)
        throw wrong(`${failures.length - passed} failures are of no tile, or of one twice`);
    },
  };
}

/** The failures in plan order, as every file states them; those of no tile of the plan come last. */
export function inPlanOrder(plan: Plan, range: PlanRange, failures: readonly TileFailure[]): TileFailure[] {
  if (failures.length === 0) return [];
  const order = new Map<string, number>();
  for (let i = range.from; i < range.to; i++) order.set(at(plan.x[i], plan.y[i]), i);
  const rank = (failure: TileFailure) => order.get(at(failure.x, failure.y)) ?? range.to;
  return [...failures].sort((a, b) => rank(a) - rank(b));
}
