import { deflateSync } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';
import { beforeAll, expect, test } from 'vitest';
import type { ContentElements, ImageSpec } from '../../src/runtime/preprocess-messages.js';
import { createImageProcessor, type ImageProcessor } from '../../workers/image.js';

const SPEC: ImageSpec = {
  tensor: 'pixels',
  datatype: 'UINT8',
  dims: [-1, -1, 3],
  layout: 'HWC',
  channels: 3,
  channelOrder: 'RGB',
  resample: 'bilinear',
  rescale: 1,
  maxPixels: 1_000_000,
};

let processor: ImageProcessor;
let picture: Sharp;
beforeAll(async () => {
  processor = await createImageProcessor(SPEC);
  const noise = Buffer.from(Uint8Array.from({ length: 60 * 40 * 3 }, (_, i) => (i * 7919) % 251));
  picture = sharp(noise, { raw: { width: 60, height: 40, channels: 3 } });
});

function images(...pictures: Uint8Array[]): ContentElements<Uint8Array<ArrayBuffer>> {
  const parts = pictures.flatMap((bytes) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return [length, bytes];
  });
  return { kind: 'image', count: pictures.length, data: new Uint8Array(Buffer.concat(parts)) };
}

const refusal = (message: string | RegExp) => ({
  code: 'INVALID_ARGUMENT',
  message: message instanceof RegExp ? expect.stringMatching(message) : message,
});
const prepare = (...pictures: Uint8Array[]) => processor.prepare(images(...pictures));

function chunk(type: string, data: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32BE(data.length);
  head.write(type, 4, 'latin1');
  // Decoders may look at the checksum; what is tested here is refused before.
  return Buffer.concat([head, data, Buffer.alloc(4)]);
}

function pngHeader(width: number, height: number): Buffer {
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), chunk('IHDR', header)]);
}

/** Three frames, one below the other, as sharp takes them; alike they would become one. */
const frames = Uint8Array.from({ length: 8 * 24 * 3 }, (_, i) => 80 * Math.floor(i / (8 * 8 * 3)));
const animated = () => sharp(frames, { raw: { width: 8, height: 24, channels: 3, pageHeight: 8 } });

test('zero bytes are no picture', async () => {
  await expect(prepare(Buffer.alloc(0))).rejects.toMatchObject(refusal('image 0 is empty: it has zero bytes'));
});

test('a small file that claims a huge picture is refused before it is decoded, in every format', async () => {
  const png = Buffer.concat([pngHeader(65535, 65535), chunk('IDAT', deflateSync(Buffer.alloc(100)))]);
  await expect(prepare(png)).rejects.toMatchObject(
    refusal('image 0 is a PNG of 65535x65535 = 4294836225 pixels, more than the 1000000 that are decoded'),
  );
  const jpeg = await picture.clone().jpeg().toBuffer();
  const frame = jpeg.indexOf(Buffer.from([0xff, 0xc0]));
  jpeg.writeUInt16BE(65535, frame + 5);
  jpeg.writeUInt16BE(65500, frame + 7);
  await expect(prepare(jpeg)).rejects.toMatchObject(refusal(/a JPEG of 65500x65535 = 4292542500 pixels, more than/));
  const lossy = await picture.clone().webp().toBuffer();
  lossy.writeUInt16LE(16383, lossy.indexOf('VP8 ') + 14);
  await expect(prepare(lossy)).rejects.toMatchObject(refusal(/a WebP of 16383x40 = 655320|can't be decoded/));
  const lossless = await picture.clone().webp({ lossless: true }).toBuffer();
  lossless.writeUInt32LE(0x0fffffff, lossless.indexOf('VP8L') + 9);
  await expect(prepare(lossless)).rejects.toMatchObject(refusal(/a WebP of 16384x16384 = 268435456 pixels, more than/));
  const extended = await picture.clone().ensureAlpha(0.5).webp().toBuffer();
  extended.fill(0xff, extended.indexOf('VP8X') + 12, extended.indexOf('VP8X') + 18);
  await expect(prepare(extended)).rejects.toMatchObject(refusal(/a WebP of 16777216x16777216 = \d+ pixels, more than/));
});

test('the most pixels are decoded, one more is not', async () => {
  const file = await picture.clone().png().toBuffer();
  const just = await createImageProcessor({ ...SPEC, maxPixels: 2400 });
  expect((await just.prepare(images(file))).dims).toEqual([1, 40, 60, 3]);
  const less = await createImageProcessor({ ...SPEC, maxPixels: 2399 });
  await expect(less.prepare(images(file))).rejects.toMatchObject(
    refusal('image 0 is a PNG of 60x40 = 2400 pixels, more than the 2399 that are decoded'),
  );
});

test('a header that lies about the size does not get past the decoder either', async () => {
  const file = await picture.clone().png().toBuffer();
  pngHeader(30, 40).copy(file, 0, 0, 33);
  await expect(prepare(file)).rejects.toMatchObject(refusal(/image 0 is a PNG that can't be decoded/));
});

test.each(['png', 'jpeg', 'webp'] as const)('a %s that is cut short anywhere is refused or whole', async (format) => {
  const file = await picture.clone().toFormat(format).toBuffer();
  expect((await prepare(file)).dims).toEqual([1, 40, 60, 3]);
  for (const share of [0.05, 0.3, 0.5, 0.9]) {
    const cut = file.subarray(0, Math.floor(file.length * share));
    await expect(prepare(cut), `${cut.length} of ${file.length} bytes`).rejects.toMatchObject(
      refusal(/^image 0 is (cut short|a (PNG|JPEG|WebP) that can't be decoded, it is cut short or broken)/),
    );
  }
});

test('no beginning of a picture is anything but a picture or a refusal', async () => {
  const files = [
    await picture.clone().png().toBuffer(),
    await picture.clone().jpeg().toBuffer(),
    await picture.clone().webp().toBuffer(),
  ];
  for (const file of files) {
    for (let length = 1; length < 120; length++) {
      await expect(prepare(file.subarray(0, length))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
  }
});

test('bytes in the middle that are wrong give a picture or a refusal, and the next picture is decoded', async () => {
  const files = [
    await picture.clone().png().toBuffer(),
    await picture.clone().jpeg({ progressive: true }).toBuffer(),
    await picture.clone().webp().toBuffer(),
  ];
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    return (seed >>> 8) % below;
  };
  for (const file of files) {
    for (let round = 0; round < 60; round++) {
      const broken = Buffer.from(file);
      for (let i = 0; i < 8; i++) broken[random(broken.length)] = random(256);
      const outcome = await prepare(broken).then(
        ({ dims }) => dims.length,
        (error: { code: string }) => error.code,
      );
      expect([4, 'INVALID_ARGUMENT']).toContain(outcome);
    }
    expect((await prepare(file)).dims).toEqual([1, 40, 60, 3]);
  }
});

test('animated pictures are refused', async () => {
  const webp = await animated()
    .webp({ loop: 0, delay: [100, 100, 100] })
    .toBuffer();
  await expect(prepare(webp)).rejects.toMatchObject(
    refusal('image 0 is an animated WebP: send one frame as a picture of its own'),
  );
  const png = Buffer.concat([pngHeader(8, 8), chunk('acTL', Buffer.alloc(8)), chunk('IDAT', Buffer.alloc(8))]);
  await expect(prepare(png)).rejects.toMatchObject(
    refusal('image 0 is an animated PNG: send one frame as a picture of its own'),
  );
});

test.each([
  ['a GIF', () => picture.clone().gif().toBuffer()],
  ['a TIFF', () => picture.clone().tiff().toBuffer()],
  ['an AVIF', () => picture.clone().avif().toBuffer()],
  ['an SVG', () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')],
  ['an SVG', () => Buffer.from('<?xml version="1.0"?><svg/>')],
  ['a BMP', () => Buffer.from('BM6\0\0\0\0\0\0\0')],
  ['a PDF', () => Buffer.from('%PDF-1.7')],
  ['a HEIC', () => Buffer.from('\0\0\0\x18ftypheic\0\0\0\0')],
  ['text', () => Buffer.from('a cat on a mat')],
  [
    'base64, not the bytes of a picture (over REST, send them as the body with Content-Type: image/png or the like, or as binary tensor data)',
    async () => Buffer.from((await picture.clone().png().toBuffer()).toString('base64')),
  ],
  ['a data URL, not the bytes of a picture', () => Buffer.from('data:image/png;base64,AAAA')],
  ['a URL, not the bytes of a picture', () => Buffer.from('https://example.com/cat.png')],
])('what looks like %s is refused with what is accepted', async (name, make) => {
  await expect(prepare(await make())).rejects.toMatchObject(
    refusal(`image 0 looks like ${name}: PNG, JPEG and WebP are accepted`),
  );
});

test('bytes that look like nothing are refused', async () => {
  await expect(prepare(Buffer.from([1, 2, 3, 250]))).rejects.toMatchObject(
    refusal('image 0 is in no format that is known here: PNG, JPEG and WebP are accepted'),
  );
});

test('the error names the picture that is wrong', async () => {
  const file = await picture.clone().png().toBuffer();
  await expect(prepare(file, file, Buffer.from('GIF89a'))).rejects.toMatchObject(refusal(/^image 2 looks like a GIF/));
});

test('pictures of one request that come out in different sizes are refused', async () => {
  const other = await picture.clone().resize(10, 10).png().toBuffer();
  await expect(prepare(await picture.clone().png().toBuffer(), other)).rejects.toMatchObject(
    refusal('image 1 becomes [10,10,3] and image 0 [40,60,3]: pictures of one request must come out alike'),
  );
});

test('a picture that does not come out as the model takes it is refused', async () => {
  const fixed = await createImageProcessor({ ...SPEC, dims: [32, 32, 3] });
  await expect(fixed.prepare(images(await picture.clone().png().toBuffer()))).rejects.toMatchObject(
    refusal('image 0 becomes [40,60,3], and the model takes [32,32,3]'),
  );
});

test('a thin picture that would be scaled to a huge one is refused', async () => {
  const line = await picture.clone().resize(1, 5000, { fit: 'fill' }).png().toBuffer();
  const scaled = await createImageProcessor({ ...SPEC, resize: { kind: 'shortest_edge', size: 224 } });
  await expect(scaled.prepare(images(line))).rejects.toMatchObject(
    refusal('image 0 of 1x5000 pixels would be scaled to 224x1120000: it is too long for its width'),
  );
});

test('more pictures than a tensor may hold are refused', async () => {
  const large = await createImageProcessor({
    ...SPEC,
    datatype: 'FP32',
    resize: { kind: 'exact', width: 1600, height: 1600 },
  });
  const file = await picture.clone().png().toBuffer();
  await expect(large.prepare(images(...new Array<Buffer>(9).fill(file)))).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: '9 pictures of [1600,1600,3] take 276480000 bytes of 268435456: send fewer in one request',
  });
  const huge = await createImageProcessor({ ...SPEC, datatype: 'FP32', pad: { width: 5000, height: 5000 } });
  await expect(huge.prepare(images(file))).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: 'a picture of [5000,5000,3] takes 300000000 bytes of 268435456: send a smaller one',
  });
});

test('elements that are not as many or as long as they say are refused', async () => {
  const { data } = images(Buffer.from('abc'));
  await expect(processor.prepare({ kind: 'image', count: 2, data })).rejects.toMatchObject(
    refusal('the input declares 2 elements of kind image, but its bytes hold 1'),
  );
  await expect(processor.prepare({ kind: 'image', count: 1, data: data.slice(0, 6) })).rejects.toMatchObject(
    refusal("image 0 is longer than what is left of the input's 6 bytes"),
  );
  await expect(processor.prepare({ kind: 'image', count: 0, data: new Uint8Array() })).rejects.toMatchObject(
    refusal('the input has no image: at least one is needed'),
  );
});
