import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import type { ContentElements, ImageSpec } from '../../src/runtime/preprocess-messages.js';
import { createImageProcessor } from '../../workers/image.js';
import { resample } from '../../workers/image-resample.js';

interface Picture {
  name: string;
  bytes: string;
  size: [number, number];
  rgb: string;
  grey: string;
  tensors: Record<string, (number | string)[]>;
}

const lines = readFileSync(join(import.meta.dirname, '../fixtures/images/pictures.jsonl'), 'utf8')
  .trimEnd()
  .split('\n');
const [cases, ...pictures] = lines.map((line) => JSON.parse(line)) as [
  Record<string, Partial<ImageSpec>>,
  ...Picture[],
];

const PLAIN: ImageSpec = {
  tensor: 'pixels',
  datatype: 'UINT8',
  dims: [-1, -1, -1],
  layout: 'HWC',
  channels: 3,
  channelOrder: 'RGB',
  resample: 'bilinear',
  rescale: 1,
  maxPixels: 1_000_000,
};

function images(...pictures: Uint8Array[]): ContentElements<Uint8Array<ArrayBuffer>> {
  const parts = pictures.flatMap((bytes) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return [length, bytes];
  });
  return { kind: 'image', count: pictures.length, data: new Uint8Array(Buffer.concat(parts)) };
}

const digest = (data: Uint8Array): string => createHash('sha1').update(data).digest('hex').slice(0, 12);

describe.each(pictures)('$name', ({ bytes, size, rgb, grey, tensors }) => {
  const file = Buffer.from(bytes, 'base64');
  const [width, height] = size;

  test('has the pixels that Pillow gives, in colours and in grey', async () => {
    const colours = await (await createImageProcessor(PLAIN)).prepare(images(file));
    expect(colours.dims).toEqual([1, height, width, 3]);
    expect(digest(colours.data)).toBe(rgb);
    const shades = await (await createImageProcessor({ ...PLAIN, channels: 1 })).prepare(images(file));
    expect(shades.dims).toEqual([1, height, width, 1]);
    expect(digest(shades.data)).toBe(grey);
  });

  test.each(Object.keys(cases))('becomes the tensor of Pillow and NumPy, bit for bit: %s', async (name) => {
    const spec: ImageSpec = { ...PLAIN, datatype: 'FP32', layout: 'CHW', rescale: 1 / 255, ...cases[name] };
    const tensor = await (await createImageProcessor(spec)).prepare(images(file));
    expect([...tensor.dims.slice(1), digest(tensor.data)]).toEqual(tensors[name]);
  });
});

test('several pictures are one tensor', async () => {
  const [first, second] = [pictures[0]!, pictures[1]!].map(({ bytes }) => Buffer.from(bytes, 'base64'));
  const processor = await createImageProcessor(PLAIN);
  const [a, b, both] = [images(first!), images(second!), images(first!, second!)].map((content) =>
    processor.prepare(content),
  );
  const { dims, data } = await both!;
  expect(dims).toEqual([2, 40, 56, 3]);
  expect(Buffer.from(data).equals(Buffer.concat([(await a!).data, (await b!).data]))).toBe(true);
});

test('a flat input takes all values of a picture, and one without an axis for channels a grey one', async () => {
  const file = Buffer.from(pictures[0]!.bytes, 'base64');
  const spec: ImageSpec = { ...PLAIN, ...cases.digits };
  const flat = await (await createImageProcessor({ ...spec, dims: [64] })).prepare(images(file));
  const plane = await (await createImageProcessor({ ...spec, dims: [8, 8] })).prepare(images(file));
  expect([flat.dims, plane.dims]).toEqual([
    [1, 64],
    [1, 8, 8],
  ]);
  expect(flat.data).toEqual(plane.data);
});

describe('a large picture that shrinks', () => {
  const [width, height] = [1200, 800];
  const colours = Buffer.alloc(3 * width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = 3 * (y * width + x);
      colours[at] = 127 + 120 * Math.sin(x / 31);
      colours[at + 1] = 127 + 120 * Math.cos(y / 17);
      colours[at + 2] = (x ^ y) & 255;
    }
  }
  const picture = () => sharp(colours, { raw: { width, height, channels: 3 } });
  const spec = (resample: ImageSpec['resample'], size: number): ImageSpec => ({
    ...PLAIN,
    resample,
    resize: { kind: 'shortest_edge', size },
  });

  test.each(['bilinear', 'bicubic', 'lanczos'] as const)('by %s is near what it is to the last bit', async (method) => {
    const { dims, data } = await (await createImageProcessor(spec(method, 100))).prepare(
      images(await picture().png().toBuffer()),
    );
    expect(dims).toEqual([1, 100, 150, 3]);
    const exact = resample({ width, height, channels: 3, data: colours }, { width: 150, height: 100, method }).data;
    const away = Array.from(exact, (value, i) => Math.abs(value - data[i]!));
    expect(away.reduce((sum, one) => sum + one) / away.length).toBeLessThan(2);
    expect(Math.max(...away)).toBeLessThan(32);
    expect(away.some((one) => one > 0)).toBe(true);
  });

  test('is turned first, as its EXIF data says', async () => {
    const turned = await picture().jpeg({ quality: 95 }).withMetadata({ orientation: 6 }).toBuffer();
    const { dims, data } = await (await createImageProcessor(spec('bicubic', 100))).prepare(images(turned));
    expect(dims).toEqual([1, 150, 100, 3]);
    const upright = await picture().jpeg({ quality: 95 }).toBuffer();
    const flat = await (await createImageProcessor(spec('bicubic', 100))).prepare(images(upright));
    const green = (of: Uint8Array, x: number, y: number, row: number) => of[3 * (y * row + x) + 1]!;
    // Green changes along the height alone, which is now the width, from right to left.
    for (const y of [10, 50, 90])
      expect(Math.abs(green(data, 99 - y, 70, 100) - green(flat.data, 70, y, 150))).toBeLessThan(8);
  });

  test('is exact where parts of it are transparent', async () => {
    const withAlpha = Buffer.alloc(4 * width * height);
    for (let pixel = 0; pixel < width * height; pixel++) {
      colours.copy(withAlpha, 4 * pixel, 3 * pixel, 3 * pixel + 3);
      withAlpha[4 * pixel + 3] = (pixel % width) & 255;
    }
    const { data } = await (await createImageProcessor(spec('bilinear', 100))).prepare(
      images(
        await sharp(withAlpha, { raw: { width, height, channels: 4 } })
          .png()
          .toBuffer(),
      ),
    );
    const target = { width: 150, height: 100, method: 'bilinear' } as const;
    expect(Buffer.from(data).equals(resample({ width, height, channels: 3, data: colours }, target).data)).toBe(true);
  });

  test('to more than half, or by a filter that libvips has not, is exact', async () => {
    for (const [method, size] of [
      ['bicubic', 500],
      ['box', 100],
      ['hamming', 100],
      ['nearest', 100],
    ] as const) {
      const { data } = await (await createImageProcessor(spec(method, size))).prepare(
        images(await picture().png().toBuffer()),
      );
      const target = { width: (size * width) / height, height: size, method };
      expect(Buffer.from(data).equals(resample({ width, height, channels: 3, data: colours }, target).data)).toBe(true);
    }
  });
});
