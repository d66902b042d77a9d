import type { Terminal } from './terminal.ts';

/**
 * One key press may arrive twice: from the terminal, and again from a parent that passes signals on (npm does). A second
 * signal counts as the person's second one only after this pause.
 */
const SAME_PRESS_MS = 300;

export interface Signals {
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
  /** Stops listening. */
  close(): void;
}

export interface SignalOptions {
  readonly now?: () => number;
  readonly exit?: (code: number) => void;
}

/** The first signal drains, the second leaves at once with 130. */
export function onSignals(terminal: Terminal, options: SignalOptions = {}): Signals {
  const { now = () => performance.now(), exit = (code) => process.exit(code) } = options;
  const controller = new AbortController();
  let first: number | null = null;
  const handle = (): void => {
    if (first === null) {
      first = now();
      terminal.insist(
        'Stopping: what is in flight is handed back, what is done stays. Press Ctrl-C again to leave at once.',
      );
      controller.abort();
    } else if (now() - first > SAME_PRESS_MS) {
      terminal.status(null);
      terminal.insist('Left at once. The same command goes on where it stopped.');
      exit(130);
    }
  };
  process.on('SIGINT', handle);
  process.on('SIGTERM', handle);
  return {
    signal: controller.signal,
    close() {
      process.off('SIGINT', handle);
      process.off('SIGTERM', handle);
    },
  };
}
