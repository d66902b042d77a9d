import { createMeter, type RunEvent, type RunProgress, type SlideRef, type Stage } from '@nightshift/core';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

const slide = (key: string) => ({ key, uri: `/${key}.svs`, contentId: '1', mpp: null }) as SlideRef;

describe('meter', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function start(slides: number, probe: () => Stage | null = () => null) {
    const seen: RunProgress[] = [];
    const events: RunEvent[] = [];
    const meter = createMeter({
      slides,
      probe,
      onProgress: (progress) => seen.push(progress),
      onEvent: (event) => events.push(event),
    });
    return { meter, seen, events };
  }

  it('takes the rate over the last ten seconds, so that a slow start is forgotten', () => {
    const { meter } = start(1);
    meter.slidePlanned(slide('a'), 1000, []);
    vi.advanceTimersByTime(60_000);
    for (let second = 0; second < 10; second++) {
      meter.tilesEmbedded(20);
      vi.advanceTimersByTime(1000);
    }
    const { tilesPerSecond, etaSeconds } = meter.progress();
    expect(tilesPerSecond).toBeCloseTo(20, 0);
    expect(etaSeconds).toBeCloseTo(800 / tilesPerSecond, 5);
    meter.close();
  });

  it('takes slides that are not planned yet to be like those that are', () => {
    const { meter } = start(4);
    meter.slidePlanned(slide('a'), 100, []);
    meter.tilesEmbedded(50);
    vi.advanceTimersByTime(5000);
    expect(meter.progress()).toMatchObject({ plansComplete: false, etaSeconds: 350 / 10 });
    meter.close();
  });

  it('counts tiles of an earlier run as embedded, and not as speed', () => {
    const { meter } = start(1);
    meter.slidePlanned(slide('a'), 100, []);
    meter.tilesFound(90);
    vi.advanceTimersByTime(1000);
    expect(meter.progress()).toMatchObject({ tiles: { embedded: 90 }, tilesPerSecond: 0, etaSeconds: null });
    meter.close();
  });

  it('names the stage seen most in the window', () => {
    let stage: Stage = 'planning';
    const { meter, seen } = start(1, () => stage);
    vi.advanceTimersByTime(4000);
    expect(seen.at(-1)?.heldBackBy).toBe('planning');
    stage = 'inference';
    vi.advanceTimersByTime(9000);
    expect(seen.at(-1)?.heldBackBy).toBe('inference');
    meter.close();
  });

  it('knows that plans are complete when the last slide is planned or has failed', () => {
    const { meter, events } = start(2);
    meter.slidePlanned(slide('a'), 0, []);
    expect(meter.progress().plansComplete).toBe(false);
    meter.slideFailed(slide('b'), { code: 'slide-corrupt', message: 'loop', next: '', data: {} });
    expect(meter.progress()).toMatchObject({ plansComplete: true, slides: { failed: 1 } });
    expect(events.map(({ type }) => type)).toEqual(['slide-planned', 'slide-failed']);
    meter.close();
  });
});
