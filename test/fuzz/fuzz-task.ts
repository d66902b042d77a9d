/** What a child is to do: replay the files of `replay`, or invent inputs from those of `corpus`. */
export interface FuzzTask {
  readonly target: string;
  /** Folders and files of inputs. */
  readonly corpus: readonly string[];
  /** Inputs to invent; 0: the corpus alone. */
  readonly inputs: number;
  readonly seconds: number;
  readonly seed: number;
  /** Where the input in work is written, for whoever finds this process dead. */
  readonly current: string;
  readonly limits: Limits;
}

export type FuzzMessage =
  | { readonly type: 'finding'; readonly what: string; readonly input: string }
  /** An input that ran code which no earlier one had. */
  | { readonly type: 'new'; readonly input: string }
  | { readonly type: 'alive' }
  | { readonly type: 'report'; readonly report: FuzzReport };

export interface FuzzReport {
  readonly inputs: number;
  /** Inputs by the code that they were refused with, and those that were understood. */
  readonly outcomes: Readonly<Record<string, number>>;
  /** Functions of the core that ran, and characters of these that did not. */
  readonly functions: number;
  readonly missed: number;
  /** CPU seconds of the slowest input. */
  readonly slowest: number;
  readonly peakMiB: number;
}

/** What a bad file may cost, in CPU seconds. */
export interface Limits {
  readonly seconds: number;
  readonly MiB: number;
  /** Nothing heard for so long: the input in work never ends. Wall time, on a machine that does other work too. */
  readonly hangSeconds: number;
}
export const LIMITS: Limits = { seconds: 5, MiB: 512, hangSeconds: 120 };
