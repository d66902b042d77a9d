import { isNightshiftError, NightshiftError } from '../errors.ts';
import type { ByteSource } from '../source/source.ts';
import { readFrame } from './codec/markers.ts';
import type { BlockCodec, Slide } from './slide.ts';
import { assembleSlide } from './stored-level.ts';
import { LIMITS } from './tiff/ifd.ts';

const PNG = '\x89PNG\r\n\x1a\n';
const JPEG = '\xff\xd8\xff';
const FIRST_BYTES = 65_536;
/** A JPEG's frame header stands behind its metadata: Exif with a preview, and colour profiles. */
const MOST_BYTES = 16 << 20;

interface Picture {
  readonly format: 'png' | 'jpeg';
  readonly width: number;
  readonly height: number;
  readonly codec: BlockCodec;
}

/**
 * A field of view: a PNG or JPEG picture as a slide of one level and one block. It never says how large a pixel is: dots per inch
 * in such files are a printer's or an editor's. Null where the file is neither.
 */
export async function openPicture(source: ByteSource, headers: ByteSource): Promise<Slide | null> {
  const [head] = await headers.read([{ offset: 0, length: Math.min(source.size, 32) }]);
  const start = Buffer.from(head!).toString('latin1');
  const isPng = start.startsWith(PNG);
  if (!isPng && !start.startsWith(JPEG)) return null;
  const { format, width, height, codec } = isPng ? pngHeader(source.uri, head!) : await jpegHeader(source);
  if (width === 0 || height === 0) {
    throw new NightshiftError('slide-corrupt', `${source.uri} is damaged: a picture of ${width} x ${height} px`);
  }
  if (width * height > LIMITS.blockPixels || source.size > LIMITS.blockBytes) {
    const message = `${source.uri} is a picture of ${width} x ${height} px, too large to be read in one piece`;
    throw new NightshiftError('slide-unsupported', message);
  }
  return assembleSlide({ source, format, vendor: 'picture', mpp: null, objectivePower: null }, [
    {
      width,
      height,
      blockWidth: width,
      blockHeight: height,
      codec,
      readIndex: async () => ({ range: () => ({ offset: 0, length: source.size }) }),
    },
  ]);
}

/** PNG, third edition, 11.2.1: the first chunk is the header. */
function pngHeader(uri: string, head: Uint8Array): Picture {
  if (head.length < 26) throw new NightshiftError('slide-truncated', `${uri} ends within its header`);
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (Buffer.from(head.subarray(12, 16)).toString('latin1') !== 'IHDR') {
    throw new NightshiftError('slide-corrupt', `${uri} is damaged: a PNG without a header`);
  }
  const [bits, colour] = [head[24]!, head[25]!];
  const isRgb = (bits === 8 && (colour === 2 || colour === 6)) || colour === 3;
  if (!isRgb) {
    const what = colour === 0 || colour === 4 ? 'grey' : 'RGB';
    throw new NightshiftError(
      'slide-unsupported',
      `${uri}: its pixels are ${what} of ${bits} bits; only 8-bit RGB can be read`,
    );
  }
  return { format: 'png', width: view.getUint32(16), height: view.getUint32(20), codec: { kind: 'png' } };
}

async function jpegHeader(source: ByteSource): Promise<Picture> {
  const { uri, size } = source;
  for (let length = FIRST_BYTES; ; length *= 16) {
    const [bytes] = await source.read([{ offset: 0, length: Math.min(length, size, MOST_BYTES) }]);
    try {
      const { width, height, components, precision, process } = readFrame(bytes!);
      if (components !== 3 || precision !== 8 || process > 2) {
        const what = `${components} component${components === 1 ? '' : 's'} of ${precision} bits`;
        throw new NightshiftError('slide-unsupported', `${uri}: its pixels have ${what}; only 8-bit RGB can be read`);
      }
      // Without a marker that says otherwise three components are YCbCr, by libjpeg's rule.
      return { format: 'jpeg', width, height, codec: { kind: 'jpeg', prefix: Uint8Array.of(0xff, 0xd8) } };
    } catch (error) {
      if (!isNightshiftError(error, 'tile-truncated', 'tile-corrupt')) throw error;
      if (error.code === 'tile-corrupt') throw new NightshiftError('slide-corrupt', `${uri}: ${error.message}`);
      if (length >= size) throw new NightshiftError('slide-truncated', `${uri} ends before its frame header`);
      if (length >= MOST_BYTES) {
        throw new NightshiftError('slide-limits', `${uri} exceeds a safety limit: ${MOST_BYTES} bytes of metadata`);
      }
    }
  }
}
