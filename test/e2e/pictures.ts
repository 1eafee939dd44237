/** Pictures for tests: small ones with known pixels in each format, and the broken and hostile ones. */
import { crc32 } from 'node:zlib';
import sharp from 'sharp';

export interface Pixels {
  readonly width: number;
  readonly height: number;
  /** RGB, row by row. */
  readonly data: Buffer;
}

/** Pixels that all differ from their neighbours. */
export function pattern(width: number, height: number): Pixels {
  const data = Buffer.from(Array.from({ length: width * height * 3 }, (_, i) => (i * 37 + (i % 3) * 80) % 256));
  return { width, height, data };
}

/** All pixels of one colour. */
export function flat(width: number, height: number, rgb: readonly number[]): Pixels {
  return { width, height, data: Buffer.from(Array.from({ length: width * height }, () => rgb).flat()) };
}

export function encode(
  { width, height, data }: Pixels,
  format: 'png' | 'jpeg' | 'webp' | 'gif' | 'tiff',
): Promise<Buffer> {
  const image = sharp(data, { raw: { width, height, channels: 3 } });
  const options = { png: {}, jpeg: { quality: 100 }, webp: { lossless: true }, gif: {}, tiff: {} }[format];
  return image.toFormat(format, options).toBuffer();
}

/** A WebP of two frames. */
export function animatedWebp(): Promise<Buffer> {
  const data = Buffer.concat([flat(8, 8, [255, 0, 0]).data, flat(8, 8, [0, 0, 255]).data]);
  return sharp(data, { raw: { width: 8, height: 16, channels: 3, pageHeight: 8 } })
    .webp({ loop: 0, delay: [100, 100] })
    .toBuffer();
}

/** A PNG of a few bytes whose header claims `width` x `height` pixels. */
export function claimingPng(width: number, height: number): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', Buffer.alloc(16)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const check = Buffer.alloc(4);
  check.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, check]);
}
