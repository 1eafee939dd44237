import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';

process.env.ORT_DISABLE_TELEMETRY = '1';
const { InferenceSession, Tensor } = await import('onnxruntime-node');

const MODELS = fileURLToPath(new URL('../models/', import.meta.url));
const simple = await InferenceSession.create(`${MODELS}simple/1/model.onnx`, { intraOpNumThreads: 1 });
const digits = await InferenceSession.create(`${MODELS}digits/1/model.onnx`, { intraOpNumThreads: 1 });
const pictures = await InferenceSession.create(`${MODELS}image-classification/onnx/model.onnx`, {
  intraOpNumThreads: 1,
});
afterAll(async () => {
  await pictures.release();
  await simple.release();
  await digits.release();
});

test('simple adds and subtracts, row by row of a batch', async () => {
  const INPUT0 = new Tensor(
    'int32',
    Int32Array.from({ length: 32 }, (_, i) => i),
    [2, 16],
  );
  const INPUT1 = new Tensor('int32', new Int32Array(32).fill(3), [2, 16]);
  const { OUTPUT0, OUTPUT1 } = await simple.run({ INPUT0, INPUT1 });
  expect(OUTPUT0!.dims).toEqual([2, 16]);
  expect(OUTPUT0!.data).toEqual(Int32Array.from({ length: 32 }, (_, i) => i + 3));
  expect(OUTPUT1!.data).toEqual(Int32Array.from({ length: 32 }, (_, i) => i - 3));
});

test('digits reads the held-out seven of its sample, and its probabilities add up to 1', async () => {
  const sample = JSON.parse(readFileSync(`${MODELS}digits/sample.json`, 'utf8'));
  const image = new Tensor('float32', Float32Array.from(sample.inputs[0].data), sample.inputs[0].shape);
  const { label, probabilities } = await digits.run({ image });
  expect(label!.data).toEqual(BigInt64Array.of(7n));
  expect(label!.dims).toEqual([1, 1]);
  const values = [...(probabilities!.data as Float32Array)];
  expect(values.length).toBe(10);
  expect(values.indexOf(Math.max(...values))).toBe(7);
  expect(values.reduce((sum, value) => sum + value)).toBeCloseTo(1, 5);
});

test('both samples of digits hold the same image', () => {
  const rest = JSON.parse(readFileSync(`${MODELS}digits/sample.json`, 'utf8'));
  const grpc = JSON.parse(readFileSync(`${MODELS}digits/sample.grpc.json`, 'utf8'));
  const bytes = Uint8Array.from(Buffer.from(grpc.raw_input_contents[0], 'base64'));
  expect([...new Float32Array(bytes.buffer)]).toEqual(rest.inputs[0].data);
  expect(grpc.inputs[0].shape).toEqual([1, 64]);
});

test('digits reads the same whatever is light and whatever is dark', async () => {
  const sample = JSON.parse(readFileSync(`${MODELS}digits/sample.json`, 'utf8'));
  const ink: number[] = sample.inputs[0].data;
  const rows = [ink, ink.map((grey) => 16 - grey), ink.map((grey) => 12 - grey / 2)];
  const image = new Tensor('float32', Float32Array.from(rows.flat()), [rows.length, 64]);
  const { label, probabilities } = await digits.run({ image });
  expect(label!.data).toEqual(BigInt64Array.of(7n, 7n, 7n));
  const values = probabilities!.data as Float32Array;
  for (let digit = 0; digit < 10; digit++) {
    expect(values[10 + digit]).toBeCloseTo(values[digit]!, 5);
    expect(values[20 + digit]).toBeCloseTo(values[digit]!, 5);
  }
});

test('digits gives numbers for an image of one grey', async () => {
  const image = new Tensor('float32', new Float32Array(128).fill(16, 64), [2, 64]);
  const { probabilities } = await digits.run({ image });
  expect([...(probabilities!.data as Float32Array)].every(Number.isFinite)).toBe(true);
});

test('digits has one label per probability', () => {
  const labels = readFileSync(`${MODELS}digits/labels.txt`, 'utf8').trimEnd().split('\n');
  expect(labels.length).toBe(10);
  expect(labels[7]).toBe('seven');
  expect(readFileSync(`${MODELS}digits/config.pbtxt`, 'utf8')).toContain('label_filename: "labels.txt"');
});

test('image-classification takes any height and width, and each row of a batch by itself', async () => {
  for (const [height, width] of [
    [16, 16],
    [33, 65],
    [224, 224],
    [100, 1000],
  ] as const) {
    const values = Float32Array.from({ length: 2 * 3 * height * width }, (_, i) => Math.sin(i * 0.7) * (i % 5));
    const { logits } = await pictures.run({ pixel_values: new Tensor('float32', values, [2, 3, height, width]) });
    expect(logits!.dims).toEqual([2, 10]);
    const second = new Tensor('float32', values.slice(values.length / 2), [1, 3, height, width]);
    const alone = await pictures.run({ pixel_values: second });
    expect([...(logits!.data as Float32Array).slice(10)]).toEqual([...(alone.logits!.data as Float32Array)]);
  }
});

test('image-classification sees the held-out cat of its sample', async () => {
  const { image_mean, image_std, crop_size, id2label } = {
    ...JSON.parse(readFileSync(`${MODELS}image-classification/preprocessor_config.json`, 'utf8')),
    ...JSON.parse(readFileSync(`${MODELS}image-classification/config.json`, 'utf8')),
  };
  const { height, width } = crop_size;
  const pixels = await sharp(`${MODELS}image-classification/sample.jpg`).resize(width, height).raw().toBuffer();
  const planes = Float32Array.from({ length: 3 * height * width }, (_, i) => {
    const channel = Math.floor(i / (height * width));
    return (pixels[(i % (height * width)) * 3 + channel]! / 255 - image_mean[channel]) / image_std[channel];
  });
  const { logits } = await pictures.run({ pixel_values: new Tensor('float32', planes, [1, 3, height, width]) });
  const values = [...(logits!.data as Float32Array)];
  expect(Object.keys(id2label).length).toBe(values.length);
  expect(id2label[values.indexOf(Math.max(...values))]).toBe('cat');
});

test('digits reads its sample pictures', async () => {
  const { size, rescale_factor } = JSON.parse(readFileSync(`${MODELS}digits/preprocessor_config.json`, 'utf8'));
  for (const [file, digit] of [
    ['sample.png', 7n],
    ['sample.jpg', 3n],
  ] as const) {
    const picture = sharp(`${MODELS}digits/${file}`).greyscale();
    const pixels = await picture.resize(size.width, size.height, { fit: 'fill', kernel: 'linear' }).raw().toBuffer();
    const image = new Tensor(
      'float32',
      Float32Array.from(pixels, (grey) => grey * rescale_factor),
      [1, 64],
    );
    const { label } = await digits.run({ image });
    expect(label!.data).toEqual(BigInt64Array.of(digit));
  }
});

test('the committed models stay small', () => {
  for (const model of ['simple', 'digits'])
    expect(statSync(`${MODELS}${model}/1/model.onnx`).size).toBeLessThan(500_000);
  const files = readdirSync(MODELS, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const bytes = files.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
  expect(bytes).toBeLessThan(16_000_000);
});
