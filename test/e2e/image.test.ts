/** Pictures in, tensors as `preprocessor_config.json` says, on a real server. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { call, connect } from '../grpc/front-end.js';
import { temporaryDirectory } from '../support/engine.js';
import { writeImageModel } from '../support/huggingface.js';
import { startServer, type TestServer } from '../support/server.js';
import { ARMS, type ArmClient, type ArmName, createArmClient, type RawTensor } from './arms.js';
import { budgetOf, content, farthest, floatsOf, output } from './content.js';
import { animatedWebp, claimingPng, encode, flat, pattern } from './pictures.js';

const SIZE = 8;
const MAX_PIXELS = 1_000_000;
/** JSON and typed contents of BYTES are text over REST JSON: pictures come in the others. */
const PICTURE_ARMS: readonly ArmName[] = ARMS.filter((arm) => arm !== 'REST JSON');

const config = 'max_batch_size: 8\ndynamic_batching { }\n';
const repository = temporaryDirectory();
writeImageModel(repository, 'chw', { config, height: SIZE, width: SIZE });
writeImageModel(repository, 'free', { config });
writeImageModel(repository, 'hwc', { config, order: 'HWC', height: SIZE, width: SIZE });
writeImageModel(repository, 'flat', { config, order: 'flat', height: SIZE, width: SIZE });
writeImageModel(repository, 'bytes', {
  config,
  height: SIZE,
  width: SIZE,
  datatype: 'UINT8',
  preprocessor: { do_rescale: false, do_normalize: false },
});
writeImageModel(repository, 'grey', { config, channels: 1, height: SIZE, width: SIZE });
writeImageModel(repository, 'crop', {
  config,
  preprocessor: { size: { shortest_edge: 16 }, do_center_crop: true, crop_size: { height: SIZE, width: SIZE } },
});
writeImageModel(repository, 'imagenet', {
  config,
  preprocessor: { image_mean: [0.485, 0.456, 0.406], image_std: [0.229, 0.224, 0.225] },
});

let server: TestServer;
let client: ArmClient;
beforeAll(async () => {
  server = await startServer({ repository, args: ['--max-image-pixels', String(MAX_PIXELS)] });
  client = createArmClient(server);
});
afterAll(async () => {
  client?.close();
  expect(await server?.stop()).toBe(0);
});

const picture = pattern(SIZE, SIZE);
const normalized = (value: number): number => (value / 255 - 0.5) / 0.5;
/** The pattern's values, channel by channel. */
const planes = Float32Array.from({ length: 3 * SIZE * SIZE }, (_, i) => {
  return normalized(picture.data[(i % (SIZE * SIZE)) * 3 + Math.floor(i / (SIZE * SIZE))]!);
});

async function pixels(arm: ArmName, model: string, ...pictures: Uint8Array[]): Promise<RawTensor> {
  return output(await client.infer(arm, model, [content('image', ...pictures)]), 'pixels');
}

async function means(model: string, file: Uint8Array): Promise<Float32Array> {
  return floatsOf(output(await client.infer('gRPC raw', model, [content('image', file)]), 'means'));
}

describe.each(PICTURE_ARMS)('a picture over %s', (arm) => {
  test.each(['png', 'webp'] as const)(
    'as %s of the right size becomes its pixels, rescaled and normalized',
    async (format) => {
      const tensor = await pixels(arm, 'chw', await encode(picture, format));
      expect(tensor.shape.map(Number)).toEqual([1, 3, SIZE, SIZE]);
      expect(farthest(floatsOf(tensor), planes)).toBeLessThan(1e-6);
    },
  );

  test('as JPEG comes close to what was drawn', async () => {
    const tensor = await pixels(arm, 'chw', await encode(flat(SIZE, SIZE, [200, 100, 50]), 'jpeg'));
    const expected = Float32Array.from({ length: 192 }, (_, i) => normalized([200, 100, 50][Math.floor(i / 64)]!));
    expect(farthest(floatsOf(tensor), expected)).toBeLessThan(0.03);
  });

  test('is taken under any name where it is all that the model takes', async () => {
    const file = await encode(picture, 'png');
    for (const name of ['input-0', 'pixel_values']) {
      const outputs = await client.infer(arm, 'chw', [content(name, file)]);
      expect(farthest(floatsOf(output(outputs, 'pixels')), planes)).toBeLessThan(1e-6);
    }
  });

  test('beside others of other sizes in one request is a row of the batch', async () => {
    const files = [await encode(flat(20, 30, [255, 0, 0]), 'png'), await encode(flat(9, 5, [0, 0, 255]), 'webp')];
    const outputs = await client.infer(arm, 'chw', [content('image', ...files)]);
    expect(farthest(floatsOf(output(outputs, 'means')), Float32Array.of(1, -1, -1, -1, -1, 1))).toBeLessThan(1e-5);
  });

  test('leaves raw tensors of the same model as they were', async () => {
    const data = Buffer.from(Float32Array.from(planes, (x) => x * 3).buffer);
    const input: RawTensor = { name: 'pixel_values', datatype: 'FP32', shape: [1, 3, SIZE, SIZE], data };
    expect(output(await client.infer(arm, 'chw', [input]), 'pixels').data).toEqual(data);
  });
});

describe('the tensor of a picture', () => {
  test('has the order of elements that the model declares', async () => {
    const file = await encode(picture, 'png');
    const interleaved = Float32Array.from(picture.data, normalized);
    const hwc = await pixels('gRPC raw', 'hwc', file);
    expect(hwc.shape.map(Number)).toEqual([1, SIZE, SIZE, 3]);
    expect(farthest(floatsOf(hwc), interleaved)).toBeLessThan(1e-6);
    const flattened = await pixels('gRPC raw', 'flat', file);
    expect(flattened.shape.map(Number)).toEqual([1, 3 * SIZE * SIZE]);
    expect(farthest(floatsOf(flattened), planes)).toBeLessThan(1e-6);
  });

  test('of bytes holds the pixels as they are', async () => {
    const tensor = await pixels('gRPC raw', 'bytes', await encode(picture, 'png'));
    const expected = Array.from(planes, (x) => Math.round((x * 0.5 + 0.5) * 255));
    expect([...tensor.data]).toEqual(expected);
  });

  test('of one channel is its grey', async () => {
    const [mean] = await means('grey', await encode(flat(SIZE, SIZE, [90, 90, 90]), 'png'));
    expect(mean).toBeCloseTo(normalized(90), 2);
  });

  test('is normalized channel by channel', async () => {
    const actual = await means('imagenet', await encode(flat(30, 40, [255, 128, 0]), 'png'));
    const expected = [(1 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225];
    expect(farthest(actual, Float32Array.from(expected))).toBeLessThan(1e-4);
  });

  test('is resized to the shorter edge and cropped in the middle', async () => {
    // Black, but for the middle that is left after the crop: white there.
    const wide = flat(64, 32, [0, 0, 0]);
    for (let y = 8; y < 24; y++) wide.data.fill(255, (y * 64 + 24) * 3, (y * 64 + 40) * 3);
    const tensor = await pixels('gRPC raw', 'crop', await encode(wide, 'png'));
    expect(tensor.shape.map(Number)).toEqual([1, 3, SIZE, SIZE]);
    const values = floatsOf(tensor);
    // The pixel in the middle of the first channel is white, whatever the resampling does at the edges.
    expect(values[4 * SIZE + 4]).toBeCloseTo(1, 2);
    expect(values.reduce((sum, x) => sum + x, 0) / values.length).toBeGreaterThan(0.7);
  });

  test('of a transparent picture and of a turned photograph is made', async () => {
    const { default: sharp } = await import('sharp');
    const raw = { raw: { width: SIZE, height: SIZE, channels: 4 as const } };
    const clear = await sharp(Buffer.alloc(SIZE * SIZE * 4, 128), raw)
      .png()
      .toBuffer();
    expect((await pixels('gRPC raw', 'chw', clear)).shape.map(Number)).toEqual([1, 3, SIZE, SIZE]);
    const grey = await sharp(await encode(picture, 'png'))
      .greyscale()
      .png()
      .toBuffer();
    expect((await pixels('gRPC raw', 'chw', grey)).shape.map(Number)).toEqual([1, 3, SIZE, SIZE]);
  });
});

const png = await encode(pattern(64, 64), 'png');
const jpeg = await encode(pattern(64, 64), 'jpeg');
/** What it is, its bytes, and what the refusal says. */
const BAD: [string, Uint8Array, RegExp][] = [
  ['a PNG that is cut', png.subarray(0, png.length >> 1), /image|picture/],
  ['a JPEG that is cut', jpeg.subarray(0, jpeg.length >> 1), /image|picture/],
  ['a PNG of nothing but its signature', png.subarray(0, 8), /image|picture/],
  ['an animated WebP', await animatedWebp(), /animat|frames|pages/i],
  ['a header of 65535 x 65535 pixels', claimingPng(65_535, 65_535), /65535x65535.*1000000/],
  ['a header of one pixel too many', claimingPng(1001, 1000), /1001x1000.*1000000/],
  ['zero bytes', new Uint8Array(0), /empty/],
  ['a GIF', await encode(picture, 'gif'), /PNG, JPEG.*WebP/],
  ['a TIFF', await encode(picture, 'tiff'), /PNG, JPEG.*WebP/],
  ['an SVG', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'), /PNG, JPEG.*WebP/],
  ['text', Buffer.from('a picture of a cat'), /PNG, JPEG.*WebP/],
];

describe('a bad picture', () => {
  test.each(BAD)(
    'that is %s is refused with a sentence that helps, and disturbs no neighbour',
    async (_, bad, message) => {
      const file = await encode(picture, 'png');
      const good = async (arm: ArmName) => {
        expect(farthest(floatsOf(await pixels(arm, 'chw', file)), planes)).toBeLessThan(1e-6);
      };
      await Promise.all(
        PICTURE_ARMS.flatMap((arm) => [good(arm), expect(pixels(arm, 'chw', bad)).rejects.toThrow(message), good(arm)]),
      );
    },
  );

  test('has the status of a bad request on both protocols', async () => {
    const stub = connect('open', server.grpcPort);
    const inputs = [{ name: 'image', datatype: 'BYTES', shape: [1, 1] }];
    const request = { model_name: 'chw', inputs, raw_input_contents: [content('image', 'no picture').data] };
    expect((await call(stub, 'ModelInfer', request)).error?.code).toBe(3);
    stub.close();
    const response = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/chw/infer`, {
      method: 'POST',
      body: JSON.stringify({ inputs: [{ name: 'image', datatype: 'BYTES', shape: [1, 1], data: ['no picture'] }] }),
    });
    expect(response.status).toBe(400);
    expect(((await response.json()) as { error: string }).error).toMatch(/PNG, JPEG/);
  });

  test('among good ones fails its request alone', async () => {
    const file = await encode(picture, 'png');
    const others = Array.from({ length: 6 }, () => pixels('gRPC raw', 'chw', file));
    await expect(pixels('gRPC raw', 'chw', file, png.subarray(0, 40))).rejects.toThrow();
    for (const tensor of await Promise.all(others)) expect(farthest(floatsOf(tensor), planes)).toBeLessThan(1e-6);
  });
});

describe('the small contract', () => {
  test('takes a picture in a multimodal request and refuses text, naming both', async () => {
    const stub = connect('v1', server.grpcPort);
    const image_bytes = await encode(picture, 'png');
    const ask = (input: object) => call(stub, 'MultimodalInfer', { model_name: 'chw', inputs: [input] });
    for (const input of [{ name: 'image', image_bytes }, { image_bytes }]) {
      const { error, response } = await ask(input);
      expect(error).toBeNull();
      const [{ raw_contents: data, ...head }] = response.outputs;
      expect(farthest(floatsOf({ ...head, data }), planes)).toBeLessThan(1e-6);
    }
    const { error } = await ask({ text: 'a cat' });
    expect(error?.code).toBe(3);
    expect(error?.details).toMatch(/text.*an image/);
    stub.close();
  });
});

describe('the budget of a picture', () => {
  test('has a phase for the decoding, on both protocols', async () => {
    const file = content('image', await encode(picture, 'png'));
    const { data, ...head } = file;
    const stub = connect('open', server.grpcPort);
    const request = { model_name: 'chw', inputs: [head], raw_input_contents: [data] };
    const { trailer } = await call(stub, 'ModelInfer', request);
    stub.close();
    expect(budgetOf(trailer!.get('server-timing')[0] as string).preprocess).toBeGreaterThan(0);
    const json = Buffer.from(JSON.stringify({ inputs: [{ ...head, parameters: { binary_data_size: data.length } }] }));
    const response = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/chw/infer`, {
      method: 'POST',
      headers: { 'inference-header-content-length': String(json.length) },
      body: Uint8Array.from(Buffer.concat([json, data])),
    });
    await response.arrayBuffer();
    expect(budgetOf(response.headers.get('server-timing')).preprocess).toBeGreaterThan(0);
  });
});
