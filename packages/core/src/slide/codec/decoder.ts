import type { BlockCodec } from '../slide.ts';
import type { BlockShape, DctScale } from './block.ts';
import { decodeBmp } from './bmp.ts';
import { J2kBlocks } from './j2k.ts';
import { JpegBlocks, type JpegChoice, loadJpeg } from './jpeg.ts';
import { loadOpenJpeg } from './openjpeg.ts';
import { takeRegion } from './openslide.ts';
import { decodePlain } from './plain.ts';
import { decodePng } from './png.ts';

/**
 * Decodes one block into `out`: uint8 RGB, `ceil(shape.width / scale)` pixels a row. Of a block that is stored clipped only
 * the clipped part is written. Throws `tile-truncated`, `tile-corrupt` or `tile-size-mismatch`; then the content of `out` is
 * undefined.
 */
export type DecodeBlock = (
  block: Uint8Array,
  shape: BlockShape,
  out: Uint8Array,
  scale: DctScale,
) => void | Promise<void>;

/** The decoders of a thread. Libraries are loaded when the first block needs them, the JPEG library at once. */
export async function loadDecoders(jpeg: JpegChoice): Promise<(codec: BlockCodec) => Promise<DecodeBlock>> {
  const jpegBlocks = new JpegBlocks(await loadJpeg(jpeg));
  let j2k: Promise<J2kBlocks> | undefined;
  return async (codec) => {
    switch (codec.kind) {
      case 'jpeg':
        return (block, shape, out, scale) => jpegBlocks.decode(block, codec.prefix, shape, out, scale);
      case 'jpeg-stretch':
        return (block, shape, out, scale) => jpegBlocks.decodeStretch(block, codec, shape, out, scale);
      case 'jpeg2000': {
        j2k ??= loadOpenJpeg().then((decoder) => new J2kBlocks(decoder));
        const blocks = await j2k;
        return (block, shape, out, scale) => blocks.decode(block, codec.yCbCr, shape, out, scale);
      }
      case 'png':
        return decodePng;
      case 'bmp':
        return decodeBmp;
      case 'openslide':
        return takeRegion;
      default:
        return (block, shape, out, scale) => decodePlain(block, codec, shape, out, scale);
    }
  };
}
