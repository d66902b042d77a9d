import { loadOpenSlide, type OpenSlideLibrary } from './library.ts';

/**
 * The process that reads slides with OpenSlide, forked by `process.ts`: `child.ts [library]`. It is the only one that loads the
 * library. It answers one request after the other, and ends with its parent.
 */

export type OpenSlideRequest =
  | { readonly type: 'version' }
  | { readonly type: 'open'; readonly path: string }
  /** A square of a level, its corner in pixels of level 0. */
  | { readonly type: 'read'; readonly level: number; readonly x: number; readonly y: number; readonly side: number };

export interface OpenedSlide {
  readonly vendor: string;
  /** Finest first. */
  readonly levels: readonly { readonly width: number; readonly height: number; readonly downsample: number }[];
  readonly mpp: readonly [x: number, y: number] | null;
  readonly objectivePower: number | null;
}

export type OpenSlideReply =
  | { readonly type: 'version'; readonly version: string }
  | { readonly type: 'opened'; readonly slide: OpenedSlide }
  /** uint8 RGB [side, side, 3]; what the file does not store is of the background's colour. */
  | { readonly type: 'pixels'; readonly rgb: Uint8Array }
  /** `library`: there is none; `format`: not known to it; `damaged`: the file, as far as it was looked at. */
  | { readonly type: 'failed'; readonly what: 'library' | 'format' | 'damaged'; readonly message: string };

const library = loadOpenSlide(process.argv[2] ?? null);
let slide: unknown = null;
let background: readonly [number, number, number] = [255, 255, 255];

// The terminal sends Ctrl-C to the whole process group; when to stop is the parent's decision.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => {});
process.on('disconnect', () => process.kill(process.pid, 'SIGKILL'));
process.on('message', (request: OpenSlideRequest) => process.send!(answer(request)));

function answer(request: OpenSlideRequest): OpenSlideReply {
  if (typeof library === 'string') return { type: 'failed', what: 'library', message: library };
  if (request.type === 'version') return { type: 'version', version: library.version };
  return request.type === 'open' ? open(library, request.path) : read(library, request);
}

function open(library: OpenSlideLibrary, path: string): OpenSlideReply {
  slide = library.open(path);
  if (slide === null)
    return { type: 'failed', what: 'format', message: `OpenSlide ${library.version} does not know it` };
  const error = library.error(slide);
  if (error !== null) return { type: 'failed', what: 'damaged', message: error };
  const colour = library.property(slide, 'openslide.background-color');
  if (colour !== null && /^[0-9a-f]{6}$/i.test(colour)) {
    background = [0, 2, 4].map((at) => Number.parseInt(colour.slice(at, at + 2), 16)) as [number, number, number];
  }
  const number = (name: string): number | null => {
    const value = Number(library.property(slide, name) ?? Number.NaN);
    return Number.isFinite(value) ? value : null;
  };
  const [x, y] = [number('openslide.mpp-x'), number('openslide.mpp-y')];
  const levels = Array.from({ length: library.levelCount(slide) }, (_, level) => {
    const [width, height] = library.levelSize(slide, level);
    return { width, height, downsample: library.downsample(slide, level) };
  });
  const vendor = library.property(slide, 'openslide.vendor') ?? 'unknown';
  const mpp = x === null || y === null ? null : ([x, y] as const);
  return { type: 'opened', slide: { vendor, levels, mpp, objectivePower: number('openslide.objective-power') } };
}

function read(
  library: OpenSlideLibrary,
  { level, x, y, side }: Extract<OpenSlideRequest, { type: 'read' }>,
): OpenSlideReply {
  const argb = new Uint32Array(side * side);
  library.readRegion(slide, argb, x, y, level, side, side);
  const error = library.error(slide);
  if (error !== null) return { type: 'failed', what: 'damaged', message: error };
  const [r, g, b] = background;
  const rgb = new Uint8Array(3 * argb.length);
  for (let i = 0, at = 0; i < argb.length; i++, at += 3) {
    const pixel = argb[i]!;
    const rest = 255 - (pixel >>> 24);
    rgb[at] = (pixel >> 16) & 0xff;
    rgb[at + 1] = (pixel >> 8) & 0xff;
    rgb[at + 2] = pixel & 0xff;
    if (rest === 0) continue;
    rgb[at] = rgb[at]! + Math.round((rest * r) / 255);
    rgb[at + 1] = rgb[at + 1]! + Math.round((rest * g) / 255);
    rgb[at + 2] = rgb[at + 2]! + Math.round((rest * b) / 255);
  }
  return { type: 'pixels', rgb };
}
