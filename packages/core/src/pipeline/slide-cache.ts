import { NightshiftError } from '../errors.ts';
import type { SlideRef } from '../plan/plan.ts';
import { openSlide } from '../slide/open.ts';
import type { Slide } from '../slide/slide.ts';
import { counted, type ReadCost } from '../source/counted.ts';
import type { ByteSource } from '../source/source.ts';
import type { SlideCache } from './context.ts';

/** Open slides that nobody uses are kept for the next shard, up to this many. */
const IDLE_SLIDES = 4;

interface Entry {
  readonly opening: Promise<{ readonly slide: Slide; claim(): ReadCost }>;
  users: number;
}

export function slideCache(openSource: (uri: string) => Promise<ByteSource>): SlideCache {
  const entries = new Map<string, Entry>();

  async function open(ref: SlideRef): Promise<{ readonly slide: Slide; claim(): ReadCost }> {
    const { source, claim } = counted(await openSource(ref.uri));
    try {
      if (source.contentId !== ref.contentId) {
        throw new NightshiftError('slide-changed', `${ref.uri} was replaced after the run had listed it`);
      }
      return { slide: await openSlide(source), claim };
    } catch (error) {
      await source.close();
      throw error;
    }
  }

  async function drop(key: string, entry: Entry): Promise<void> {
    entries.delete(key);
    await entry.opening.then(
      ({ slide }) => slide.close(),
      () => {},
    );
  }

  return {
    async borrow(ref) {
      const entry = entries.get(ref.key) ?? { opening: open(ref), users: 0 };
      // Set again: the map's order is the order of last use.
      entries.delete(ref.key);
      entries.set(ref.key, entry);
      entry.users += 1;
      try {
        const { slide, claim } = await entry.opening;
        return {
          slide,
          claimReads: claim,
          giveBack() {
            entry.users -= 1;
            const idle = [...entries].filter(([, { users }]) => users === 0);
            for (const [key, old] of idle.slice(0, Math.max(0, idle.length - IDLE_SLIDES))) void drop(key, old);
          },
        };
      } catch (error) {
        entry.users -= 1;
        // A failed opening is not remembered: the disk may be back.
        if (entries.get(ref.key) === entry) entries.delete(ref.key);
        throw error;
      }
    },
    async close() {
      await Promise.all([...entries].map(([key, entry]) => drop(key, entry)));
    },
  };
}
