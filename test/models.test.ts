import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer } from '@huggingface/tokenizers';
import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';

process.env.ORT_DISABLE_TELEMETRY = '1';
const { InferenceSession, Tensor } = await import('onnxruntime-node');

const MODELS = fileURLToPath(new URL('../models/', import.meta.url));
const readJson = (file: string) => JSON.parse(readFileSync(`${MODELS}${file}`, 'utf8'));

/** Token ids of the texts, padded to the longest. */
function tokens(texts: readonly string[]) {
  const rows = texts.map((text) => tokenizer.encode(text).ids);
  const longest = Math.max(...rows.map((row) => row.length));
  const flat = (value: (row: number[], at: number) => number) =>
    BigInt64Array.from(rows.flatMap((row) => Array.from({ length: longest }, (_, at) => BigInt(value(row, at)))));
  const dims = [rows.length, longest];
  return {
    input_ids: new Tensor(
      'int64',
      flat((row, at) => row[at] ?? 0),
      dims,
    ),
    attention_mask: new Tensor(
      'int64',
      flat((row, at) => (at < row.length ? 1 : 0)),
      dims,
    ),
  };
}

async function embed(texts: readonly string[]): Promise<number[][]> {
  const { sentence_embedding } = await sentences.run(tokens(texts));
  const values = [...(sentence_embedding!.data as Float32Array)];
  expect(sentence_embedding!.dims).toEqual([texts.length, 256]);
  return texts.map((_, i) => values.slice(i * 256, (i + 1) * 256));
}

const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

const simple = await InferenceSession.create(`${MODELS}simple/1/model.onnx`, { intraOpNumThreads: 1 });
const digits = await InferenceSession.create(`${MODELS}digits/1/model.onnx`, { intraOpNumThreads: 1 });
const pictures = await InferenceSession.create(`${MODELS}image-classification/onnx/model.onnx`, {
  intraOpNumThreads: 1,
});
const sentences = await InferenceSession.create(`${MODELS}sentence-embedding/onnx/model.onnx`, {
  intraOpNumThreads: 1,
});
const tokenizer = new Tokenizer(
  readJson('sentence-embedding/tokenizer.json'),
  readJson('sentence-embedding/tokenizer_config.json'),
);
afterAll(async () => {
  await sentences.release();
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

test('sentence-embedding puts sentences of one matter nearer than others, and gives vectors of length 1', async () => {
  const [password, account, cat, kitten, train] = (await embed([
    'How do I reset my password?',
    'Where can I change the password of my account?',
    'The cat sleeps on the sofa all afternoon.',
    'Our kitten is napping on the couch.',
    'Our train to Berlin leaves at nine in the morning.',
  ])) as [number[], number[], number[], number[], number[]];
  for (const vector of [password, account, cat, kitten, train]) expect(dot(vector, vector)).toBeCloseTo(1, 5);
  for (const other of [cat, kitten, train]) expect(dot(password, account)).toBeGreaterThan(dot(password, other) + 0.2);
  for (const other of [password, account, train]) expect(dot(cat, kitten)).toBeGreaterThan(dot(cat, other) + 0.2);
});

test('sentence-embedding gives a text the same vector in a padded batch, and numbers for no text', async () => {
  const long = 'a long line of words '.repeat(40);
  const [alone] = await embed(['two words']);
  const [padded, empty] = await embed(['two words', '', long]);
  for (const [i, value] of alone!.entries()) expect(padded![i]).toBeCloseTo(value, 5);
  expect(empty!.every(Number.isFinite)).toBe(true);
});

test('sentence-embedding: its vector is the mean of its token embeddings, brought to length 1', async () => {
  const feeds = tokens(['plain words, averaged']);
  const { token_embeddings, sentence_embedding } = await sentences.run(feeds);
  const count = feeds.input_ids.dims[1]!;
  expect(token_embeddings!.dims).toEqual([1, count, 256]);
  const rows = token_embeddings!.data as Float32Array;
  const mean = Array.from({ length: 256 }, (_, i) =>
    Array.from({ length: count }, (_, at) => rows[at * 256 + i]! / count).reduce((sum, value) => sum + value),
  );
  const length = Math.sqrt(dot(mean, mean));
  const values = sentence_embedding!.data as Float32Array;
  for (const [i, value] of mean.entries()) expect(values[i]).toBeCloseTo(value / length, 5);
});

test('the committed models stay small', () => {
  for (const model of ['simple', 'digits'])
    expect(statSync(`${MODELS}${model}/1/model.onnx`).size).toBeLessThan(500_000);
  const files = readdirSync(MODELS, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const bytes = files.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
  expect(bytes).toBeLessThan(16_000_000);
});
