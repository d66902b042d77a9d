import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import koffi, { type LibraryHandle } from 'koffi';
import type { JpegDecoder } from './jpeg.ts';

/** Of turbojpeg.h. Without FASTDCT and FASTUPSAMPLE the pixels are libjpeg's accurate ones, as OpenSlide's. */
const PIXEL_FORMAT_RGB = 0;
const STOP_ON_WARNING = 8_192;
const LIMIT_SCANS = 32_768;

/**
 * libturbojpeg through its C interface: the library that @julusian/jpeg-turbo ships, else the system's. Null where neither
 * can be loaded. Its own binding is not used: it decodes with the fast, inexact DCT.
 */
export function loadTurboJpeg(): JpegDecoder | null {
  for (const path of candidates()) {
    try {
      return bind(koffi.load(path));
    } catch {
      // The next one may fit this system.
    }
  }
  return null;
}

function candidates(): string[] {
  const names: Partial<Record<NodeJS.Platform, string[]>> = {
    linux: ['libturbojpeg.so.0', 'libturbojpeg.so'],
    darwin: ['libturbojpeg.dylib', '/opt/homebrew/lib/libturbojpeg.dylib', '/usr/local/lib/libturbojpeg.dylib'],
    win32: ['turbojpeg.dll'],
  };
  return [...shipped(), ...(names[process.platform] ?? [])];
}

function shipped(): string[] {
  try {
    const root = dirname(createRequire(import.meta.url).resolve('@julusian/jpeg-turbo/package.json'));
    const folder = join(root, 'prebuilds', `jpeg-turbo-${process.platform}-${process.arch}`);
    return [folder, `${folder}-musl`].map((path) => join(path, 'libturbojpeg.so.0')).filter((path) => existsSync(path));
  } catch {
    return [];
  }
}

function bind(library: LibraryHandle): JpegDecoder {
  const open = library.func('void *tjInitDecompress()');
  const decompress = library.func(
    'int tjDecompress2(void *handle, uint8_t *jpeg, unsigned long size, uint8_t *out, int width, int pitch, int height, int format, int flags)',
  );
  const errorText = library.func('const char *tjGetErrorStr2(void *handle)');
  const destroy = library.func('int tjDestroy(void *handle)');
  const flags = STOP_ON_WARNING | LIMIT_SCANS;
  return {
    names: ['native'],
    decode(jpeg, width, height, out, pitch) {
      // A decoder of its own for each picture: one that is used again decodes a JPEG that lacks tables with those of the
      // picture before. Costs half a microsecond.
      const handle: unknown = open();
      if (handle === null) return 'out of memory';
      try {
        const failed = decompress(handle, jpeg, jpeg.length, out, width, pitch, height, PIXEL_FORMAT_RGB, flags) !== 0;
        return failed ? String(errorText(handle)) : null;
      } finally {
        destroy(handle);
      }
    },
    scales: true,
  };
}
