import { Session } from 'node:inspector';

type Range = readonly [from: number, to: number];

/** Tells whether code ran that never ran before: V8's block coverage of single inputs, put together. */
export class Coverage {
  readonly #session = new Session();
  readonly #files: RegExp;
  /** What of each function that ran never did: disjoint, in order. */
  readonly #missed = new Map<string, readonly Range[]>();

  constructor(files: RegExp) {
    this.#files = files;
    this.#session.connect();
    this.#session.post('Profiler.enable');
    this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  /** Functions that ran, and characters of them that did not yet. */
  get state(): { readonly functions: number; readonly missed: number } {
    const missed = [...this.#missed.values()].flat().reduce((sum, [from, to]) => sum + to - from, 0);
    return { functions: this.#missed.size, missed };
  }

  /** True where something ran for the first time since the last call. */
  take(): boolean {
    let news = false;
    this.#session.post('Profiler.takePreciseCoverage', (error, taken) => {
      if (error !== null) throw error;
      for (const { url, functions } of taken.result) {
        if (!this.#files.test(url)) continue;
        for (const { ranges } of functions) {
          const [{ startOffset, endOffset, count }] = ranges as [(typeof ranges)[0]];
          if (count === 0) continue;
          const name = `${url}:${startOffset}:${endOffset}`;
          const before = this.#missed.get(name);
          // A stretch of code with the count of what is around it is not told apart from it.
          const now = ranges
            .filter((range) => range.count === 0)
            .map((range): Range => [range.startOffset, range.endOffset]);
          const missed = before === undefined ? now : intersect(before, now);
          news ||= before === undefined || lengthOf(missed) < lengthOf(before);
          this.#missed.set(name, missed);
        }
      }
    });
    return news;
  }
}

function intersect(a: readonly Range[], b: readonly Range[]): Range[] {
  const both: Range[] = [];
  for (const [from, to] of a) {
    for (const [start, end] of b) if (start < to && end > from) both.push([Math.max(from, start), Math.min(to, end)]);
  }
  return both;
}

const lengthOf = (ranges: readonly Range[]): number => ranges.reduce((sum, [from, to]) => sum + to - from, 0);
