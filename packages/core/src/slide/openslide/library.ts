import koffi, { type LibraryHandle } from 'koffi';

/** OpenSlide's C interface (openslide.h), as far as it is used. Only the child process loads it. */
export interface OpenSlideLibrary {
  readonly version: string;
  /** A handle; null where the format is not known. What is wrong with a file is told by `error`. */
  open(path: string): unknown;
  /** Null while all is well; after an error a handle is of no use any more. */
  error(slide: unknown): string | null;
  levelCount(slide: unknown): number;
  levelSize(slide: unknown, level: number): readonly [width: number, height: number];
  downsample(slide: unknown, level: number): number;
  property(slide: unknown, name: string): string | null;
  /** Premultiplied ARGB, a native 32-bit word a pixel, of a rectangle of a level whose corner is given in pixels of level 0. */
  readRegion(
    slide: unknown,
    argb: Uint32Array,
    x: number,
    y: number,
    level: number,
    width: number,
    height: number,
  ): void;
}

/** Older names are looked for too, to say that they are too old. */
const NAMES: Partial<Record<NodeJS.Platform, readonly string[]>> = {
  linux: ['libopenslide.so.1', 'libopenslide.so.0'],
  darwin: ['libopenslide.1.dylib', '/opt/homebrew/lib/libopenslide.1.dylib', '/usr/local/lib/libopenslide.1.dylib'],
  win32: ['libopenslide-1.dll'],
};

/** The library at a path, or the system's; or why none can be loaded. */
export function loadOpenSlide(path: string | null): OpenSlideLibrary | string {
  let why = 'it has no name on this platform';
  for (const name of path === null ? (NAMES[process.platform] ?? []) : [path]) {
    try {
      return bind(koffi.load(name));
    } catch (error) {
      why = (error as Error).message;
    }
  }
  return why;
}

function bind(library: LibraryHandle): OpenSlideLibrary {
  const version = library.func('const char *openslide_get_version()');
  const open = library.func('void *openslide_open(const char *filename)');
  const error = library.func('const char *openslide_get_error(void *osr)');
  const count = library.func('int32_t openslide_get_level_count(void *osr)');
  const size = library.func('void openslide_get_level_dimensions(void *osr, int32_t level, int64_t *w, int64_t *h)');
  const downsample = library.func('double openslide_get_level_downsample(void *osr, int32_t level)');
  const property = library.func('const char *openslide_get_property_value(void *osr, const char *name)');
  const read = library.func(
    'void openslide_read_region(void *osr, uint32_t *dest, int64_t x, int64_t y, int32_t level, int64_t w, int64_t h)',
  );
  return {
    version: String(version()),
    open: (path) => open(path),
    error: (slide) => error(slide),
    levelCount: (slide) => count(slide),
    levelSize(slide, level) {
      const [width, height] = [new BigInt64Array(1), new BigInt64Array(1)];
      size(slide, level, width, height);
      return [Number(width[0]), Number(height[0])];
    },
    downsample: (slide, level) => downsample(slide, level),
    property: (slide, name) => property(slide, name),
    readRegion: (slide, argb, x, y, level, width, height) => read(slide, argb, x, y, level, width, height),
  };
}
