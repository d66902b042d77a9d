import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { svg, text, textWidth } from '../../../packages/core/src/picture/text.ts';

const ascii = String.fromCharCode(...Array.from({ length: 95 }, (_, i) => 32 + i));

describe('drawn text', () => {
  it('is paths with plain numbers only: no font is needed, no number ends a path early', () => {
    for (const weight of [400, 600] as const) {
      for (let x = 0; x < 40; x++) {
        const path = text(`${ascii} µ × … é`, 56 + x / 7, 64, { size: 13 + x, weight });
        expect(path).toMatch(/^<path fill="#[0-9a-f]{6}" d="[MLQCZ0-9. -]+"\/>$/);
      }
    }
  });

  it('is drawn to its last letter', async () => {
    const width = textWidth(ascii, { size: 20 });
    const { data, info } = await sharp(svg(1200, 40, text(ascii, 10, 25, { size: 20 })))
      .extractChannel(3)
      .raw()
      .toBuffer({ resolveWithObject: true });
    let last = 0;
    for (let i = 0; i < data.length; i++) if (data[i]! > 128) last = Math.max(last, i % info.width);
    expect(last).toBeGreaterThan(10 + width - 12);
    expect(last).toBeLessThanOrEqual(10 + width);
  });

  it('stands left of, around, or right of its point', () => {
    const firstX = (anchor: 'start' | 'middle' | 'end') =>
      Number(/d="M([0-9.-]+)/.exec(text('Hi', 500, 0, { size: 20, anchor }))?.[1]);
    const width = textWidth('Hi', { size: 20 });
    expect(firstX('start') - firstX('end')).toBeCloseTo(width, 1);
    expect(firstX('start') - firstX('middle')).toBeCloseTo(width / 2, 1);
  });

  it('is shortened in the middle to fit, so that slides of one study stay apart', () => {
    const name = 'TCGA-CR-7395-01A-01-TS1.b5f1c3e2-0c1d.svs';
    const style = { size: 15, weight: 600 } as const;
    const full = textWidth(name, style);
    expect(text(name, 0, 0, { ...style, maxWidth: full })).toBe(text(name, 0, 0, style));
    const lettersOf = (path: string) => path.split('M').length;
    const short = text(name, 0, 0, { ...style, maxWidth: full / 2 });
    expect(lettersOf(short)).toBeLessThan(lettersOf(text(name, 0, 0, style)));
    const xs = [...short.matchAll(/[MLQC]([0-9.-]+)/g)].map((m) => Number(m[1]));
    expect(Math.max(...xs)).toBeLessThanOrEqual(full / 2);
    expect(Math.max(...xs)).toBeGreaterThan(full / 2 - 20);
  });

  it('shows what the font lacks as question marks', () => {
    expect(text('切片', 0, 0, { size: 10 })).toBe(text('??', 0, 0, { size: 10 }));
  });
});
