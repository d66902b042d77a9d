import { describe, expect, it } from 'vitest';
import { SLIDES, showTransfer } from '../../../apps/producer/src/transfer.ts';
import type { Terminal } from '../../../packages/cli/src/terminal.ts';

const MIB = 1 << 20;

function terminal(live: boolean, width = 100) {
  const said: string[] = [];
  const statuses: (string | null)[] = [];
  const fake: Terminal = {
    json: false,
    quiet: false,
    piped: false,
    live,
    width,
    data: () => {},
    say: (line) => void said.push(line),
    insist: () => {},
    status: (line) => void statuses.push(line),
    paint: (_, text) => text,
  };
  return { fake, said, statuses };
}

describe('the progress of a transfer', () => {
  it('is one line on a terminal: name, bar, share, speed, time left', () => {
    const { fake, statuses } = terminal(true);
    let now = 0;
    const view = showTransfer(fake, () => now);
    view.update('model.safetensors', 0, 400 * MIB);
    now = 10_000;
    view.update('model.safetensors', 100 * MIB, 400 * MIB);
    expect(statuses.at(-1)).toBe(
      `model.safetensors ${'━'.repeat(6)}${'┄'.repeat(18)} · 25 % of 400 MiB · 10.0 MiB/s · 30 s left`,
    );
    view.end();
    expect(statuses.at(-1)).toBeNull();
  });

  it('counts slides as it counts bytes', () => {
    const { fake, statuses } = terminal(true);
    let now = 0;
    const view = showTransfer(fake, () => now, SLIDES);
    view.update('checking', 0, 12_000);
    now = 100_000;
    view.update('checking', 3_000, 12_000);
    expect(statuses.at(-1)).toBe(
      `checking ${'━'.repeat(6)}${'┄'.repeat(18)} · 25 % of 12,000 slides · 30.0 slides/s · 5m 00s left`,
    );
  });

  it('does not count what was there before as speed', () => {
    const { fake, statuses } = terminal(true);
    let now = 0;
    const view = showTransfer(fake, () => now);
    view.update('a', 300 * MIB, 400 * MIB);
    now = 10_000;
    view.update('a', 310 * MIB, 400 * MIB);
    expect(statuses.at(-1)).toContain('1.0 MiB/s');
    view.update('b', 0, 0);
    now = 20_000;
    view.update('b', 0, 0);
    expect(statuses.at(-1)).toContain('100 % of 0 B');
  });

  it('fits every width, and stands without a total', () => {
    for (let width = 2; width < 80; width++) {
      const { fake, statuses } = terminal(true, width);
      const view = showTransfer(fake, () => 0);
      view.update('pytorch_model.bin', 5, null);
      expect(statuses.at(-1)!.length).toBeLessThan(width);
    }
  });

  it('is a plain line every ten seconds elsewhere', () => {
    const { fake, said } = terminal(false);
    let now = 0;
    const view = showTransfer(fake, () => now);
    for (now = 1000; now <= 25_000; now += 1000) view.update('a', now, 25_000);
    expect(said).toEqual(['a, 40 % of 24.4 KiB, 1000 B/s, 15 s left', 'a, 80 % of 24.4 KiB, 1000 B/s, 5.0 s left']);
  });
});
