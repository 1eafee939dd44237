/** Folders read from disk against the tensors of real models: what may be sent, what is padded, what the outputs are. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readHubFolder } from '../../src/engine/huggingface.js';
import { assembleModel } from '../../src/engine/model-assembly.js';
import { describeModelConfig, modelMetadataTensors, parseModelConfig } from '../../src/engine/model-config.js';
import type { RepositoryEntry } from '../../src/engine/repository.js';
import { Statistics } from '../../src/engine/statistics.js';
import type { SessionTensor } from '../../src/runtime/messages.js';
import { temporaryDirectory } from '../support/engine.js';

type Files = Readonly<Record<string, string | object>>;

/** A model's folder; objects are written as JSON. */
function folder(files: Files): RepositoryEntry {
  const directory = join(temporaryDirectory(), 'm');
  mkdirSync(directory);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return { name: 'm', directory, versions: [1] };
}

interface Tensors {
  readonly inputs: readonly SessionTensor[];
  readonly outputs: readonly SessionTensor[];
}

async function load(files: Files, tensors: Tensors, { config = '', standard = 4, at = '1/model.onnx' } = {}) {
  const entry = folder(files);
  const hub = await readHubFolder(entry, join(entry.directory, at));
  const { model, notes } = await assembleModel(
    {
      entry,
      raw: parseModelConfig(config, 'm'),
      version: 1,
      folder: hub,
      session: 0,
      metadata: { ...tensors, integerDivision: false, loadMs: 0, grownBytes: 0 },
      integerDivision: false,
      statistics: new Statistics(),
    },
    {
      autoComplete: true,
      defaultMaxBatchSize: standard,
      defaultInstanceCount: 1,
      defaultMaxQueueSize: 10,
      defaultMaxQueueBytes: 1000,
      maxImagePixels: 1000,
    },
  );
  return { model, notes, hub };
}

const tensor = (name: string, ortType: string, ...dims: (number | string)[]): SessionTensor => ({
  name,
  ortType,
  dims,
});
const tokens = (name: string, ortType = 'int64') => tensor(name, ortType, 'batch_size', 'sequence_length');

const TOKENIZER = {
  added_tokens: [{ id: 5, content: '[PAD]' }],
  padding: { pad_type_id: 3 },
  post_processor: null,
  model: { type: 'WordPiece', vocab: {} },
};
const SETTINGS = { model_max_length: 64, pad_token: '[PAD]' };
const BERT: Files = {
  'config.json': { model_type: 'bert', max_position_embeddings: 512 },
  'tokenizer.json': TOKENIZER,
  'tokenizer_config.json': SETTINGS,
};
const module = (type: string, path: string) => ({ type: `sentence_transformers.models.${type}`, path });
const MINILM: Files = {
  ...BERT,
  'modules.json': [module('Transformer', ''), module('Pooling', '1_Pooling'), module('Normalize', '2_Normalize')],
  '1_Pooling/config.json': { pooling_mode_mean_tokens: true },
};
const BERT_INPUTS = [tokens('input_ids'), tokens('attention_mask'), tokens('token_type_ids')];
const HIDDEN = tensor('last_hidden_state', 'float32', 'batch_size', 'sequence_length', 384);
const POOLER = tensor('pooler_output', 'float32', 'batch_size', 384);
const EMBEDDING = tensor('sentence_embedding', 'float32', 'batch_size', 384);
const PIXELS = tensor('pixel_values', 'float32', 'batch_size', 3, 224, 224);
const VIT = { image_processor_type: 'ViTImageProcessor', size: 224, image_mean: 0.5, image_std: [0.1, 0.2, 0.3] };

describe('a text model', () => {
  test('takes text in place of its token tensors, which then are padded as the tokenizer says', async () => {
    const { model, notes } = await load(BERT, { inputs: BERT_INPUTS, outputs: [HIDDEN] });
    expect(model.contents).toEqual([
      { name: 'text', kind: 'text', makes: [0, 1, 2] },
      { name: 'text_pair', kind: 'text_pair', makes: [0, 1, 2] },
    ]);
    expect(model.padding).toEqual([5, 0, 3]);
    expect(model.processor.text).toMatchObject({
      maxTokens: 64,
      padTokenId: 5,
      padTokenTypeId: 3,
      paddingSide: 'right',
      tensors: [
        { role: 'input_ids', name: 'input_ids', datatype: 'INT64' },
        { role: 'attention_mask', name: 'attention_mask', datatype: 'INT64' },
        { role: 'token_type_ids', name: 'token_type_ids', datatype: 'INT64' },
      ],
    });
    expect(model.processor.image).toBeUndefined();
    const { buffer, byteLength } = model.processor.text!.tokenizerJson as Uint8Array<SharedArrayBuffer>;
    // What is neither decoded nor copied on the main thread.
    expect(buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(JSON.parse(Buffer.from(buffer, 0, byteLength).toString())).toEqual(TOKENIZER);
    expect(JSON.parse(model.processor.text!.tokenizerConfigJson)).toEqual(SETTINGS);
    expect(notes).toEqual([]);
  });

  test('says so in its metadata and its configuration, and batches more than others', async () => {
    const { model } = await load(BERT, { inputs: BERT_INPUTS.slice(0, 2), outputs: [HIDDEN] });
    expect(model.config.maxBatchSize).toBe(32);
    expect(modelMetadataTensors(model.config).inputs).toEqual([
      { name: 'text', datatype: 'BYTES', shape: [-1, 1] },
      { name: 'input_ids', datatype: 'INT64', shape: [-1, -1] },
      { name: 'attention_mask', datatype: 'INT64', shape: [-1, -1] },
    ]);
    expect(describeModelConfig(model.config).input).toMatchObject([
      { name: 'text', data_type: 'TYPE_STRING', dims: [1], optional: true },
      { name: 'input_ids', data_type: 'TYPE_INT64', dims: [-1], optional: true },
      { name: 'attention_mask', data_type: 'TYPE_INT64', dims: [-1], optional: true },
    ]);
    expect(model.inputs.map(({ name, optional }) => [name, optional])).toEqual([
      ['input_ids', false],
      ['attention_mask', false],
    ]);
  });

  test.each([
    ['', 4, 32],
    ['', 100, 100],
    ['', 1, 1],
    ['', 0, 0],
    ['max_batch_size: 8', 4, 8],
  ])('with %j and a default of %d has max_batch_size %d', async (config, standard, expected) => {
    const { model } = await load(BERT, { inputs: BERT_INPUTS, outputs: [HIDDEN] }, { config, standard });
    expect(model.config.maxBatchSize).toBe(expected);
  });

  test('without a batch dimension takes any number of texts, or one', async () => {
    const config = 'max_batch_size: 0';
    const { model } = await load(BERT, { inputs: BERT_INPUTS, outputs: [HIDDEN] }, { config });
    expect(modelMetadataTensors(model.config).inputs[0]).toEqual({ name: 'text', datatype: 'BYTES', shape: [-1] });
    expect(describeModelConfig(model.config).input).toMatchObject([{ dims: [-1] }, {}, {}, {}, {}]);
    const flat = await load(BERT, { inputs: [tensor('input_ids', 'int32', 'n')], outputs: [HIDDEN] }, { config });
    expect(flat.model.processor.text!.tensors).toEqual([{ role: 'input_ids', name: 'input_ids', datatype: 'INT32' }]);
  });

  test('without a mask has nothing to pad with', async () => {
    const { model } = await load(BERT, { inputs: [tokens('input_ids')], outputs: [HIDDEN] });
    expect(model.contents.map(({ name }) => name)).toContain('text');
    expect(model.padding).toEqual([undefined]);
  });

  test('without tokenizer.json is what it was', async () => {
    const { 'tokenizer.json': _, ...files } = BERT;
    const { model, notes } = await load(files, { inputs: BERT_INPUTS, outputs: [HIDDEN] });
    expect(model.contents).toEqual([]);
    expect(model.padding).toEqual([undefined, undefined, undefined]);
    expect(model.config.maxBatchSize).toBe(4);
    expect(model.content.embeddingProblem).toBe('its folder has no tokenizer.json');
    expect(notes).toEqual([]);
  });

  test.each<[SessionTensor, string]>([
    [
      tensor('attention_mask', 'float32', 'b', 's'),
      "input 'attention_mask' is FP32 [-1], tokens need INT64 or INT32 [tokens]",
    ],
    [
      tensor('attention_mask', 'int64', 'b', 's', 's'),
      "input 'attention_mask' is INT64 [-1,-1], tokens need INT64 or INT32 [tokens]",
    ],
    [tensor('attention_mask', 'int64', 'b', 128), 'inputs for tokens have lengths -1 and 128, one is needed'],
  ])('with %j takes raw tensors alone, and the log says why', async (mask, why) => {
    const { model, notes } = await load(BERT, { inputs: [tokens('input_ids'), mask], outputs: [HIDDEN] });
    expect(model.contents).toEqual([]);
    expect(notes).toEqual([`text is not taken: ${why}`]);
  });

  test('of one length pads to it, and with other texts not further', async () => {
    const fixed = [tensor('input_ids', 'int64', 'b', 16), tensor('attention_mask', 'int64', 'b', 16)];
    const { model } = await load(BERT, { inputs: fixed, outputs: [HIDDEN] });
    expect(model.processor.text).toMatchObject({ maxTokens: 16, fixedTokens: 16 });
    expect(model.padding).toEqual([undefined, undefined]);
  });

  test('is searched for its files beside the ONNX file first', async () => {
    const own = { ...TOKENIZER, added_tokens: [{ id: 9, content: '[PAD]' }] };
    const { model } = await load({ ...BERT, '1/tokenizer.json': own }, { inputs: BERT_INPUTS, outputs: [HIDDEN] });
    expect(model.padding[0]).toBe(9);
    const deep = { ...BERT, 'onnx/tokenizer.json': own };
    const optimum = await load(deep, { inputs: BERT_INPUTS, outputs: [HIDDEN] }, { at: 'onnx/model.onnx' });
    expect(optimum.model.padding[0]).toBe(9);
    expect(optimum.model.processor.text!.maxTokens).toBe(64);
  });
});

describe('embeddings', () => {
  test('of sentence-transformers come first and alone, the tokens when they are asked for', async () => {
    const { model, hub, notes } = await load(MINILM, { inputs: BERT_INPUTS, outputs: [HIDDEN, POOLER, EMBEDDING] });
    expect(hub.modules).toEqual({ pooling: { modes: ['mean'], normalize: true }, problem: '' });
    expect(model.outputs.map(({ name, index }) => [name, index])).toEqual([
      ['sentence_embedding', 2],
      ['pooler_output', 1],
      ['last_hidden_state', 0],
    ]);
    expect(model.defaultOutputs).toEqual([0, 1]);
    expect(model.content).toMatchObject({ embeddingOutput: 'sentence_embedding', embeddingProblem: '' });
    expect(notes).toEqual([]);
  });

  test('come as the configuration lists them', async () => {
    const config =
      'max_batch_size: 2 output [ { name: "last_hidden_state" data_type: TYPE_FP32 dims: [-1, 384] }, { name: "sentence_embedding" data_type: TYPE_FP32 dims: [384] } ]';
    const { model } = await load(MINILM, { inputs: BERT_INPUTS, outputs: [HIDDEN, EMBEDDING] }, { config });
    expect(model.outputs.map(({ name }) => name)).toEqual(['last_hidden_state', 'sentence_embedding']);
    expect(model.defaultOutputs).toEqual([0, 1]);
  });

  const vector = (name: string, ortType = 'float32') => tensor(name, ortType, 'batch_size', 512);
  const dense = [...(MINILM['modules.json'] as object[]), module('Dense', '2_Dense')];
  const labels = { id2label: { 0: 'no', 1: 'yes' } };
  test.each<[string, Files, SessionTensor[], string | undefined, string]>([
    ['CLIP', BERT, [vector('text_model_output'), vector('text_embeds')], 'text_embeds', ''],
    ['the only vector', BERT, [HIDDEN, vector('pooled')], 'pooled', ''],
    ['SigLIP', { ...BERT, 'config.json': { model_type: 'siglip_text_model' } }, [HIDDEN, POOLER], 'pooler_output', ''],
    [
      'BERT',
      BERT,
      [HIDDEN, POOLER],
      undefined,
      'it gives one vector per token, and there is no modules.json that says how to pool them',
    ],
    ['several vectors', BERT, [vector('a'), vector('b')], undefined, 'no output of it is known to be an embedding'],
    ['half precision', BERT, [vector('pooled', 'float16')], undefined, 'no output of it is known to be an embedding'],
    [
      'half precision by its name',
      BERT,
      [tensor('sentence_embedding', 'float16', 'b', 4)],
      undefined,
      "its output 'sentence_embedding' is FP16, and embeddings are given from FP32",
    ],
    [
      'one number, which is a score',
      BERT,
      [tensor('relevance', 'float32', 'b', 1)],
      undefined,
      'no output of it is known to be an embedding',
    ],
    [
      'a classifier',
      { ...BERT, 'config.json': labels },
      [tensor('y', 'float32', 'b', 2)],
      undefined,
      'no output of it is known to be an embedding',
    ],
    [
      'tokens of another name',
      MINILM,
      [tensor('x', 'int64', 'b', 's')],
      undefined,
      'it has no output with one vector per token that could be pooled',
    ],
    ['an export with all modules', { ...MINILM, 'modules.json': dense }, [HIDDEN, EMBEDDING], 'sentence_embedding', ''],
    [
      'a module that is not done here',
      { ...MINILM, 'modules.json': dense },
      [HIDDEN],
      undefined,
      "its modules.json has a module 'Dense', which is not applied here (export the model with an output 'sentence_embedding' instead)",
    ],
  ])('of %s', async (_, files, outputs, embeddingOutput, embeddingProblem) => {
    const { model, notes } = await load(files, { inputs: BERT_INPUTS, outputs });
    expect(model.content).toMatchObject({ embeddingOutput, embeddingProblem });
    const told = files['modules.json'] && embeddingProblem;
    expect(notes).toEqual(told ? [`no embeddings are given: ${embeddingProblem}`] : []);
  });

  test('of files outside of its folder are refused', async () => {
    const out = { ...MINILM, 'modules.json': [module('Transformer', '../x'), module('Pooling', '1_Pooling')] };
    await expect(load(out, { inputs: BERT_INPUTS, outputs: [HIDDEN] })).rejects.toThrow(
      "'path' in modules.json '../x' of model 'm' must be a relative path without '..'",
    );
  });

  test('of a pooling module without its file are refused by its name', async () => {
    const { '1_Pooling/config.json': _, ...files } = MINILM;
    await expect(load(files, { inputs: BERT_INPUTS, outputs: [HIDDEN] })).rejects.toThrow(
      "unable to find file '1_Pooling/config.json' of model 'm', which its modules.json has a Pooling module in",
    );
    const out = { ...files, 'modules.json': [module('Transformer', ''), module('Pooling', '../../x')] };
    await expect(load(out, { inputs: BERT_INPUTS, outputs: [HIDDEN] })).rejects.toThrow(
      "'path' in modules.json '../../x/config.json' of model 'm' must be a relative path without '..'",
    );
  });
});

describe('an image model', () => {
  const scores = tensor('logits', 'float32', 'batch_size', 2);
  const labels = { 'config.json': { id2label: { 0: 'cat', 1: 'dog' } } };
  const preprocessor = (image: object): Files => ({ ...labels, 'preprocessor_config.json': image });
  const image = (ortType: string, ...dims: (number | string)[]) => tensor('x', ortType, 'n', ...dims);

  test('takes pictures in place of its pixels, and names its classes', async () => {
    const { model } = await load(preprocessor(VIT), { inputs: [PIXELS], outputs: [scores] });
    expect(model.contents).toEqual([{ name: 'image', kind: 'image', makes: [0] }]);
    expect(model.processor).toEqual({
      image: {
        tensor: 'pixel_values',
        datatype: 'FP32',
        dims: [3, 224, 224],
        layout: 'CHW',
        channels: 3,
        channelOrder: 'RGB',
        resize: { kind: 'exact', width: 224, height: 224 },
        resample: 'bilinear',
        rescale: 1 / 255,
        mean: [0.5, 0.5, 0.5],
        std: [0.1, 0.2, 0.3],
        maxPixels: 1000,
      },
    });
    expect(model.labels).toEqual([['cat', 'dog']]);
    expect(model.padding).toEqual([undefined]);
    expect(model.config.maxBatchSize).toBe(4);
    expect(model.content).toEqual({
      inputs: [{ name: 'image', kind: 'image' }],
      embeddingOutput: undefined,
      embeddingProblem: '',
      isMatryoshka: false,
    });
  });

  test('may keep its settings in processor_config.json', async () => {
    const files = { 'processor_config.json': { image_processor: VIT, processor_class: 'CLIPProcessor' } };
    const { model } = await load(files, { inputs: [PIXELS], outputs: [scores] });
    expect(model.processor.image).toMatchObject({ tensor: 'pixel_values', channels: 3 });
  });

  test.each<[string, SessionTensor, object, object]>([
    ['colours last', image('float32', 224, 224, 3), VIT, { layout: 'HWC', channels: 3, dims: [224, 224, 3] }],
    ['half precision of any size', image('float16', 3, 'h', 'w'), VIT, { datatype: 'FP16', dims: [3, -1, -1] }],
    ['everything open', image('float32', 'c', 'h', 'w'), VIT, { layout: 'CHW', channels: 3, dims: [-1, -1, -1] }],
    [
      'one dimension, as digits',
      image('float32', 64),
      { size: 8, do_normalize: false, image_mean: 0.5 },
      { layout: 'CHW', channels: 1, dims: [64] },
    ],
    ['one dimension of three colours', image('float32', 192), { size: 8 }, { channels: 3, dims: [192] }],
  ])('takes %s', async (_, input, file, expected) => {
    const { model } = await load(preprocessor(file), { inputs: [input], outputs: [scores] });
    expect(model.processor.image).toMatchObject({ tensor: 'x', ...expected });
  });

  test('of whole numbers gets pixels as they are', async () => {
    const { model } = await load(preprocessor(VIT), { inputs: [image('uint8', 3, 224, 224)], outputs: [scores] });
    expect(model.processor.image).toMatchObject({ datatype: 'UINT8', rescale: 1 });
    expect(model.processor.image).not.toHaveProperty('mean');
  });

  test('with a tensor called image takes pictures by another name', async () => {
    const input = tensor('image', 'float32', 'n', 64);
    const config =
      'max_batch_size: 2 input [ { name: "image" data_type: TYPE_FP32 dims: [64] } ] output [ { name: "logits" data_type: TYPE_FP32 dims: [2] label_filename: "labels.txt" } ]';
    const files = { ...preprocessor({ size: 8 }), 'labels.txt': 'zero\none\n' };
    const { model } = await load(files, { inputs: [input], outputs: [scores] }, { config });
    expect(model.contents).toEqual([{ name: 'image_bytes', kind: 'image', makes: [0] }]);
    expect(model.labels).toEqual([['zero', 'one']]);
    expect(modelMetadataTensors(model.config).inputs.map(({ name }) => name)).toEqual(['image_bytes', 'image']);
  });

  test('without a batch dimension takes one picture', async () => {
    const config = 'max_batch_size: 0';
    for (const dims of [
      [1, 3, 224, 224],
      [3, 224, 224],
    ]) {
      const { model } = await load(
        preprocessor(VIT),
        { inputs: [tensor('x', 'float32', ...dims)], outputs: [scores] },
        { config },
      );
      expect(model.processor.image).toMatchObject({ dims: [3, 224, 224] });
    }
  });

  test.each<[SessionTensor[], string]>([
    [[image('float32', 128)], 'no input has the shape of a picture'],
    [[image('int64', 3, 224, 224)], 'no input has the shape of a picture'],
    [
      [image('float32', 3, 224, 224), tensor('y', 'float32', 'n', 3, 'h', 'w')],
      'several inputs have the shape of a picture',
    ],
    [
      [tensor('pixel_values', 'float32', 'n', 7, 7), image('float32', 3, 224, 224)],
      'no input has the shape of a picture',
    ],
  ])('that has not one input for pictures takes tensors alone: %j', async (inputs, why) => {
    const { model, notes } = await load(preprocessor(VIT), { inputs, outputs: [scores] });
    expect(model.contents).toEqual([]);
    expect(notes).toEqual([`pictures are not taken: ${why}`]);
  });

  test.each<[object, SessionTensor, string]>([
    [
      { size: 8 },
      PIXELS,
      "'size' must be such that pictures get the 224 x 224 pixels (height x width) that input 'pixel_values' takes, not 8 x 8, got 8",
    ],
    [
      { size: { shortest_edge: 256 }, do_center_crop: true, crop_size: { height: 224, width: 200 } },
      PIXELS,
      "'crop_size' must be such that pictures get the 224 x 224 pixels (height x width) that input 'pixel_values' takes, not 224 x 200, got an object",
    ],
    [
      { ...VIT, size: 8 },
      image('float32', 1, 8, 8),
      "'image_std' must be 1 number or 1, as many as the model's input has channels, got a list of 3",
    ],
  ])('whose file contradicts it is refused: %j', async (file, input, message) => {
    await expect(load(preprocessor(file), { inputs: [input], outputs: [scores] })).rejects.toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: `file 'preprocessor_config.json' of model 'm': ${message}`,
      }),
    );
  });
});

describe('CLIP', () => {
  const inputs = [
    tensor('input_ids', 'int64', 'text_batch_size', 's'),
    PIXELS,
    tensor('attention_mask', 'int64', 'text_batch_size', 's'),
  ];
  const outputs = [
    tensor('logits_per_image', 'float32', 'image_batch_size', 'text_batch_size'),
    tensor('text_embeds', 'float32', 'text_batch_size', 512),
    tensor('image_embeds', 'float32', 'image_batch_size', 512),
  ];
  const files = { ...BERT, 'preprocessor_config.json': VIT };

  test('takes both, and is never batched with the texts of others', async () => {
    const { model } = await load(files, { inputs, outputs });
    expect(model.config.maxBatchSize).toBe(0);
    expect(model.contents).toEqual([
      { name: 'text', kind: 'text', makes: [0, 2] },
      { name: 'image', kind: 'image', makes: [1] },
    ]);
    expect(model.content).toMatchObject({
      embeddingOutput: undefined,
      embeddingProblem: "text is not enough for it, it takes 'pixel_values' too",
    });
  });
});

describe('files that can not be read are refused by name', () => {
  test.each<[Files, string]>([
    [{ 'config.json': '{' }, "file 'config.json' of model 'm' is not valid JSON: "],
    [{ 'config.json': '[]' }, "file 'config.json' of model 'm' must hold an object, got a list of 0"],
    [
      { ...BERT, '1/tokenizer.json': 'x' },
      "file '1/tokenizer.json' of model 'm' is not valid JSON: it is no whole object",
    ],
    [
      { ...BERT, 'tokenizer.json': 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n' },
      "file 'tokenizer.json' of model 'm' is a pointer of Git LFS: fetch the file itself with 'git lfs pull'",
    ],
    [
      { ...BERT, 'tokenizer_config.json': 'null' },
      "file 'tokenizer_config.json' of model 'm' must hold an object, got nothing",
    ],
    [{ 'modules.json': {} }, "file 'modules.json' of model 'm' must hold a list, got an object"],
    [{ 'preprocessor_config.json/x': '' }, "file 'preprocessor_config.json' of model 'm' is not a file"],
  ])('%j', async (files, message) => {
    await expect(load(files, { inputs: BERT_INPUTS, outputs: [HIDDEN] })).rejects.toThrow(message);
  });

  test("but not for being links, as in the Hub's cache, unless another file names them", async () => {
    const linked = (link: string, files: Record<string, string | object> = {}) => {
      const entry = folder(files);
      const path = join(entry.directory, link);
      mkdirSync(dirname(path), { recursive: true });
      const blob = join(entry.directory, '../blob');
      writeFileSync(blob, '{"pad_token_id": "one"}');
      symlinkSync(blob, path);
      return readHubFolder(entry, join(entry.directory, '1/model.onnx'));
    };
    await expect(linked('config.json')).rejects.toThrow(
      "file 'config.json' of model 'm': 'pad_token_id' must be a number",
    );
    const modules = [{ type: 'sentence_transformers.models.Pooling', path: '1_Pooling' }];
    await expect(linked('1_Pooling/config.json', { 'modules.json': modules })).rejects.toThrow(
      "'1_Pooling/config.json' of model 'm' lies outside the model's directory",
    );
  });

  test('but not those that nobody asks for', async () => {
    const files = { 'vocab.json': '{', 'generation_config.json': '[', 'special_tokens_map.json': '[' };
    expect((await load(files, { inputs: BERT_INPUTS, outputs: [HIDDEN] })).notes).toEqual([]);
  });
});
