/** Models that generate text, loaded by a real engine: layouts, what is told of them, what is refused, unloading, loss and return. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { CreateEngineOptions } from '../../src/engine/create-engine.js';
import { startEngine, type TestEngine, temporaryDirectory } from '../support/engine.js';
import { generate, startGenerating, writeStories } from '../support/generate.js';

const STORIES_BYTES = 3_600_000;
/** Of keys and values: layers x 2 x heads x size x 4. */
const STORIES_TOKEN_BYTES = 4 * 2 * 2 * 32 * 4;

async function start(repository: string, options: Partial<CreateEngineOptions> = {}): Promise<TestEngine> {
  const running = await startEngine(repository, options);
  onTestFinished(() => running.stop());
  return running;
}

const states = ({ engine }: TestEngine) =>
  Object.fromEntries(engine.repositoryIndex(false).map(({ name, state, reason }) => [name, reason || state]));

/** `<|user|>What is 3 plus 4?`, more or less: any ids do. */
const PROMPT = { kind: 'tokens', tokens: [2, 100, 101, 102, 103] } as const;
const ask = ({ engine }: TestEngine, modelName: string, maxTokens = 12) =>
  generate(engine, { modelName, prompt: PROMPT, sampling: { maxTokens, ignoreEos: true } });

test('the shipped model loads in each layout, and which of its files is taken can be said', async () => {
  const repository = temporaryDirectory();
  const name = (file: string) => `default_model_filename: "${file}"`;
  writeStories(repository, 'hub');
  writeStories(repository, 'triton', { layout: 'triton' });
  writeStories(repository, 'quantized', { files: { 'config.pbtxt': name('onnx/model_quantized.onnx') } });
  const running = await start(repository);
  expect(states(running)).toEqual({ hub: 'READY', triton: 'READY', quantized: 'READY' });
  const { engine, logged } = running;
  for (const [model, file] of [
    ['hub', 'onnx/model.onnx'],
    ['triton', '1/model.onnx'],
    ['quantized', 'onnx/model_quantized.onnx'],
  ] as const) {
    expect(logged.some((line) => line.includes(`"model":"${model}","version":1,"file":"${file}"`))).toBe(true);
    expect(engine.modelConfig(model, '').default_model_filename).toBe(model === 'triton' ? 'model.onnx' : file);
  }
  const [hub, triton] = [await ask(running, 'hub'), await ask(running, 'triton')];
  expect(hub.tokens).toHaveLength(12);
  expect(hub.end).toMatchObject({ finishReason: 'length', promptTokens: 5, completionTokens: 12 });
  expect(triton.text).toBe(hub.text);
  expect((await ask(running, 'quantized')).tokens).toHaveLength(12);
});

test('the path of its folder is a repository of one model', async () => {
  const directory = writeStories(temporaryDirectory(), 'mounted');
  expect(states(await start(directory))).toEqual({ mounted: 'READY' });
});

test('a folder of the GenAI builder needs no config.json, and its configuration says which file it is', async () => {
  const repository = temporaryDirectory();
  const model = {
    type: 'llama',
    context_length: 100,
    eos_token_id: [0, 4],
    decoder: { filename: 'model_quantized.onnx' },
  };
  const files = {
    'config.json': undefined,
    'generation_config.json': undefined,
    'genai_config.json': JSON.stringify({ model, search: { do_sample: false } }),
  };
  writeStories(repository, 'built', { files });
  const running = await start(repository);
  expect(states(running)).toEqual({ built: 'READY' });
  expect(running.engine.modelConfig('built', '').default_model_filename).toBe('onnx/model_quantized.onnx');
  expect(running.engine.modelContent('built', '').generation).toMatchObject({ contextLength: 100 });
  expect((await ask(running, 'built', 200)).end).toMatchObject({ finishReason: 'length', completionTokens: 95 });
});

test('what is told of it is what can be asked of it', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'stories');
  const { engine } = await start(repository);
  expect(engine.isReady()).toBe(true);
  expect(engine.isModelReady('stories', '1')).toBe(true);
  const { platform, versions, inputs, outputs } = engine.modelMetadata('stories', '');
  expect({ platform, versions }).toEqual({ platform: 'onnxruntime_onnx', versions: ['1'] });
  expect(inputs.map(({ name }) => name).slice(0, 3)).toEqual(['text_input', 'stream', 'sampling_parameters']);
  expect(outputs[0]).toEqual({ name: 'text_output', datatype: 'BYTES', shape: [-1] });
  expect(engine.modelConfig('stories', '')).toMatchObject({ model_transaction_policy: { decoupled: true } });
  expect(engine.modelContent('stories', '')).toEqual({
    inputs: [],
    embeddingOutput: undefined,
    embeddingProblem: 'it generates text',
    isMatryoshka: false,
    generation: { contextLength: 512, vocabularySize: 768, chatProblem: '' },
  });
});

test('options and parameters reach its thread', async () => {
  const repository = temporaryDirectory();
  const parameter = (key: string, value: string) => `parameters { key: "${key}" value { string_value: "${value}" } }\n`;
  writeStories(repository, 'plain');
  writeStories(repository, 'own', {
    files: {
      'config.pbtxt':
        parameter('max_sequences', '2') +
        parameter('kv_cache_byte_size', '4000000') +
        parameter('prefix_cache_byte_size', '0') +
        parameter('max_sequence_length', '40') +
        parameter('intra_op_thread_count', '2'),
    },
  });
  const { engine } = await start(repository);
  const spec = (model: string) => engine.readyModels().find(({ name }) => name === model)!.generation!.spec;
  expect(spec('plain')).toMatchObject({ maxSequences: 8, kvCacheBytes: 1 << 28, contextLength: 512 });
  expect(spec('plain').options).toMatchObject({ intraOpNumThreads: 1, enableMemPattern: true });
  expect(spec('own')).toMatchObject({
    maxSequences: 2,
    kvCacheBytes: 4_000_000,
    prefixCacheBytes: 0,
    contextLength: 40,
    options: { intraOpNumThreads: 2 },
  });
});

test('a context is cut to what the cache of keys and values can hold, and a request for all of it is served', async () => {
  const repository = temporaryDirectory();
  const kvCache = (bytes: number) => `parameters { key: "kv_cache_byte_size" value { string_value: "${bytes}" } }`;
  writeStories(repository, 'cut', { files: { 'config.pbtxt': kvCache(100 * STORIES_TOKEN_BYTES) } });
  writeStories(repository, 'none', { files: { 'config.pbtxt': kvCache(31 * STORIES_TOKEN_BYTES) } });
  const running = await start(repository);
  expect(states(running)).toEqual({
    cut: 'READY',
    none: `kv_cache_byte_size ${31 * STORIES_TOKEN_BYTES} has room for 31 tokens of ${STORIES_TOKEN_BYTES} bytes each, at least 32 are needed`,
  });
  expect(running.engine.modelContent('cut', '').generation).toMatchObject({ contextLength: 96 });
  expect(running.logged.join('\n')).toContain('its context of 512 tokens is cut to 96');
  const all = await generate(running.engine, { modelName: 'cut', prompt: PROMPT, sampling: { ignoreEos: true } });
  expect(all.end).toMatchObject({ finishReason: 'length', completionTokens: 96 - PROMPT.tokens.length });
});

test('a decoder without a tokenizer is served by its raw tensors, and the log and who asks it for text are told why', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'bare', { files: { 'tokenizer.json': undefined } });
  const running = await start(repository);
  const { engine, logged } = running;
  expect(states(running)).toEqual({ bare: 'READY' });
  expect(engine.modelContent('bare', '').generation).toBeUndefined();
  expect(engine.modelMetadata('bare', '').inputs.map(({ name }) => name)).toContain('past_key_values.0.key');
  expect(logged.join('\n')).toContain('generates no text: its folder has no tokenizer.json');
  await expect(ask(running, 'bare')).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: "model 'bare' generates no text: its folder has no tokenizer.json",
  });
});

test('a conversation becomes the prompt that its template makes of it', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'stories');
  writeStories(repository, 'without', { files: { 'chat_template.jinja': '{% for message in %}' } });
  const running = await start(repository);
  const { engine } = running;
  const messages = [{ role: 'user', content: 'What is 3 plus 4?' }];
  const chat = await generate(engine, { modelName: 'stories', prompt: { kind: 'chat', messages } });
  const text = '<|user|>What is 3 plus 4?<|end|><|assistant|>';
  const plain = await generate(engine, {
    modelName: 'stories',
    prompt: { kind: 'text', text, addSpecialTokens: false },
  });
  expect(chat.text).toBe(plain.text);
  expect(chat.end).toMatchObject({ finishReason: 'stop', promptTokens: plain.end.promptTokens });
  expect(chat.text).toContain('7');

  // A template that is none takes conversations away, and nothing else.
  expect(states(running).without).toBe('READY');
  const { chatProblem } = engine.modelContent('without', '').generation!;
  expect(chatProblem).toContain("chat_template can't be used");
  expect(running.logged.join('\n')).toContain("it takes no conversations: chat_template can't be used");
  expect((await ask(running, 'without')).tokens).toHaveLength(12);
  await expect(generate(engine, { modelName: 'without', prompt: { kind: 'chat', messages } })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
});

test('files that are wrong fail their model with file and field, and no other', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'good');
  const broken = (name: string, files: Readonly<Record<string, string>>) => writeStories(repository, name, { files });
  broken('inputs', { 'config.pbtxt': 'input { name: "input_ids" data_type: TYPE_INT64 dims: [-1, -1] }' });
  broken('parameter', { 'config.pbtxt': 'parameters { key: "max_sequences" value { string_value: "0" } }' });
  broken('sampling', { 'generation_config.json': '{"do_sample": true, "top_p": 7}' });
  broken('tokenizer', { 'tokenizer.json': '{"model": {"type": "Imagined"}}' });
  broken('graph', { 'onnx/model.onnx': 'no graph' });
  const running = await start(repository);
  expect(states(running)).toEqual({
    good: 'READY',
    inputs: expect.stringContaining("input 'input_ids' is none of text_input"),
    parameter: expect.stringContaining("failed to convert max_sequences '0'"),
    sampling: "file 'generation_config.json' of model 'sampling': 'top_p' must be a number in (0, 1], got 7",
    tokenizer: expect.stringContaining('tokenizer'),
    graph: expect.any(String),
  });
  expect((await ask(running, 'good')).tokens).toHaveLength(12);
});

test('one that is idle is unloaded for another and comes back, and one that generates is not', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'a');
  writeStories(repository, 'b');
  // Room for one: each counts as much as its files.
  const running = await start(repository, {
    loadOnFirstUse: true,
    modelMemoryBytes: Math.round(STORIES_BYTES * 1.5),
    measuresMemory: false,
  });
  const { engine } = running;
  const loaded = () => engine.readyModels().map(({ name }) => name);
  expect(loaded()).toEqual([]);
  expect(engine.isModelReady('a', '')).toBe(true);
  const before = await ask(running, 'a');
  expect(loaded()).toEqual(['a']);
  const { streams } = engine.readyModels()[0]!.generation!;
  expect((await ask(running, 'b')).tokens).toEqual(before.tokens);
  expect(loaded()).toEqual(['b']);
  expect(states(running).a).toContain('was unloaded to stay within the memory budget');
  // Its thread has ended, and can be ended again.
  await streams.close();

  const long = startGenerating(engine, {
    modelName: 'b',
    prompt: PROMPT,
    sampling: { maxTokens: 300, ignoreEos: true },
  });
  await long.first;
  const waiting = ask(running, 'a');
  expect((await long.done).tokens).toHaveLength(300);
  expect((await waiting).tokens).toEqual(before.tokens);
  expect(loaded()).toEqual(['a']);
  const slot = engine.slots().find(({ name }) => name === 'a')!;
  expect(slot.loads).toEqual({ success: 2, failure: 0 });
  expect(slot.generationCounts).toMatchObject({ finished: { length: 2 }, generatedTokens: 24 });
});

test('under a budget it counts with the memory that its streams may take', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'stories');
  const running = await start(repository, { modelMemoryBytes: 1 << 30 });
  const { generation } = running.engine.readyModels()[0]!;
  const { kvCacheBytes, prefixCacheBytes, maxSequences, contextLength } = generation!.spec;
  const most = Math.min(kvCacheBytes, maxSequences * contextLength * generation!.loaded.kvBytesPerToken);
  expect(most).toBeGreaterThan(0);
  const bytes = running.engine.memoryBytesOf(running.engine.slots()[0]!);
  expect(bytes).toBeGreaterThanOrEqual(most + prefixCacheBytes);
});

test('one that does not fit the budget at all is refused with the numbers', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'stories');
  const running = await start(repository, { modelMemoryBytes: 1 << 20 });
  expect(states(running).stories).toMatch(
    /^model 'stories' takes \d+ bytes of memory, more than --model-memory-budget 1048576$/,
  );
});

/**
 * The real worker in a thread that ends when it is told to. `spoil`: its later lives end before they hear anything. Not by a message: the
 * worker takes those from its port itself.
 */
function dyingStreams(spoil = false): { file: string; kill(): void } {
  const directory = temporaryDirectory();
  const [file, again, order] = ['die.mjs', 'again', 'order'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  const real = join(import.meta.dirname, '../../dist/workers/token-stream-worker.js');
  writeFileSync(
    file,
    `import { existsSync, rmSync, writeFileSync } from 'node:fs';
import serve from ${JSON.stringify(real)};
const [again, order] = ${JSON.stringify([again, order])};
export default ({ port }) => {
  if (${spoil} && existsSync(again)) process.exit(3);
  writeFileSync(again, '');
  setInterval(() => {
    if (!existsSync(order)) return;
    rmSync(order);
    process.exit(3);
  }, 1).unref();
  return serve({ port });
};\n`,
  );
  return { file, kill: () => writeFileSync(order, '') };
}

test('a thread that dies tells its streams, and its model comes back as it was', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'stories');
  const worker = dyingStreams();
  const running = await start(repository, { tokenStreamWorkerFile: worker.file });
  const { engine, logged } = running;
  const before = await ask(running, 'stories');
  const sampling = { maxTokens: 500, ignoreEos: true };
  const streams = [1, 2].map(() => startGenerating(engine, { modelName: 'stories', prompt: PROMPT, sampling }));
  await Promise.all(streams.map(({ first }) => first));
  worker.kill();
  for (const { done } of streams)
    await expect(done).rejects.toMatchObject({ code: 'UNAVAILABLE', message: expect.stringContaining('lost') });
  // Its address does not change: who asks is told to come again, and then served.
  expect(engine.isModelReady('stories', '')).toBe(true);
  await expect(ask(running, 'stories')).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: "model 'stories' was lost with its thread and is being loaded again",
  });
  await expect.poll(() => logged.join('\n')).toContain('model was loaded again');
  expect((await ask(running, 'stories')).tokens).toEqual(before.tokens);
  expect(logged.join('\n')).toContain('a token-stream worker was lost and is being replaced');
});

test('one that can not be loaded again is withdrawn with the reason', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'stories');
  const worker = dyingStreams(true);
  const running = await start(repository, { tokenStreamWorkerFile: worker.file });
  await ask(running, 'stories');
  worker.kill();
  await expect.poll(() => running.engine.readyModels()).toHaveLength(0);
  expect(states(running).stories).toContain('token-stream worker was lost');
  expect(running.engine.isReady()).toBe(false);
  await expect(ask(running, 'stories')).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(running.engine.slots()[0]!.unloads.lost).toBe(1);
});

test('an engine that closes while a stream runs ends the stream and the thread', async () => {
  const repository = temporaryDirectory();
  writeStories(repository, 'stories');
  const { engine, stop } = await startEngine(repository);
  const sampling = { maxTokens: 400, ignoreEos: true };
  const running = startGenerating(engine, { modelName: 'stories', prompt: PROMPT, sampling });
  await running.first;
  await engine.close();
  await expect(running.done).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  await stop();
});
