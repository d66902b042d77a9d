import { byteSize, counted, duration, percent, rate, type Terminal } from '@nightshift/cli';

const LIVE_EVERY_MS = 100;
const PLAIN_EVERY_MS = 10_000;
const BAR = 24;

export interface TransferView {
  /** Bytes, or what else the view counts, of one thing; another `what` begins another bar. A null total is unknown. */
  update(what: string, done: number, total: number | null): void;
  /** Removes the live line. */
  end(): void;
}

/** What a transfer counts, as text. */
interface Unit {
  amount(done: number): string;
  speed(perSecond: number): string;
}

const BYTES: Unit = { amount: byteSize, speed: (perSecond) => `${byteSize(perSecond)}/s` };
export const SLIDES: Unit = {
  amount: (done) => counted(done, 'slide'),
  speed: (perSecond) => `${rate(perSecond)} slides/s`,
};

export const TILES: Unit = {
  amount: (done) => counted(done, 'tile'),
  speed: (perSecond) => `${rate(perSecond)} tiles/s`,
};

/** A bar for what comes, is converted or looked through: one live line on a terminal, a plain line every ten seconds elsewhere. */
export function showTransfer(
  terminal: Terminal,
  now: () => number = () => performance.now(),
  unit: Unit = BYTES,
): TransferView {
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
      const facts = transferFacts(done, total, speed, unit);
      if (!terminal.live) return terminal.say([what, ...facts].join(', '));
      const line = [bar(done, total), ...facts].join(' · ');
      const room = Math.max(0, terminal.width - 1 - line.length - 1);
      terminal.status(`${what.length > room ? '' : `${what} `}${line}`.slice(0, Math.max(0, terminal.width - 1)));
    },
    end: () => terminal.status(null),
  };
}

/** Most important first. `speed` in the unit a second. */
function transferFacts(done: number, total: number | null, speed: number, unit: Unit): string[] {
  const share = total === 0 || total === null ? 1 : done / total;
  const facts = [total === null ? unit.amount(done) : `${percent(share)} of ${unit.amount(total)}`];
  if (speed > 0) facts.push(unit.speed(speed));
  if (speed > 0 && total !== null && total > done) facts.push(`${duration((total - done) / speed)} left`);
  return facts;
}

function bar(done: number, total: number | null): string {
  const filled = total === null || total === 0 ? 0 : Math.min(BAR, Math.floor((BAR * done) / total));
  return `${'━'.repeat(filled)}${'┄'.repeat(BAR - filled)}`;
}
