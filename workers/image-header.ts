/**
 * What a picture's first bytes say, read before any decoder sees them: its format, its size, and whether it moves.
 *
 * Called by workers/image.ts. Reads headers only and trusts none: a wrong size here is caught by the decoder, a huge one never gets there.
 */
import { invalid } from '#src/base/errors';

export interface ImageHeader {
  readonly format: 'PNG' | 'JPEG' | 'WebP';
  /** As stored: a JPEG may be turned by its EXIF data. */
  readonly width: number;
  readonly height: number;
  /** Of inks, as for print (CMYK). */
  readonly isInk: boolean;
}

const ACCEPTED = 'PNG, JPEG and WebP are accepted';

/** The header of `bytes`; `which` names the picture in errors ("image 0"). Throws INVALID_ARGUMENT for anything that is not accepted. */
export function readImageHeader(bytes: Uint8Array<ArrayBuffer>, which: string): ImageHeader {
  if (bytes.length === 0) throw invalid(`${which} is empty: it has zero bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (at: number, length: number): string => String.fromCharCode(...bytes.subarray(at, at + length));
  const file: File = { bytes, view, text, which };
  let header: ImageHeader;
  if (text(0, 8) === '\x89PNG\r\n\x1a\n') header = readPng(file);
  else if (text(0, 3) === '\xff\xd8\xff') header = readJpeg(file);
  else if (text(0, 4) === 'RIFF' && text(8, 4) === 'WEBP') header = readWebp(file);
  else throw invalid(`${which} ${guess(text)}: ${ACCEPTED}`);
  if (header.width === 0 || header.height === 0)
    throw invalid(`${which} has a size of ${header.width}x${header.height} pixels`);
  return header;
}

interface File {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly which: string;
  text(at: number, length: number): string;
}

const cutShort = ({ which, bytes }: File, format: string): Error =>
  invalid(`${which} is cut short: ${bytes.length} bytes do not hold a ${format} header`);

/** Chunks of length, type, data and checksum; IHDR comes first. */
function readPng(file: File): ImageHeader {
  const { view, text, bytes, which } = file;
  if (bytes.length < 33) throw cutShort(file, 'PNG');
  if (text(12, 4) !== 'IHDR') throw invalid(`${which} is a broken PNG: it does not begin with IHDR`);
  for (let at = 33; at + 8 <= bytes.length; at += 12 + view.getUint32(at)) {
    const type = text(at + 4, 4);
    if (type === 'acTL') throw invalid(`${which} is an animated PNG: send one frame as a picture of its own`);
    if (type === 'IDAT') break;
  }
  return { format: 'PNG', width: view.getUint32(16), height: view.getUint32(20), isInk: false };
}

/** Segments of marker, length and data, up to the start of the frame. */
function readJpeg(file: File): ImageHeader {
  const { bytes, view, which } = file;
  for (let at = 2; at + 4 <= bytes.length; ) {
    if (bytes[at] !== 0xff) throw invalid(`${which} is a broken JPEG: there is no marker at byte ${at}`);
    const marker = bytes[at + 1]!;
    // Fill bytes, and markers without data.
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
      at += 2;
      continue;
    }
    // SOF0 to SOF15, but for the tables and extensions among them.
    if (marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc) {
      if (at + 10 > bytes.length) break;
      const isInk = bytes[at + 9] === 4;
      return { format: 'JPEG', height: view.getUint16(at + 5), width: view.getUint16(at + 7), isInk };
    }
    if (marker === 0xd9 || marker === 0xda) throw invalid(`${which} is a broken JPEG: it has no frame header`);
    at += 2 + Math.max(2, view.getUint16(at + 2));
  }
  throw cutShort(file, 'JPEG');
}

function readWebp(file: File): ImageHeader {
  if (file.bytes.length < 30) throw cutShort(file, 'WebP');
  const size = webpSize(file);
  return { format: 'WebP', ...size, isInk: false };
}

function webpSize({ bytes, view, text, which }: File): { width: number; height: number } {
  switch (text(12, 4)) {
    case 'VP8 ':
      return { width: view.getUint16(26, true) & 0x3fff, height: view.getUint16(28, true) & 0x3fff };
    case 'VP8L': {
      const bits = view.getUint32(21, true);
      return { width: (bits & 0x3fff) + 1, height: ((bits >>> 14) & 0x3fff) + 1 };
    }
    case 'VP8X': {
      if (bytes[20]! & 0x02) throw invalid(`${which} is an animated WebP: send one frame as a picture of its own`);
      return { width: 1 + uint24(view, 24), height: 1 + uint24(view, 27) };
    }
    default:
      throw invalid(`${which} is a broken WebP: its first chunk is none of VP8, VP8L and VP8X`);
  }
}

const uint24 = (view: DataView, at: number): number => view.getUint16(at, true) | (view.getUint8(at + 2) << 16);

/** JSON has strings only: whoever tries it is told the ways there are. */
const BASE64 =
  'looks like base64, not the bytes of a picture (over REST, send them as the body with Content-Type: image/png or the like, or as binary tensor data)';
/** How what else is sent as a picture begins. */
const BEGINNINGS: readonly (readonly [string, string])[] = [
  ['GIF87a', 'looks like a GIF'],
  ['GIF89a', 'looks like a GIF'],
  ['II*\0', 'looks like a TIFF'],
  ['MM\0*', 'looks like a TIFF'],
  ['BM', 'looks like a BMP'],
  ['\0\0\0\x0cJXL ', 'looks like a JPEG XL'],
  ['\xff\x0a', 'looks like a JPEG XL'],
  ['\0\0\0\x0cjP  ', 'looks like a JPEG 2000'],
  ['\0\0\x01\0', 'looks like an icon'],
  ['8BPS', 'looks like a Photoshop file'],
  ['%PDF', 'looks like a PDF'],
  ['\x93NUMPY', 'looks like a NumPy array'],
  ['data:', 'looks like a data URL, not the bytes of a picture'],
  ['iVBORw0KGgo', BASE64],
  ['/9j/', BASE64],
  ['UklGR', BASE64],
  ['http://', 'looks like a URL, not the bytes of a picture'],
  ['https://', 'looks like a URL, not the bytes of a picture'],
];
const BRANDS = [
  [/^avi[fs]/, 'looks like an AVIF'],
  [/^(hei|hev|mif1|msf1)/, 'looks like a HEIC'],
] as const;
const TEXTS = [
  [/^(\xef\xbb\xbf)?\s*<(\?xml|svg|!DOCTYPE svg|!--)/i, 'looks like an SVG'],
  [/^[\t\n\r\x20-\x7e]+$/, 'looks like text'],
] as const;

function guess(text: File['text']): string {
  const start = text(0, 64);
  const beginning = BEGINNINGS.find(([prefix]) => start.startsWith(prefix));
  if (beginning) return beginning[1];
  const brand = text(4, 4) === 'ftyp' && BRANDS.find(([pattern]) => pattern.test(text(8, 4)));
  const found = brand || TEXTS.find(([pattern]) => pattern.test(start));
  return found ? found[1] : 'is in no format that is known here';
}
