import type { RunProgress } from '@nightshift/core';
import { describe, expect, it } from 'vitest';
import { liveLine, showProgress } from '../../../apps/producer/src/progress.ts';
import type { Terminal } from '../../../packages/cli/src/terminal.ts';

const PROGRESS: RunProgress = {
  slides: { total: 20, done: 3, failed: 1 },
  tiles: { planned: 30_000, embedded: 12_345, failed: 0 },
  plansComplete: true,
  tilesPerSecond: 812.4,
  etaSeconds: 22,
  heldBackBy: 'reading',
};

const bare = (line: string): string => line.replace(/^[━┄]+ /, '');

describe('the live line', () => {
  it('tells tiles, speed, time left, failures, what holds it back, and slides', () => {
    expect(bare(liveLine(PROGRESS, 200))).toBe(
      '12,345 of 30,000 tiles · 812 tiles/s · 22 s left · 1 slide failed · held back by reading the slides · slide 4 of 20',
    );
  });

  it('fits every width, and gives up the least important facts first', () => {
    for (let width = 10; width <= 160; width++) expect(liveLine(PROGRESS, width).length).toBeLessThan(width);
    expect(liveLine(PROGRESS, 40)).toMatch(/12,345 of 30,000 tiles · 812 tiles\/s/);
  });

  it('draws as much of the bar as is done', () => {
    const tiles = { planned: 100, embedded: 45, failed: 5 };
    expect(liveLine({ ...PROGRESS, tiles }, 200)).toMatch(/^━{15}┄{15} /);
  });

  it('promises no end while plans are being made', () => {
    const line = liveLine({ ...PROGRESS, plansComplete: false }, 200);
    expect(line).toContain('12,345 of 30,000+ tiles');
    expect(line).not.toContain('left');
  });

  it('stands when nothing is planned yet', () => {
    const tiles = { planned: 0, embedded: 0, failed: 0 };
    expect(liveLine({ ...PROGRESS, tiles, tilesPerSecond: 0, etaSeconds: null }, 80)).toContain('0 of 0 tiles');
  });
});

function fakeTerminal(live: boolean): { terminal: Terminal; said: string[]; shown: (string | null)[] } {
  const said: string[] = [];
  const shown: (string | null)[] = [];
  const terminal: Terminal = {
    json: false,
    quiet: false,
    piped: false,
    live,
    width: 80,
    data: () => {},
    say: (line) => said.push(line),
    insist: () => {},
    status: (line) => shown.push(line),
    paint: (_, text) => text,
  };
  return { terminal, said, shown };
}

describe('progress', () => {
  it('on a terminal replaces one line, ten times a second at most, and removes it at the end', () => {
    let now = 0;
    const { terminal, said, shown } = fakeTerminal(true);
    const view = showProgress(terminal, () => now);
    for (now = 0; now < 1000; now += 10) view.update(PROGRESS);
    view.end();
    expect(shown).toHaveLength(11);
    expect(shown.at(-1)).toBeNull();
    expect(said).toEqual([]);
  });

  it('elsewhere says a plain line every ten seconds', () => {
    let now = 0;
    const { terminal, said, shown } = fakeTerminal(false);
    const view = showProgress(terminal, () => now);
    for (now = 0; now <= 30_000; now += 100) view.update(PROGRESS);
    expect(said).toHaveLength(3);
    expect(said[0]).toContain('12,345 of 30,000 tiles, 812 tiles/s');
    expect(shown).toEqual([]);
  });
});
