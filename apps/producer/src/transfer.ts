import { byteSize, duration, percent, type Terminal } from '@nightshift/cli';

const LIVE_EVERY_MS = 100;
const PLAIN_EVERY_MS = 10_000;
const BAR = 24;

export interface TransferView {
  /** Bytes of one thing; another `what` begins another bar. A null total is unknown. */
  update(what: string, done: number, total: number | null): void;
  /** Removes the live line. */
  end(): void;
}

/** A bar for bytes that come or are converted: one live line on a terminal, a plain line every ten seconds elsewhere. */
export function showTransfer(terminal: Terminal, now: () => number = () => performance.now()): TransferView {
  let started = { what: '', done: 0, at: 0 };
  let shown = terminal.live ? Number.NEGATIVE_INFINITY : now();
  return {
    update(what, done, total) {
      // What an earlier command left counts as done, not as speed.
      if (what !== started.what) started = { what, done, at: now() };
      if (now() - shown < (terminal.live ? LIVE_EVERY_MS : PLAIN_EVERY_MS)) return;
      shown = now();
      const seconds = (now() - started.at) / 1000;
      const speed = seconds > 0.5 ? (done - started.done) / seconds : 0;
      const facts = transferFacts(done, total, speed);
      if (!terminal.live) return terminal.say([what, ...facts].join(', '));
      const line = [bar(done, total), ...facts].join(' · ');
      const room = Math.max(0, terminal.width - 1 - line.length - 1);
      terminal.status(`${what.length > room ? '' : `${what} `}${line}`.slice(0, Math.max(0, terminal.width - 1)));
    },
    end: () => terminal.status(null),
  };
}

/** Most important first. `speed` in bytes a second. */
function transferFacts(done: number, total: number | null, speed: number): string[] {
  const facts = [total === null ? byteSize(done) : `${percent(total === 0 ? 1 : done / total)} of ${byteSize(total)}`];
  if (speed > 0) facts.push(`${byteSize(speed)}/s`);
  if (speed > 0 && total !== null && total > done) facts.push(`${duration((total - done) / speed)} left`);
  return facts;
}

function bar(done: number, total: number | null): string {
  const filled = total === null || total === 0 ? 0 : Math.min(BAR, Math.floor((BAR * done) / total));
  return `${'━'.repeat(filled)}${'┄'.repeat(BAR - filled)}`;
}
