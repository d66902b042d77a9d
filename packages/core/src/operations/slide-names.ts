import { basename, extname } from 'node:path';
import { NightshiftError } from '../errors.ts';
import type { SlideRef } from '../plan/plan.ts';

/**
 * The slides that a person means by a name: the key, the uri, the file name, or its stem. A name that fits several is refused with
 * their keys, never guessed.
 */
export function slideNamed(name: string, slides: readonly SlideRef[]): SlideRef {
  const stem = (uri: string) => basename(uri, extname(uri));
  const fits = (slide: SlideRef) => [slide.key, slide.uri, basename(slide.uri), stem(slide.uri)].includes(name);
  const found = slides.filter(fits);
  if (found.length === 1) return found[0];
  const known = (found.length > 0 ? found : slides).slice(0, 5).map(({ key }) => key);
  const more = Math.max(0, (found.length > 0 ? found : slides).length - known.length);
  const list = `${known.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  throw found.length > 1
    ? new NightshiftError('tile-not-in-record', `${found.length} slides are called ${name}`, {
        next: `Give the key: ${list}.`,
      })
    : new NightshiftError('tile-not-in-record', `no slide of this run is called ${name}`, {
        next: `It holds ${list}.`,
      });
}
