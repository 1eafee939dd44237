/** Texts of different lengths through a real engine: what a request gets must not depend on what it ran with. */
import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { InferOutput, InferResponse } from '../../src/engine/types.js';
import { infer, rawStrings, startEngine, type TestEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { type TextModelOptions, writeTextModel } from '../support/huggingface.js';
import { buildModel } from '../support/onnx.js';
import { VOCABULARY } from '../support/wordpiece.js';

const repository = temporaryDirectory();
/** Far longer than any test takes: a batch goes only when it is full. */
const TOGETHER = 'max_batch_size: 8\ndynamic_batching { max_queue_delay_microseconds: 600000000 }\n';
const ALONE = 'max_batch_size: 8\n';
const HIDDEN = 16;
const encoder: TextModelOptions = { head: 'hidden', hidden: HIDDEN, layers: 2, pooling: ['mean'], normalize: true };
writeTextModel(repository, 'right-together', { ...encoder, config: TOGETHER });
writeTextModel(repository, 'right-alone', { ...encoder, config: ALONE });
// Its layers have positions, which padding on the left would move: without them a token's vector is its own.
const left: TextModelOptions = { ...encoder, layers: 0, paddingSide: 'left' };
writeTextModel(repository, 'left-together', { ...left, config: TOGETHER });
writeTextModel(repository, 'left-alone', { ...left, config: ALONE });
writeTextModel(repository, 'own', { ...encoder, head: 'sentence', config: ALONE });
writeTextModel(repository, 'no-vectors', { ...encoder, head: 'classifier', config: ALONE });
const { onnxFile } = writeTextModel(repository, 'surprise', { head: 'hidden', pooling: ['cls'], config: ALONE });
writeFileSync(onnxFile, surprising());

const maskless = writeTextModel(repository, 'maskless', { head: 'echo', config: TOGETHER.replace('8', '4') });
writeFileSync(maskless.onnxFile, withoutMask());

let running: TestEngine;
beforeAll(async () => {
  running = await startEngine(repository, { workerCount: 1 });
});
afterAll(() => running.stop());

/** The ids of a text of `length` tokens, another one for each `seed`. */
const idsOf = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => 5 + ((seed * 131 + i * 37) % (VOCABULARY.length - 5)));
const int64 = (values: number[]) => BigInt64Array.from(values, BigInt);

function embed(modelName: string, ids: number[], outputs = ['last_hidden_state', 'sentence_embedding']) {
  const input = { ...tensor('input_ids', 'INT64', [ids.length], int64(ids)), content: 'tokens' as const };
  return infer(running.engine, { modelName, inputs: [input], outputs: outputs.map((name) => ({ name })) });
}

function raw(modelName: string, rows: number[][], masks: number[][], outputs: string[]) {
  const shape = [rows.length, rows[0]!.length];
  const inputs = [
    tensor('input_ids', 'INT64', shape, int64(rows.flat())),
    tensor('attention_mask', 'INT64', shape, int64(masks.flat())),
    tensor('token_type_ids', 'INT64', shape, int64(rows.flat().map(() => 0))),
  ];
  return infer(running.engine, { modelName, inputs, outputs: outputs.map((name) => ({ name })) });
}

const floats = ({ data }: InferOutput) => new Float32Array(Uint8Array.from(data).buffer);
function expectClose(actual: InferResponse, expected: InferResponse): void {
  for (const [i, output] of actual.outputs.entries()) {
    const wanted = expected.outputs[i]!;
    expect([output.name, output.shape]).toEqual([wanted.name, wanted.shape]);
    const values = floats(wanted);
    for (const [at, value] of floats(output).entries()) expect(Math.abs(value - values[at]!)).toBeLessThan(1e-5);
  }
}

const executions = (modelName: string) =>
  running.engine
    .modelStatistics(modelName, '')[0]!
    .batch_stats.map(({ batch_size, compute_infer }) => [batch_size, compute_infer.count]);

describe.each(['right', 'left'])('with padding on the %s', (side) => {
  test('texts that ran together get what they get alone, of their own length', async () => {
    const lengths = [20, 19, 18, 20, 17, 20, 16, 19];
    const together = await Promise.all(lengths.map((length, i) => embed(`${side}-together`, idsOf(length, i))));
    expect(executions(`${side}-together`)).toEqual([[8, 1]]);
    const { tokenCount, paddingTokenCount } = running.engine
      .slots()
      .find(({ name }) => name === `${side}-together`)!.statistics;
    expect([tokenCount, paddingTokenCount]).toEqual([8 * 20, 8 * 20 - 149]);
    for (const [i, length] of lengths.entries()) {
      expect(together[i]!.outputs.map(({ shape }) => shape)).toEqual([
        [1, length, HIDDEN],
        [1, HIDDEN],
      ]);
      expect(together[i]!.inputTokens).toBe(length);
      expectClose(together[i]!, await embed(`${side}-alone`, idsOf(length, i)));
    }
  });

  test('requests with several texts join in', async () => {
    const words =
      'the and for not you but his say her she one all out who get can him see now its two how our way new'.split(' ');
    const text = (length: number, seed: number) =>
      Array.from({ length }, (_, i) => words[(seed * 7 + i * 3) % words.length]).join(' ');
    const texts = [[18, 20, 17], [20], [16], [19, 17, 18]].map((lengths, i) =>
      lengths.map((length, n) => text(length, 10 * i + n)),
    );
    const ask = (modelName: string, strings: string[]) =>
      infer(running.engine, {
        modelName,
        inputs: [{ name: 'text', datatype: 'BYTES', shape: [strings.length], data: rawStrings(...strings) }],
      });
    const together = await Promise.all(texts.map((strings) => ask(`${side}-together`, strings)));
    for (const [i, strings] of texts.entries()) {
      const alone = await ask(`${side}-alone`, strings);
      expectClose(together[i]!, alone);
      expect(together[i]!.inputTokens).toBe(alone.inputTokens);
    }
    expect(executions(`${side}-together`)).toEqual([[8, 2]]);
  });
});

test('alone, token ids and raw tensors give the same bits', async () => {
  const ids = idsOf(12, 3);
  const [tokens, tensors] = await Promise.all([
    embed('right-alone', ids),
    raw('right-alone', [ids], [ids.map(() => 1)], ['last_hidden_state', 'sentence_embedding']),
  ]);
  for (const i of [0, 1]) expect(Buffer.from(tokens.outputs[i]!.data)).toEqual(Buffer.from(tensors.outputs[i]!.data));
});

test('the embedding is pooled from the vectors of the tokens that the mask shows, whoever asks for what', async () => {
  const rows = [idsOf(5, 1), idsOf(5, 2)];
  const masks = [
    [1, 1, 1, 1, 1],
    [1, 1, 0, 0, 0],
  ];
  const both = await raw('right-alone', rows, masks, ['last_hidden_state', 'sentence_embedding']);
  const only = await raw('right-alone', rows, masks, ['sentence_embedding']);
  const vectors = floats(both.outputs[0]!);
  const expected = masks.flatMap((mask, row) => {
    const kept = mask.flatMap((real, token) => (real ? [token] : []));
    const mean = Array.from(
      { length: HIDDEN },
      (_, d) => kept.reduce((sum, token) => sum + vectors[(row * 5 + token) * HIDDEN + d]!, 0) / kept.length,
    );
    const norm = Math.hypot(...mean);
    return mean.map((value) => value / norm);
  });
  for (const { outputs } of [both, only]) {
    const embedding = outputs.at(-1)!;
    expect([embedding.name, embedding.datatype, embedding.shape]).toEqual(['sentence_embedding', 'FP32', [2, HIDDEN]]);
    for (const [i, value] of floats(embedding).entries()) expect(value).toBeCloseTo(expected[i]!, 6);
  }
});

test('a model with an embedding of its own gives that', async () => {
  const ids = idsOf(4, 9);
  const [vectors, embedding] = (await embed('own', ids, ['token_embeddings', 'sentence_embedding'])).outputs;
  const mean = (d: number) =>
    ids.reduce((sum, _, token) => sum + floats(vectors!)[token * HIDDEN + d]!, 0) / ids.length;
  // Not normalized, as pooling would have it.
  for (const [d, value] of floats(embedding!).entries()) expect(value).toBeCloseTo(mean(d), 4);
});

test('a model with nothing to pool is served without an embedding and says why', async () => {
  const { embeddingOutput, embeddingProblem } = running.engine.modelContent('no-vectors', '');
  expect(embeddingOutput).toBeUndefined();
  expect(embeddingProblem).not.toBe('');
  const { outputs } = await embed('no-vectors', idsOf(4, 1), ['logits']);
  expect(outputs[0]!.shape).toEqual([1, 3]);
});

test('an embedding of another size than the symbols say is given all the same', async () => {
  for (const length of [3, 8]) {
    const { outputs } = await raw(
      'surprise',
      [idsOf(length, 1)],
      [idsOf(length, 1).map(() => 1)],
      ['sentence_embedding'],
    );
    expect(outputs[0]!.shape).toEqual([1, 4]);
    expect([...floats(outputs[0]!)]).toEqual([0, 1, 2, 3]);
  }
  expect(running.logged.filter((line) => line.includes('they are no longer preallocated'))).toHaveLength(1);
});

test('the text input by its name takes BYTES alone, and says so', async () => {
  const inputs = [tensor('text', 'UINT8', [1], Uint8Array.of(97))];
  await expect(infer(running.engine, { modelName: 'own', inputs })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: "inference input 'text' data-type is 'UINT8', but model 'own' expects 'BYTES'",
  });
});

test('one text that the model refuses does not fail its batch', async () => {
  const lengths = [10, 10, 9, 10, 8, 10, 10, 9];
  const bad = 4;
  const answers = await Promise.allSettled(
    lengths.map((length, i) =>
      embed('right-together', i === bad ? new Array<number>(length).fill(99_999) : idsOf(length, i)),
    ),
  );
  for (const [i, answer] of answers.entries()) {
    if (i === bad) expect(answer).toMatchObject({ status: 'rejected', reason: { code: 'INVALID_ARGUMENT' } });
    else if (answer.status === 'fulfilled')
      expectClose(answer.value, await embed('right-alone', idsOf(lengths[i]!, i)));
    else throw answer.reason;
  }
});

test('without a mask texts run with texts of their length, and raw tensors of that shape are no texts', async () => {
  const ids = idsOf(6, 1);
  const asTensor = () =>
    infer(running.engine, { modelName: 'maskless', inputs: [tensor('input_ids', 'INT64', [1, 6], int64(ids))] });
  const asText = () => embed('maskless', ids, ['tokens']);
  const answers = await Promise.all([0, 1, 2, 3].flatMap(() => [asTensor(), asText()]));
  for (const { outputs } of answers) {
    expect([...new BigInt64Array(Uint8Array.from(outputs[0]!.data).buffer)].map(Number)).toEqual(ids);
  }
  expect(executions('maskless')).toEqual([[4, 2]]);
  const { tokenCount, paddingTokenCount } = running.engine.slots().find(({ name }) => name === 'maskless')!.statistics;
  expect([tokenCount, paddingTokenCount]).toEqual([4 * 6, 0]);
});

test('requests of raw tensors run as they did, beside texts', async () => {
  const lengths = [7, 7, 7, 7, 7, 7, 7, 7];
  const texts = lengths.map((length, i) => embed('right-together', idsOf(length, i)));
  const tensors = lengths.map((length, i) =>
    raw(
      'right-together',
      [idsOf(length, i)],
      [idsOf(length, i).map(() => 1)],
      ['last_hidden_state', 'sentence_embedding'],
    ),
  );
  for (const [i, text] of texts.entries()) expectClose(await text, await tensors[i]!);
});

/** Its vectors have 4 dimensions, but are said to have as many as there are tokens. */
function surprising(): Buffer {
  const tokens = ['batch_size', 'sequence_length'];
  const table = new Float32Array(VOCABULARY.length * 8).map((_, i) => i % 8);
  return buildModel({
    name: 'surprise',
    inputs: ['input_ids', 'attention_mask', 'token_type_ids'].map((name) => ({
      name,
      datatype: 'INT64',
      shape: tokens,
    })),
    outputs: [{ name: 'last_hidden_state', datatype: 'FP32', shape: [...tokens, 'sequence_length'] }],
    nodes: [
      { op: 'Gather', inputs: ['table', 'input_ids'], outputs: ['vectors'] },
      { op: 'ReduceMax', inputs: ['attention_mask'], outputs: ['one'], attributes: { keepdims: 0 } },
      { op: 'Mul', inputs: ['one', 'four'], outputs: ['width'] },
      { op: 'Slice', inputs: ['vectors', 'start', 'width', 'axis'], outputs: ['last_hidden_state'] },
    ],
    initializers: [
      { name: 'table', datatype: 'FP32', shape: [VOCABULARY.length, 8], data: table },
      { name: 'four', datatype: 'INT64', shape: [1], data: [4] },
      { name: 'start', datatype: 'INT64', shape: [1], data: [0] },
      { name: 'axis', datatype: 'INT64', shape: [1], data: [2] },
    ],
  });
}

/** Gives the token ids back; has no input for a mask. */
function withoutMask(): Buffer {
  const shape = ['batch_size', 'sequence_length'];
  return buildModel({
    name: 'without_mask',
    inputs: [{ name: 'input_ids', datatype: 'INT64', shape }],
    outputs: [{ name: 'tokens', datatype: 'INT64', shape }],
    nodes: [{ op: 'Identity', inputs: ['input_ids'], outputs: ['tokens'] }],
  });
}
