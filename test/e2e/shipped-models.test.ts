/** The models that come with the server, asked as a newcomer would: texts and pictures in, meaning out. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServer, type TestServer } from '../support/server.js';

const repository = fileURLToPath(new URL('../../models', import.meta.url));
const file = (path: string): Buffer => readFileSync(`${repository}/${path}`);

let server: TestServer;
let url: string;
beforeAll(async () => {
  server = await startServer({ repository });
  url = `http://127.0.0.1:${server.httpPort}`;
});
afterAll(async () => {
  await server.stop();
});

interface Reply {
  readonly outputs: { readonly name: string; readonly shape: number[]; readonly data: (number | string)[] }[];
}

async function post(path: string, body: string | Buffer, headers: Record<string, string> = {}): Promise<Reply> {
  const response = await fetch(`${url}${path}`, { method: 'POST', body: body as string, headers });
  const text = await response.text();
  expect(response.status, text).toBe(200);
  return JSON.parse(text) as Reply;
}

const output = ({ outputs }: Reply, name: string) => outputs.find((found) => found.name === name)!.data;

async function digitOf(picture: Buffer, type: string): Promise<unknown> {
  return output(await post('/v2/models/digits/infer', picture, { 'content-type': type }), 'label')[0];
}

test('a picture is a body of its own, of any size, format and polarity', async () => {
  const seven = file('digits/sample.png');
  expect(await digitOf(seven, 'image/png')).toBe(7);
  expect(await digitOf(file('digits/sample.jpg'), 'image/jpeg')).toBe(3);
  const large = sharp(seven).resize(300, 280, { fit: 'fill' });
  expect(await digitOf(await large.clone().webp({ quality: 80 }).toBuffer(), 'image/webp')).toBe(7);
  expect(await digitOf(await large.clone().negate().jpeg({ quality: 75 }).toBuffer(), 'image/jpeg')).toBe(7);
});

test('the tensor that a picture stands for is a body of its own, too', async () => {
  const { inputs } = JSON.parse(file('digits/sample.json').toString()) as { inputs: { data: number[] }[] };
  const body = Buffer.from(Float32Array.from(inputs[0]!.data.flat()).buffer);
  const headers = { 'inference-header-content-length': '0' };
  const response = await fetch(`${url}/v2/models/digits/infer`, { method: 'POST', body, headers });
  const bytes = Buffer.from(await response.arrayBuffer());
  expect(response.status, bytes.toString()).toBe(200);
  // The label is the last of the tensors behind the JSON.
  expect(bytes.readBigInt64LE(bytes.length - 8)).toBe(7n);
});

test('a photograph has a name', async () => {
  const reply = await post('/v2/models/image-classification/infer', file('image-classification/sample.jpg'), {
    'content-type': 'image/jpeg',
  });
  const { id2label } = JSON.parse(file('image-classification/config.json').toString()) as {
    id2label: Record<string, string>;
  };
  const logits = output(reply, 'logits') as number[];
  expect(logits).toHaveLength(10);
  expect(id2label[logits.indexOf(Math.max(...logits))]).toBe('cat');
});

test('sentences of like meaning are near each other', async () => {
  const texts = ['a cat sleeps on the sofa', 'the kitten is napping on a couch', 'shares fell on the stock market'];
  const body = { inputs: [{ name: 'text', datatype: 'BYTES', shape: [3], data: texts }] };
  const reply = await post('/v2/models/sentence-embedding/infer', JSON.stringify(body));
  expect(reply.outputs.map(({ name, shape }) => [name, shape])).toEqual([['sentence_embedding', [3, 256]]]);
  const values = output(reply, 'sentence_embedding') as number[];
  const vectors = texts.map((_, i) => values.slice(256 * i, 256 * (i + 1)));
  const similarity = (a: number, b: number) => vectors[a]!.reduce((sum, x, i) => sum + x * vectors[b]![i]!, 0);
  expect(similarity(0, 0)).toBeCloseTo(1, 5);
  expect(similarity(0, 1)).toBeGreaterThan(similarity(0, 2) + 0.2);
});

test('one text is a body of its own where it makes several tensors', async () => {
  const text = 'a cat sleeps on the sofa';
  const headers = { 'inference-header-content-length': '0' };
  const response = await fetch(`${url}/v2/models/sentence-embedding/infer`, { method: 'POST', body: text, headers });
  const bytes = Buffer.from(await response.arrayBuffer());
  expect(response.status, bytes.toString()).toBe(200);
  const body = { inputs: [{ name: 'text', datatype: 'BYTES', shape: [1], data: [text] }] };
  const reply = await post('/v2/models/sentence-embedding/infer', JSON.stringify(body));
  const vector = new Float32Array(Uint8Array.from(bytes.subarray(-4 * 256)).buffer);
  expect([...vector]).toEqual((output(reply, 'sentence_embedding') as number[]).map(Math.fround));
});
