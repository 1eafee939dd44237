/** The fixtures in Hugging Face's layout are what they say: graphs that run, files that a tokenizer takes. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { afterEach, describe, expect, test } from 'vitest';
import { temporaryDirectory } from './support/engine.js';
import { type ModelFolder, writeImageModel, writeTextModel } from './support/huggingface.js';
import { imageGraph } from './support/onnx-image.js';
import { textGraph } from './support/onnx-text.js';
import { VOCABULARY } from './support/wordpiece.js';

process.env.ORT_DISABLE_TELEMETRY = '1';
const { InferenceSession, Tensor } = await import('onnxruntime-node');
type Session = Awaited<ReturnType<typeof InferenceSession.create>>;

const sessions: Session[] = [];
afterEach(async () => {
  for (const session of sessions.splice(0)) await session.release();
});

async function load(model: Buffer | string): Promise<Session> {
  const session = await InferenceSession.create(model as string, { intraOpNumThreads: 1 });
  sessions.push(session);
  return session;
}

const ints = (rows: number[][]) =>
  new Tensor('int64', BigInt64Array.from(rows.flat(), BigInt), [rows.length, rows[0]!.length]);

/** Feeds of token rows, padded with zeros to the longest. */
function feeds(rows: number[][], types = true) {
  const length = Math.max(...rows.map((row) => row.length));
  const padded = (row: number[]): number[] => [...row, ...new Array(length - row.length).fill(0)];
  return {
    input_ids: ints(rows.map(padded)),
    attention_mask: ints(rows.map((row) => padded(row.map(() => 1)))),
    ...(types && { token_type_ids: ints(rows.map(() => new Array(length).fill(0))) }),
  };
}

function tokenizerOf({ directory }: ModelFolder): Tokenizer {
  const read = (file: string) => JSON.parse(readFileSync(join(directory, file), 'utf8'));
  return new Tokenizer(read('tokenizer.json'), read('tokenizer_config.json'));
}

describe('a text model', () => {
  test.each([
    ['triton', '1/model.onnx'],
    ['optimum', 'onnx/model.onnx'],
    ['flat', 'model.onnx'],
  ] as const)('has its ONNX file where the layout %s has it', async (layout, path) => {
    const folder = writeTextModel(temporaryDirectory(), 'echo', { head: 'echo', layout });
    expect(folder.onnxFile).toBe(join(folder.directory, path));
    expect((await load(folder.onnxFile)).inputNames).toEqual(['input_ids', 'attention_mask', 'token_type_ids']);
    expect(existsSync(join(folder.directory, 'tokenizer.json'))).toBe(true);
  });

  test('tokenizes as BERT does: special tokens around, lower case, pieces, and types of a pair', () => {
    const tokenizer = tokenizerOf(writeTextModel(temporaryDirectory(), 'echo', { head: 'echo' }));
    expect(tokenizer.encode('Hello, WORLD! zzz 世').tokens).toEqual([
      '[CLS]',
      'hello',
      ',',
      'world',
      '!',
      'z',
      '##z',
      '##z',
      '世',
      '[SEP]',
    ]);
    const pair = tokenizer.encode('good day', { text_pair: 'rain', return_token_type_ids: true });
    expect(pair.token_type_ids).toEqual([0, 0, 0, 0, 1, 1]);
    expect(tokenizer.encode('☃').tokens).toEqual(['[CLS]', '[UNK]', '[SEP]']);
    expect(new Set(VOCABULARY).size).toBe(VOCABULARY.length);
  });

  test('with the head echo gives its tokens back', async () => {
    const outputs = await (await load(textGraph({ head: 'echo' }))).run(
      feeds([
        [2, 9, 3],
        [2, 3],
      ]),
    );
    expect(Object.keys(outputs)).toEqual(['tokens', 'mask', 'types']);
    expect(outputs.tokens!.data).toEqual(BigInt64Array.of(2n, 9n, 3n, 2n, 3n, 0n));
    expect(outputs.mask!.data).toEqual(BigInt64Array.of(1n, 1n, 1n, 1n, 1n, 0n));
  });

  test('with the head hidden gives a vector per token, far off where the token is padding', async () => {
    const session = await load(textGraph({ head: 'hidden', tokenTypes: false }));
    const { last_hidden_state: state } = await session.run(
      feeds(
        [
          [2, 9, 3],
          [2, 3],
        ],
        false,
      ),
    );
    expect(state!.dims).toEqual([2, 3, 8]);
    const far = [...(state!.data as Float32Array)].map((x) => x > 50);
    expect(far).toEqual([...new Array(40).fill(false), ...new Array(8).fill(true)]);
  });

  test('with the head sentence gives the mean of the tokens that are there', async () => {
    const session = await load(textGraph({ head: 'sentence', tokenTypes: false, hidden: 4 }));
    const { token_embeddings, sentence_embedding } = await session.run(
      feeds(
        [
          [2, 9, 3],
          [2, 3],
        ],
        false,
      ),
    );
    const tokens = token_embeddings!.data as Float32Array;
    const mean = Array.from({ length: 4 }, (_, i) => (tokens[12 + i]! + tokens[16 + i]!) / 2);
    expect(sentence_embedding!.dims).toEqual([2, 4]);
    for (const [i, x] of mean.entries()) expect(sentence_embedding!.data[4 + i]).toBeCloseTo(x, 5);
  });

  test('with the head classifier has a logit for each label', async () => {
    const folder = writeTextModel(temporaryDirectory(), 'mood', { head: 'classifier', labels: ['bad', 'good'] });
    const { logits } = await (await load(folder.onnxFile)).run(feeds([[2, 40, 3]]));
    expect(logits!.dims).toEqual([1, 2]);
    expect(JSON.parse(String(folder.files['config.json'])).id2label).toEqual({ 0: 'bad', 1: 'good' });
  });

  test('with attention lets tokens see each other but not the padding', async () => {
    const options = { head: 'sentence', layers: 2, hidden: 32, heads: 4 } as const;
    expect(textGraph(options)).toEqual(textGraph(options));
    const session = await load(textGraph(options));
    const first = async (rows: number[][]) => {
      const { sentence_embedding, token_embeddings } = await session.run(feeds(rows));
      const vector = (sentence_embedding!.data as Float32Array).slice(0, 32);
      return { vector, token: (token_embeddings!.data as Float32Array).slice(0, 32) };
    };
    const alone = await first([[2, 50, 60, 3]]);
    const padded = await first([
      [2, 50, 60, 3],
      [2, 51, 52, 53, 54, 55, 3],
    ]);
    const other = await first([[2, 50, 61, 3]]);
    for (const [i, x] of alone.vector.entries()) expect(padded.vector[i]).toBeCloseTo(x, 5);
    expect(other.token).not.toEqual(alone.token);
    expect(alone.vector.every(Number.isFinite)).toBe(true);
  });

  test('has the files of sentence-transformers where asked', () => {
    const { files } = writeTextModel(temporaryDirectory(), 'e', {
      head: 'hidden',
      pooling: ['mean', 'cls'],
      normalize: true,
      maxSequenceLength: 64,
    });
    const parse = (name: string) => JSON.parse(String(files[name]));
    expect(parse('modules.json').map(({ type }: { type: string }) => type.split('.').at(-1))).toEqual([
      'Transformer',
      'Pooling',
      'Normalize',
    ]);
    expect(parse('1_Pooling/config.json')).toMatchObject({
      pooling_mode_cls_token: true,
      pooling_mode_mean_tokens: true,
      pooling_mode_max_tokens: false,
    });
    expect(parse('sentence_bert_config.json').max_seq_length).toBe(64);
  });

  test('has other files in place of its own, and lacks those that are left out', () => {
    const { directory } = writeTextModel(temporaryDirectory(), 'e', {
      head: 'echo',
      files: { 'tokenizer_config.json': undefined, 'config.json': '{', 'labels.txt': 'a' },
    });
    expect(existsSync(join(directory, 'tokenizer_config.json'))).toBe(false);
    expect(readFileSync(join(directory, 'config.json'), 'utf8')).toBe('{');
    expect(readFileSync(join(directory, 'labels.txt'), 'utf8')).toBe('a');
  });
});

describe('an image model', () => {
  const data = Float32Array.from({ length: 12 }, (_, i) => i);

  test.each([
    ['CHW', [1, 3, 2, 2], [1.5, 5.5, 9.5]],
    ['HWC', [1, 2, 2, 3], [4.5, 5.5, 6.5]],
    ['flat', [1, 12], [5.5]],
  ] as const)('of order %s shows its pixels and their means', async (order, shape, means) => {
    const session = await load(imageGraph({ order, height: 2, width: 2 }));
    const outputs = await session.run({ pixel_values: new Tensor('float32', data, shape) });
    expect(outputs.pixels!.data).toEqual(data);
    expect(outputs.pixels!.dims).toEqual(shape);
    expect([...(outputs.means!.data as Float32Array)]).toEqual(means);
  });

  test('takes any size where none is given, and bytes where asked', async () => {
    const session = await load(imageGraph({ datatype: 'UINT8', labels: 4 }));
    const pixels = new Tensor('uint8', Uint8Array.from(data), [1, 3, 1, 4]);
    const { means, logits } = await session.run({ pixel_values: pixels });
    expect([...(means!.data as Float32Array)]).toEqual([1.5, 5.5, 9.5]);
    expect(logits!.dims).toEqual([1, 4]);
  });

  test('has a preprocessor_config.json, changed as asked', async () => {
    const folder = writeImageModel(temporaryDirectory(), 'i', {
      labels: ['a', 'b'],
      height: 16,
      width: 16,
      preprocessor: { size: { shortest_edge: 20 }, do_center_crop: true, crop_size: 16, image_mean: undefined },
    });
    const config = JSON.parse(String(folder.files['preprocessor_config.json']));
    expect(config).toMatchObject({ size: { shortest_edge: 20 }, crop_size: 16, resample: 2 });
    expect(config).not.toHaveProperty('image_mean');
    expect((await load(folder.onnxFile)).outputNames).toEqual(['pixels', 'means', 'logits']);
  });
});
