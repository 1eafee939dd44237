/** The files of models that generate text, as their families write them: context, window, ends, sampling, names, conversations. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { HubFiles } from '../../src/engine/huggingface-files.js';
import { type GenerationFolder, readGenerationFolder } from '../../src/engine/huggingface-generation.js';
import { DECODER_NAMES } from '../../src/runtime/generation-messages.js';
import { temporaryDirectory } from '../support/engine.js';

type Files = Readonly<Record<string, unknown>>;

/** Some tokens of the families, under their real numbers. */
const TOKENIZER = {
  version: '1.0',
  added_tokens: [
    { id: 151643, content: '<|endoftext|>', special: true },
    { id: 151645, content: '<|im_end|>', special: true },
    { id: 106, content: '<end_of_turn>', special: true },
  ],
  model: { type: 'BPE', vocab: { '</s>': 2, '<s>': 1, '<|end|>': 50256 }, merges: [] },
};

/** Reads a folder of `files`, each as JSON, or as it stands where it is a string. */
async function read(files: Files, { longest = 0, onnx = 'model.onnx' } = {}): Promise<GenerationFolder> {
  const directory = temporaryDirectory();
  for (const [path, content] of Object.entries({ 'tokenizer.json': TOKENIZER, ...files })) {
    if (content === undefined) continue;
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return readGenerationFolder(new HubFiles({ name: 'm', directory, versions: [1] }, join(directory, onnx)), longest);
}

const GREEDY = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  maxTokens: undefined,
  minTokens: 0,
  suppressTokenIds: [],
};

const FAMILIES: readonly (readonly [string, Files, Partial<GenerationFolder>])[] = [
  [
    'GPT-2',
    {
      'config.json': {
        model_type: 'gpt2',
        architectures: ['GPT2LMHeadModel'],
        n_ctx: 1024,
        n_positions: 1024,
        eos_token_id: 50256,
        bos_token_id: 50256,
        task_specific_params: { 'text-generation': { do_sample: true, max_length: 50 } },
      },
      'generation_config.json': { _from_model_config: true, bos_token_id: 50256, eos_token_id: 50256 },
      'tokenizer_config.json': { model_max_length: 1024, eos_token: '<|end|>' },
    },
    { modelType: 'gpt2', contextLength: 1024, defaults: { ...GREEDY, eosTokenIds: [50256] } },
  ],
  [
    'SmolLM2',
    {
      'config.json': {
        model_type: 'llama',
        max_position_embeddings: 8192,
        eos_token_id: 2,
        pad_token_id: 2,
        rope_scaling: null,
        'transformers.js_config': { use_external_data_format: true },
      },
      'generation_config.json': { bos_token_id: 1, eos_token_id: 2, pad_token_id: 2, transformers_version: '4.42.3' },
      'tokenizer_config.json': { model_max_length: 2048, eos_token: '</s>' },
    },
    { modelType: 'llama', contextLength: 2048, defaults: { ...GREEDY, eosTokenIds: [2] } },
  ],
  [
    'Llama 3.2, whose end is a list',
    {
      'config.json': { model_type: 'llama', max_position_embeddings: 131072, eos_token_id: [128001, 128008, 128009] },
      'generation_config.json': {
        do_sample: true,
        eos_token_id: [128001, 128008, 128009],
        temperature: 0.6,
        top_p: 0.9,
      },
      'tokenizer_config.json': { model_max_length: 131072, eos_token: '<|eot_id|>' },
    },
    {
      contextLength: 131072,
      defaults: { ...GREEDY, temperature: 0.6, topP: 0.9, eosTokenIds: [128001, 128008, 128009] },
    },
  ],
  [
    'Qwen2.5, which names a window and does not use it',
    {
      'config.json': {
        model_type: 'qwen2',
        max_position_embeddings: 32768,
        sliding_window: 4096,
        use_sliding_window: false,
        max_window_layers: 21,
        eos_token_id: 151645,
      },
      'generation_config.json': {
        do_sample: true,
        repetition_penalty: 1.1,
        temperature: 0.7,
        top_k: 20,
        top_p: 0.8,
        eos_token_id: [151645, 151643],
      },
      'tokenizer_config.json': { model_max_length: 131072, eos_token: '<|im_end|>', bos_token: null },
    },
    {
      contextLength: 32768,
      slidingWindow: Number.POSITIVE_INFINITY,
      defaults: {
        ...GREEDY,
        temperature: 0.7,
        topK: 20,
        topP: 0.8,
        repetitionPenalty: 1.1,
        eosTokenIds: [151645, 151643],
      },
    },
  ],
  [
    'Gemma 3 in one piece, some of whose layers have a window',
    {
      'config.json': {
        model_type: 'gemma3_text',
        max_position_embeddings: 32768,
        sliding_window: 512,
        layer_types: ['sliding_attention', 'full_attention'],
        eos_token_id: 1,
      },
      'generation_config.json': {
        do_sample: true,
        cache_implementation: 'hybrid',
        top_k: 64,
        top_p: 0.95,
        eos_token_id: [1, 106],
      },
      'tokenizer_config.json': { model_max_length: 1e30, eos_token: '<eos>' },
    },
    {
      modelType: 'gemma3_text',
      contextLength: 32768,
      slidingWindow: 512,
      defaults: { ...GREEDY, temperature: 1, topK: 64, topP: 0.95, eosTokenIds: [1, 106] },
    },
  ],
  [
    'Gemma 3 with pictures, whose text part is nested',
    {
      'config.json': {
        model_type: 'gemma3',
        eos_token_id: [1, 106],
        text_config: { model_type: 'gemma3_text', max_position_embeddings: 131072, sliding_window: 1024 },
      },
      'tokenizer_config.json': { eos_token: '<end_of_turn>' },
    },
    {
      modelType: 'gemma3',
      contextLength: 131072,
      slidingWindow: 1024,
      defaults: { ...GREEDY, eosTokenIds: [1, 106] },
    },
  ],
  [
    'Phi-3, whose tokenizer knows an end of its own',
    {
      'config.json': { model_type: 'phi3', max_position_embeddings: 4096, sliding_window: 2047, eos_token_id: 32000 },
      'generation_config.json': { eos_token_id: [32000, 32001, 32007] },
      'special_tokens_map.json': { eos_token: { content: '<|endoftext|>', lstrip: false } },
      'tokenizer_config.json': { model_max_length: 4096 },
    },
    {
      contextLength: 4096,
      slidingWindow: 2047,
      defaults: { ...GREEDY, eosTokenIds: [32000, 32001, 32007, 151643] },
    },
  ],
  [
    'Mistral, with a window as long as its context and one of null',
    { 'config.json': { model_type: 'mistral', max_position_embeddings: 4096, sliding_window: 4096, eos_token_id: 2 } },
    { contextLength: 4096, slidingWindow: Number.POSITIVE_INFINITY, defaults: { ...GREEDY, eosTokenIds: [2] } },
  ],
  [
    'GPT-Neo, which calls it local',
    {
      'config.json': {
        model_type: 'gpt_neo',
        max_position_embeddings: 2048,
        window_size: 256,
        attention_layers: ['global', 'local'],
        eos_token_id: 50256,
      },
    },
    { contextLength: 2048, slidingWindow: 256, defaults: { ...GREEDY, eosTokenIds: [50256] } },
  ],
  [
    'a folder of the GenAI builder alone',
    {
      'genai_config.json': {
        model: {
          type: 'qwen2',
          bos_token_id: 151643,
          eos_token_id: [151645, 151643],
          pad_token_id: 151643,
          vocab_size: 151936,
          context_length: 32768,
          decoder: {
            filename: 'model.onnx',
            head_size: 64,
            session_options: { provider_options: [] },
            inputs: {
              input_ids: 'input_ids',
              attention_mask: 'attention_mask',
              past_key_names: 'past_key_values.%d.key',
              past_value_names: 'past_key_values.%d.value',
            },
            outputs: { logits: 'logits', present_key_names: 'present.%d.key', present_value_names: 'present.%d.value' },
          },
        },
        search: {
          do_sample: false,
          max_length: 32768,
          min_length: 0,
          num_beams: 1,
          temperature: 0.7,
          top_k: 20,
          top_p: 0.8,
          repetition_penalty: 1.05,
        },
      },
    },
    {
      modelType: 'qwen2',
      names: DECODER_NAMES,
      contextLength: 32768,
      headSize: 64,
      defaults: { ...GREEDY, repetitionPenalty: 1.05, eosTokenIds: [151645, 151643] },
      notes: [],
    },
  ],
];

for (const [family, files, expected] of FAMILIES) {
  test(`the files of ${family} are understood`, async () => {
    expect(await read(files)).toMatchObject(expected);
  });
}

test('names that genai_config.json gives are the tensors’ names', async () => {
  const decoder = {
    filename: 'm.onnx',
    inputs: { input_ids: 'ids', past_key_names: 'past_k_%d', past_value_names: 'past_v_%d' },
    outputs: { logits: 'scores', present_key_names: 'k_%d', present_value_names: 'v_%d' },
    sliding_window: { window_size: 128 },
  };
  const { names, slidingWindow } = await read({ 'genai_config.json': { model: { context_length: 512, decoder } } });
  expect(slidingWindow).toBe(128);
  expect(names).toEqual({
    inputIds: 'ids',
    attentionMask: 'attention_mask',
    positionIds: 'position_ids',
    logits: 'scores',
    pastKey: 'past_k_%d',
    pastValue: 'past_v_%d',
    presentKey: 'k_%d',
    presentValue: 'v_%d',
  });
});

test('the context is the smallest length that is named, the operator’s among them', async () => {
  const config = { max_position_embeddings: 4096, n_positions: 1024, seq_length: -1 };
  expect((await read({ 'config.json': config })).contextLength).toBe(1024);
  expect((await read({ 'config.json': config }, { longest: 100 })).contextLength).toBe(100);
  expect((await read({ 'config.json': config }, { longest: 9000 })).contextLength).toBe(1024);
  expect((await read({ 'config.json': {} })).contextLength).toBe(2048);
  expect((await read({ 'config.json': {}, 'tokenizer_config.json': { model_max_length: 1e30 } })).contextLength).toBe(
    2048,
  );
});

test('a model samples where its files say so, or give a temperature and do not deny it', async () => {
  const defaults = async (generation: unknown) => (await read({ 'generation_config.json': generation })).defaults;
  expect(await defaults({ temperature: 0.7, top_k: 5 })).toMatchObject({ temperature: 0.7, topK: 5 });
  expect(await defaults({ do_sample: true })).toMatchObject({ temperature: 1, topK: 0 });
  expect(await defaults({ do_sample: true, top_k: -1, min_p: 0.05 })).toMatchObject({ topK: 0, minP: 0.05 });
  // Left over from training: a request that samples has its own.
  expect(await defaults({ do_sample: false, temperature: 0.7, top_k: 5, top_p: 0.5 })).toMatchObject({
    temperature: 0,
    topK: 0,
    topP: 1,
  });
  expect(await defaults({ max_new_tokens: 64, min_new_tokens: 3, suppress_tokens: [7, -1] })).toMatchObject({
    maxTokens: 64,
    minTokens: 3,
    suppressTokenIds: [7],
  });
  expect(await defaults({ max_length: 128 })).toMatchObject({ maxTokens: 128 });
});

test('what the files ask for and is not done is said', async () => {
  const { notes } = await read({ 'generation_config.json': { num_beams: 4, no_repeat_ngram_size: 3, typical_p: 1.0 } });
  expect(notes).toEqual([
    "'num_beams' of its generation settings is not done here and left out",
    "'no_repeat_ngram_size' of its generation settings is not done here and left out",
  ]);
});

test('the chat template is the file’s before that of JSON files, and its tokens come along', async () => {
  const config = {
    chat_template: 'from the tokenizer',
    bos_token: '<s>',
    eos_token: { content: '</s>' },
    add_bos_token: true,
  };
  const all = { 'tokenizer_config.json': config, 'chat_template.json': { chat_template: 'from JSON' } };
  const jinja = await read({ ...all, 'chat_template.jinja': 'from the file' });
  expect(jinja.prompt.chatTemplate).toBe('from the file');
  expect(jinja.chatProblem).toBe('');
  expect((await read(all)).prompt.chatTemplate).toBe('from JSON');
  const { prompt } = await read({
    'tokenizer_config.json': config,
    'special_tokens_map.json': { eos_token: 'another', pad_token: '<pad>' },
  });
  expect(prompt.chatTemplate).toBe('from the tokenizer');
  expect(prompt.templateTokens).toEqual({ bos_token: '<s>', eos_token: '</s>', pad_token: '<pad>' });
  expect(prompt.tokenizerConfigJson).toBe(JSON.stringify(config));
  expect(JSON.parse(Buffer.from(prompt.tokenizerJson).toString())).toEqual(TOKENIZER);
});

test('of several chat templates it is the default one; without one conversations are not taken, and it is said why', async () => {
  const named = (...names: string[]) => ({
    'tokenizer_config.json': { chat_template: names.map((name) => ({ name, template: `is ${name}` })) },
  });
  expect((await read(named('tool_use', 'default'))).prompt.chatTemplate).toBe('is default');
  expect((await read(named('tool_use'))).prompt.chatTemplate).toBe('is tool_use');
  expect((await read(named('rag', 'tool_use'))).chatProblem).toBe("none of its chat templates is called 'default'");
  expect((await read({ 'tokenizer_config.json': {} })).chatProblem).toBe(
    'its folder has no chat template (chat_template.jinja, or chat_template in tokenizer_config.json)',
  );
});

test('conversations with tools have the template called tool_use, in whichever form templates are written', async () => {
  const templates = { default: 'plain', tool_use: 'with tools' };
  const list = Object.entries(templates).map(([name, template]) => ({ name, template }));
  const forms = [
    { 'tokenizer_config.json': { chat_template: list } },
    { 'tokenizer_config.json': { chat_template: templates } },
    { 'chat_template.json': { chat_template: templates } },
    { 'chat_template.jinja': 'plain', 'additional_chat_templates/tool_use.jinja': 'with tools' },
  ];
  for (const files of forms) {
    const { prompt, chatProblem } = await read(files);
    expect(prompt).toMatchObject({ chatTemplate: 'plain', toolTemplate: 'with tools' });
    expect(chatProblem).toBe('');
  }
  const { prompt } = await read({ ...forms[1], 'chat_template.jinja': 'alone' });
  expect(prompt.chatTemplate).toBe('alone');
  expect(prompt.toolTemplate).toBeUndefined();
});

test('files above the ONNX file count, those beside it first', async () => {
  const files = { 'config.json': { n_ctx: 100 }, 'onnx/config.json': { n_ctx: 50 }, 'chat_template.jinja': 'above' };
  const { contextLength, prompt } = await read(files, { onnx: 'onnx/model.onnx' });
  expect(contextLength).toBe(50);
  expect(prompt.chatTemplate).toBe('above');
});

const REFUSED: readonly (readonly [string, Files, string])[] = [
  [
    'a temperature that is none',
    { 'generation_config.json': { do_sample: true, temperature: -1 } },
    "'temperature' must be a number >= 0, got -1",
  ],
  [
    'a probability above 1',
    { 'generation_config.json': { do_sample: true, top_p: 1.5 } },
    "'top_p' must be a number in (0, 1], got 1.5",
  ],
  [
    'an end in words',
    { 'config.json': { eos_token_id: '</s>' } },
    "'eos_token_id' must be a number or a list of numbers",
  ],
  [
    'a length that is no number of tokens',
    { 'config.json': { n_ctx: 10.5 } },
    "'n_ctx' must be a whole number >= 1, got 10.5",
  ],
  ['no tokenizer', { 'tokenizer.json': undefined }, "unable to find file 'tokenizer.json' of model 'm'"],
  ['no decoder', { 'genai_config.json': { model: {} } }, "'model.decoder' must be an object"],
  ['a decoder in pieces', { 'genai_config.json': { model: { decoder: { pipeline: [] } } } }, 'several ONNX files'],
  [
    'a name without a place for the layer',
    { 'genai_config.json': { model: { decoder: { inputs: { past_key_names: 'past' } } } } },
    "'model.decoder.inputs.past_key_names' must be a name with '%d' for the layer, got \"past\"",
  ],
  [
    'a template that is no text',
    { 'chat_template.json': { chat_template: 5 } },
    "'chat_template' must be a string, got 5",
  ],
  [
    'a named template that is no text',
    { 'chat_template.json': { chat_template: { default: 5 } } },
    "'chat_template.default' must be a string, got 5",
  ],
];

for (const [what, files, message] of REFUSED) {
  test(`${what} is refused by file and field`, async () => {
    await expect(read({ 'config.json': {}, ...files })).rejects.toThrow(message);
  });
}
