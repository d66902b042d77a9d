import type { Terminal } from '@nightshift/cli';
import { count, duration, rate } from '@nightshift/cli';
import type { RunProgress, Stage } from '@nightshift/core';

const LIVE_EVERY_MS = 100;
const PLAIN_EVERY_MS = 10_000;

/** What the person can do about each stage, or what it means. */
const HELD_BACK: Readonly<Record<Stage, string>> = {
  planning: 'planning',
  reading: 'reading the slides',
  decoding: 'decoding',
  inference: 'the model',
  writing: 'writing',
};

export interface ProgressView {
  update(progress: RunProgress): void;
  /** Removes the live line. */
  end(): void;
}

/** One live line on a terminal, a plain line every ten seconds elsewhere. */
export function showProgress(terminal: Terminal, now: () => number = () => performance.now()): ProgressView {
  let shown = terminal.live ? Number.NEGATIVE_INFINITY : now();
  return {
    update(progress) {
      if (now() - shown < (terminal.live ? LIVE_EVERY_MS : PLAIN_EVERY_MS)) return;
      shown = now();
      if (terminal.live) terminal.status(liveLine(progress, terminal.width));
      else terminal.say(facts(progress).join(', '));
    },
    end: () => terminal.status(null),
  };
}

/** Bar and facts in one line of at most `width - 1` characters (a full line would wrap); the last facts go first. */
export function liveLine(progress: RunProgress, width: number): string {
  const parts = facts(progress);
  while (parts.length > 1 && parts.join(' · ').length > width - 1) parts.pop();
  const line = parts.join(' · ');
  const room = Math.min(30, width - 1 - line.length - 1);
  if (room < 8) return line.slice(0, Math.max(0, width - 1));
  const { planned, embedded, failed } = progress.tiles;
  const filled = planned === 0 ? 0 : Math.floor((room * (embedded + failed)) / planned);
  return `${'━'.repeat(filled)}${'┄'.repeat(room - filled)} ${line}`;
}

/** Most important first. */
function facts({ tiles, slides, plansComplete, tilesPerSecond, etaSeconds, heldBackBy }: RunProgress): string[] {
  const parts = [`${count(tiles.embedded)} of ${count(tiles.planned)}${plansComplete ? '' : '+'} tiles`];
  if (tilesPerSecond > 0) parts.push(`${rate(tilesPerSecond)} tiles/s`);
  if (etaSeconds !== null && plansComplete) parts.push(`${duration(etaSeconds)} left`);
  if (slides.failed > 0) parts.push(`${count(slides.failed)} ${slides.failed === 1 ? 'slide' : 'slides'} failed`);
  if (tiles.failed > 0) parts.push(`${count(tiles.failed)} ${tiles.failed === 1 ? 'tile' : 'tiles'} failed`);
  if (heldBackBy !== null) parts.push(`held back by ${HELD_BACK[heldBackBy]}`);
  if (slides.total > 1) parts.push(`slide ${count(slides.done + slides.failed)} of ${count(slides.total)}`);
  return parts;
}
