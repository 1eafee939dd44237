/** What a configuration may say of a model that generates text, and what clients are told of it. */
import { expect, test } from 'vitest';
import {
  GENERATION_INPUTS,
  GENERATION_OUTPUTS,
  generationConfig,
  generationSettings,
} from '../../src/engine/generation-config.js';
import { describeModelConfig, modelMetadataTensors, parseModelConfig } from '../../src/engine/model-config.js';

const configOf = (text: string) => generationConfig(parseModelConfig(text, 'm'), 'm', 'onnx/model.onnx');
const DEFAULTS = { maxSequences: 16, kvCacheBytes: 1000, prefixCacheBytes: 100, maxSequenceLength: 0 };
const settingsOf = (text: string) => generationSettings(parseModelConfig(text, 'm'), 'm', DEFAULTS);

test('clients are told the tensors of Triton’s language model backends', () => {
  const config = configOf('instance_group { kind: KIND_CPU count: 3 }');
  const { inputs, outputs } = modelMetadataTensors(config);
  expect(inputs.map(({ name, datatype, shape }) => `${name} ${datatype} ${shape}`)).toEqual([
    'text_input BYTES 1',
    'stream BOOL 1',
    'sampling_parameters BYTES 1',
    'exclude_input_in_output BOOL 1',
    'return_finish_reason BOOL 1',
    'return_cumulative_logprob BOOL 1',
    'return_logprobs BOOL 1',
    'return_num_input_tokens BOOL 1',
    'return_num_output_tokens BOOL 1',
    'max_tokens INT32 1',
  ]);
  expect(outputs.map(({ name, datatype, shape }) => `${name} ${datatype} ${shape}`)).toEqual([
    'text_output BYTES -1',
    'finish_reason BYTES -1',
    'cumulative_logprob FP32 -1',
    'logprobs BYTES -1',
    'num_input_tokens UINT32 -1',
    'num_output_tokens UINT32 -1',
  ]);
  expect(config.inputs.filter(({ optional }) => !optional).map(({ name }) => name)).toEqual(['text_input']);
  expect(describeModelConfig(config)).toMatchObject({
    name: 'm',
    platform: 'onnxruntime_onnx',
    backend: 'onnxruntime',
    max_batch_size: 0,
    default_model_filename: 'onnx/model.onnx',
    model_transaction_policy: { decoupled: true },
  });
});

test('a configuration may list these tensors as they are, all or some', () => {
  const listed = `input { name: "text_input" data_type: TYPE_STRING dims: 1 } output { name: "text_output" data_type: TYPE_STRING dims: -1 }`;
  const { inputs, outputs } = configOf(`backend: "onnxruntime" max_batch_size: 0 ${listed}`);
  expect(inputs).toHaveLength(GENERATION_INPUTS.length);
  expect(outputs).toHaveLength(GENERATION_OUTPUTS.length);
});

const REFUSED: readonly (readonly [string, string, string])[] = [
  [
    'the decoder’s own tensors',
    'input { name: "input_ids" data_type: TYPE_INT64 dims: -1 }',
    "input 'input_ids' is none of text_input, stream, ",
  ],
  [
    'a tensor of another type',
    'input { name: "text_input" data_type: TYPE_INT64 dims: -1 }',
    "input 'text_input' is TYPE_STRING [1], not TYPE_INT64 [-1]: m generates text, leave its inputs and outputs out",
  ],
  ['an output that is none', 'output { name: "logits" data_type: TYPE_FP32 dims: -1 }', "output 'logits' is none of"],
  ['batches', 'max_batch_size: 8', "up to the parameter 'max_sequences'"],
  ['a batcher', 'dynamic_batching {}', 'max_batch_size and dynamic_batching are not for m'],
  ['a warm-up', 'model_warmup { name: "w" }', 'model_warmup not supported for m, which generates text'],
  ['a cache of responses', 'response_cache { enable: true }', "'decoupled' transaction policy"],
  ['another backend', 'backend: "vllm"', "unexpected backend 'vllm' for m"],
];

for (const [what, text, message] of REFUSED) {
  test(`a configuration with ${what} is refused`, () => {
    expect(() => configOf(text)).toThrow(message);
  });
}

test('parameters go before the server’s options', () => {
  const parameter = (key: string, value: string) => `parameters { key: "${key}" value { string_value: "${value}" } }\n`;
  expect(settingsOf('')).toEqual(DEFAULTS);
  const all =
    parameter('max_sequences', '4') +
    parameter('kv_cache_byte_size', '5000') +
    parameter('prefix_cache_byte_size', '0') +
    parameter('max_sequence_length', '128');
  expect(settingsOf(all)).toEqual({
    maxSequences: 4,
    kvCacheBytes: 5000,
    prefixCacheBytes: 0,
    maxSequenceLength: 128,
  });
  for (const wrong of ['0', '257', 'many', '-1', '1.5', ''])
    expect(() => settingsOf(parameter('max_sequences', wrong))).toThrow(
      `failed to convert max_sequences '${wrong}' to integral number in range [1, 256] for m`,
    );
});
