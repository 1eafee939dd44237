/** Hugging Face's folders loaded by a real engine: layouts, which file, what a request may leave out, pooling on every path of a session. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { InferenceEngine } from '../../src/engine/engine.js';
import { infer, rawStrings, startEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { writeImageModel, writeTextModel } from '../support/huggingface.js';

const ids = (name: string, ...values: number[]) =>
  tensor(name, 'INT64', [1, values.length], BigInt64Array.from(values, BigInt));
const rawInputs = [ids('input_ids', 2, 7, 8, 3), ids('attention_mask', 1, 1, 1, 1), ids('token_type_ids', 0, 0, 0, 0)];
const text = (...texts: string[]) => ({
  name: 'text',
  datatype: 'BYTES',
  shape: [texts.length, 1],
  data: rawStrings(...texts),
});

const states = (engine: InferenceEngine) =>
  Object.fromEntries(engine.repositoryIndex(false).map(({ name, state, reason }) => [name, reason || state]));

const names = (tensors: readonly { name: string }[]) => tensors.map(({ name }) => name);

test('a folder loads in each layout, says which file it took, and takes text and raw tensors', async () => {
  const repository = temporaryDirectory();
  writeTextModel(repository, 'triton', { head: 'echo' });
  writeTextModel(repository, 'optimum', { head: 'echo', layout: 'optimum' });
  writeTextModel(repository, 'flat', { head: 'echo', layout: 'flat' });
  writeTextModel(repository, 'quantized', { head: 'echo', layout: 'optimum', onnxFile: 'model_quantized.onnx' });
  writeTextModel(repository, 'named', {
    head: 'echo',
    layout: 'optimum',
    onnxFile: 'model_fp16.onnx',
    config: 'default_model_filename: "model_fp16.onnx"',
    files: { 'onnx/model.onnx': 'no model' },
  });
  const files = {
    triton: '1/model.onnx',
    optimum: 'onnx/model.onnx',
    flat: 'model.onnx',
    quantized: 'onnx/model_quantized.onnx',
    named: 'onnx/model_fp16.onnx',
  };
  const { engine, stop, logged } = await startEngine(repository);
  for (const [modelName, file] of Object.entries(files)) {
    expect(states(engine)[modelName]).toBe('READY');
    expect(logged.some((line) => line.includes(`"model":"${modelName}","version":1,"file":"${file}"`))).toBe(true);
    const filename = engine.modelConfig(modelName, '').default_model_filename;
    expect(filename).toBe(modelName === 'triton' ? 'model.onnx' : file);
    expect(names(engine.modelMetadata(modelName, '1').inputs).slice(0, 2)).toEqual(['text', 'text_pair']);
    const raw = await infer(engine, { modelName, inputs: rawInputs });
    expect(raw.outputs[0]).toMatchObject({ name: 'tokens', shape: [1, 4], data: Uint8Array.from(rawInputs[0]!.data) });
    const said = await infer(engine, { modelName, inputs: [text('hello')] });
    expect(said.inputTokens).toBe(said.outputs[0]!.shape[1]);
  }
  await stop();
});

test('the path of one folder is a repository of one model', async () => {
  const repository = temporaryDirectory();
  const { directory } = writeTextModel(repository, 'mounted', { head: 'echo', layout: 'optimum' });
  const { engine, stop } = await startEngine(directory);
  expect(states(engine)).toEqual({ mounted: 'READY' });
  await stop();
});

test('an embedding that is pooled comes alone, and the tokens where they are asked for', async () => {
  const repository = temporaryDirectory();
  writeTextModel(repository, 'pooled', { head: 'hidden', layout: 'optimum', pooling: ['mean'], normalize: true });
  const { engine, stop } = await startEngine(repository);
  expect(names(engine.modelMetadata('pooled', '').outputs)).toEqual(['sentence_embedding', 'last_hidden_state']);
  expect(engine.modelContent('pooled', '').embeddingOutput).toBe('sentence_embedding');
  const plain = await infer(engine, { modelName: 'pooled', inputs: rawInputs });
  expect(plain.outputs.map(({ name, shape }) => [name, shape])).toEqual([['sentence_embedding', [1, 8]]]);
  const outputs = [{ name: 'last_hidden_state' }, { name: 'sentence_embedding' }];
  const both = await infer(engine, { modelName: 'pooled', inputs: rawInputs, outputs });
  expect(names(both.outputs)).toEqual(['last_hidden_state', 'sentence_embedding']);
  expect(both.outputs[1]!.data).toEqual(plain.outputs[0]!.data);
  await stop();
});

test('a model that was saved again for sharing pools all the same', async () => {
  const repository = temporaryDirectory();
  writeTextModel(repository, 'pooled', { head: 'hidden', layout: 'optimum', pooling: ['cls'] });
  const alone = await startEngine(repository);
  const expected = await infer(alone.engine, { modelName: 'pooled', inputs: rawInputs });
  await alone.stop();
  const shared = await startEngine(repository, { weightSharingMinBytes: 1 });
  const answer = await infer(shared.engine, { modelName: 'pooled', inputs: rawInputs });
  await shared.stop();
  expect(shared.logged.join('\n')).toContain('"sharedWeights":true');
  expect(answer.outputs).toEqual(expected.outputs);
});

test('a module that is not done here is told in the log, and the rest is served', async () => {
  const repository = temporaryDirectory();
  const modules = ['Transformer', 'Pooling', 'Dense'].map((type, idx) => ({
    idx,
    path: type === 'Transformer' ? '' : `${idx}_${type}`,
    type: `sentence_transformers.models.${type}`,
  }));
  writeTextModel(repository, 'dense', { head: 'hidden', files: { 'modules.json': JSON.stringify(modules) } });
  const { engine, stop, logged } = await startEngine(repository);
  expect(logged.filter((line) => line.startsWith('warn'))).toEqual([
    expect.stringContaining("no embeddings are given: its modules.json has a module 'Dense'"),
  ]);
  expect(engine.modelContent('dense', '')).toMatchObject({ embeddingOutput: undefined });
  const { outputs } = await infer(engine, { modelName: 'dense', inputs: rawInputs });
  expect(names(outputs)).toEqual(['last_hidden_state']);
  await stop();
});

test('files that are wrong fail the model with file and field, and no other', async () => {
  const repository = temporaryDirectory();
  writeTextModel(repository, 'good', { head: 'classifier', labels: ['a', 'b', 'c'] });
  writeTextModel(repository, 'cut', { head: 'echo', files: { 'tokenizer.json': '{"model": {' } });
  writeTextModel(repository, 'side', { head: 'echo', files: { 'tokenizer_config.json': '{"padding_side": 1}' } });
  writeImageModel(repository, 'size', { height: 8, width: 8, preprocessor: { size: 9 } });
  writeImageModel(repository, 'labels', {
    config: 'output [ { name: "means" data_type: TYPE_FP32 dims: [3] label_filename: "labels.txt" } ]',
  });
  const { engine, stop } = await startEngine(repository);
  expect(states(engine)).toEqual({
    good: 'READY',
    cut: "file 'tokenizer.json' of model 'cut' is not valid JSON: it is no whole object",
    side: "file 'tokenizer_config.json' of model 'side': 'padding_side' must be a string, got 1",
    size: expect.stringMatching(
      /^file 'preprocessor_config.json' of model 'size': 'size' must be such that .* not 9 x 9, got 9$/,
    ),
    labels: "unable to find file 'labels.txt' of model 'labels'",
  });
  await stop();
});

test('a text model is given to a worker that replaces a lost one with its pooling', async () => {
  const repository = temporaryDirectory();
  writeTextModel(repository, 'pooled', {
    head: 'hidden',
    pooling: ['mean'],
    config: 'max_batch_size: 16',
  });
  const file = join(temporaryDirectory(), 'die.mjs');
  const real = join(import.meta.dirname, '../../dist/workers/inference-worker.js');
  // Ends when a batch of exactly 13 rows arrives.
  writeFileSync(
    file,
    `import serve from ${JSON.stringify(real)};
export default ({ port }) => {
  port.on('message', (message) => { if (Array.isArray(message) && message[8] === 13) process.exit(3); });
  return serve({ port });
};\n`,
  );
  const { engine, stop } = await startEngine(repository, { workerFile: file, workerCount: 1 });
  const rows = (count: number) =>
    ['input_ids', 'attention_mask', 'token_type_ids'].map((name) =>
      tensor(name, 'INT64', [count, 2], new BigInt64Array(2 * count).fill(1n)),
    );
  const before = await infer(engine, { modelName: 'pooled', inputs: rows(1) });
  await expect(infer(engine, { modelName: 'pooled', inputs: rows(13) })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  const after = await infer(engine, { modelName: 'pooled', inputs: rows(1) });
  expect(after.outputs).toEqual(before.outputs);
  expect(names(after.outputs)).toEqual(['sentence_embedding']);
  await stop();
});

test('the configuration that the server completed can be written down as the model’s own', async () => {
  const repository = temporaryDirectory();
  writeTextModel(repository, 'first', { head: 'echo' });
  const first = await startEngine(repository);
  const { input, max_batch_size } = first.engine.modelConfig('first', '') as {
    input: { name: string; data_type: string; dims: number[]; optional: boolean }[];
    max_batch_size: number;
  };
  await first.stop();
  expect(input.map(({ name, optional }) => [name, optional])).toContainEqual(['text', true]);
  const lines = input.map(
    ({ name, data_type, dims, optional }) =>
      `input { name: "${name}" data_type: ${data_type} dims: [${dims}] optional: ${optional} }`,
  );
  const config = `max_batch_size: ${max_batch_size}\n${lines.join('\n')}`;
  const copies = temporaryDirectory();
  writeTextModel(copies, 'copy', { head: 'echo', config });
  const { engine, stop } = await startEngine(copies);
  expect(states(engine)).toEqual({ copy: 'READY' });
  expect((engine.modelConfig('copy', '') as { input: unknown }).input).toEqual(input);
  await stop();
});

test('a model of one length gets every text padded to it, and counts what is none', async () => {
  const repository = temporaryDirectory();
  writeTextModel(repository, 'fixed', { head: 'echo', tokens: 12 });
  writeTextModel(repository, 'free', { head: 'echo' });
  const { engine, stop } = await startEngine(repository);
  const texts = ['the cat', 'the and for not you but his', 'a'];
  const rows = async (modelName: string, strings: string[]) => {
    const { outputs, inputTokens } = await infer(engine, { modelName, inputs: [text(...strings)] });
    const [tokens] = outputs;
    const ids = [...new BigInt64Array(Uint8Array.from(tokens!.data).buffer)].map(Number);
    return { shape: tokens!.shape, ids, inputTokens };
  };
  for (const one of texts) {
    const [free, fixed] = await Promise.all([rows('free', [one]), rows('fixed', [one])]);
    expect(fixed.shape).toEqual([1, 12]);
    expect(fixed.ids).toEqual([...free.ids, ...new Array<number>(12 - free.ids.length).fill(0)]);
    expect(fixed.inputTokens).toBe(free.ids.length);
  }
  expect((await rows('fixed', texts)).shape).toEqual([3, 12]);
  const long = await rows('fixed', [Array.from({ length: 30 }, () => 'the').join(' ')]);
  expect([long.shape, long.inputTokens]).toEqual([[1, 12], 12]);
  const ids = tensor('', 'INT64', [3], BigInt64Array.of(5n, 6n, 7n));
  const { outputs } = await infer(engine, { modelName: 'fixed', inputs: [{ ...ids, content: 'tokens' }] });
  const values = outputs.map(({ data }) => [...new BigInt64Array(Uint8Array.from(data).buffer)].map(Number));
  expect(values.slice(0, 2)).toEqual([
    [5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  ]);
  await stop();
});
