import { expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import { NO_PARAMETERS } from '../../src/client/answer.js';
import { generatedText, generateTensors } from '../../src/client/grpc-generate.js';
import type { ModelMetadata, ParameterValue } from '../../src/client/types.js';

function metadata(inputs: Record<string, Datatype>, shape: number[]): ModelMetadata {
  const listed = Object.entries(inputs).map(([name, datatype]) => ({ name, datatype, shape }));
  return { name: 'm', versions: ['1'], platform: '', inputs: listed, outputs: [] };
}

const VLLM = metadata(
  { text_input: 'BYTES', stream: 'BOOL', sampling_parameters: 'BYTES', exclude_input_in_output: 'BOOL' },
  [1],
);
const TRT_LLM = metadata(
  {
    text_input: 'BYTES',
    max_tokens: 'INT32',
    temperature: 'FP32',
    random_seed: 'UINT64',
    stop_words: 'BYTES',
    stream: 'BOOL',
  },
  [-1, 1],
);

function tensors(model: ModelMetadata | undefined, parameters?: Record<string, ParameterValue>, isStream = true) {
  const request = generateTensors({ model: 'm', text: 'Hi', ...(parameters && { parameters }) }, model, isStream);
  return {
    ...Object.fromEntries(request.inputs.map(({ name, datatype, shape, data }) => [name, [datatype, shape, ...data]])),
    parameters: request.parameters,
  };
}

test('a model that takes sampling as JSON gets it so', () => {
  expect(tensors(VLLM, { max_tokens: 5, temperature: 0.5, seed: 2n ** 63n, stop: 'a"b' })).toEqual({
    text_input: ['BYTES', [1], 'Hi'],
    stream: ['BOOL', [1], 1],
    exclude_input_in_output: ['BOOL', [1], 1],
    sampling_parameters: ['BYTES', [1], '{"max_tokens":5,"temperature":0.5,"seed":9223372036854775808,"stop":"a\\"b"}'],
    parameters: {},
  });
});

test('a model that takes sampling as tensors gets them, in batches of one where it batches', () => {
  expect(
    tensors(TRT_LLM, { max_tokens: 5, temperature: 1, random_seed: 7, stop_words: 'end', top_p: 0.9 }, false),
  ).toEqual({
    text_input: ['BYTES', [1, 1], 'Hi'],
    stream: ['BOOL', [1, 1], 0],
    max_tokens: ['INT32', [1, 1], 5],
    temperature: ['FP32', [1, 1], 1],
    random_seed: ['UINT64', [1, 1], 7n],
    stop_words: ['BYTES', [1, 1], 'end'],
    // What it does not list can only be a parameter of the request.
    parameters: { top_p: 0.9 },
  });
});

test('without metadata sampling travels as JSON, and nothing where there is none', () => {
  expect(tensors(undefined)).toEqual({ text_input: ['BYTES', [1], 'Hi'], stream: ['BOOL', [1], 1], parameters: {} });
  expect(tensors(undefined, { max_tokens: 5 })).toMatchObject({
    sampling_parameters: ['BYTES', [1], '{"max_tokens":5}'],
  });
});

test('the caller has the last word on what is set for him, and may give JSON of his own', () => {
  expect(tensors(VLLM, { stream: false, exclude_input_in_output: false, sampling_parameters: '{"n":1}' })).toEqual({
    text_input: ['BYTES', [1], 'Hi'],
    stream: ['BOOL', [1], 0],
    exclude_input_in_output: ['BOOL', [1], 0],
    sampling_parameters: ['BYTES', [1], '{"n":1}'],
    parameters: {},
  });
});

test.each<[Record<string, ParameterValue>, string]>([
  [{ max_tokens: 'many' }, 'parameter \'max_tokens\' is "many", the model takes INT32'],
  [{ max_tokens: 1.5 }, 'parameter \'max_tokens\' is "1.5", the model takes INT32'],
  [{ stream: 1 }, 'parameter \'stream\' is "1", the model takes BOOL'],
])('a parameter that its tensor can not hold is refused: %#', (parameters, message) => {
  expect(() => tensors(TRT_LLM, parameters)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', local: true, message }),
  );
});

test('the text of an answer is all of its output, and an answer of other things has none', () => {
  const answer = (outputs: Parameters<typeof generatedText>[0]['outputs']) => ({
    model: 'm',
    version: '1',
    id: '',
    parameters: NO_PARAMETERS,
    outputs,
  });
  const text = {
    name: 'text_output',
    datatype: 'BYTES',
    shape: [2],
    data: [Buffer.from('a é'), Buffer.from('b')],
  } as const;
  expect(generatedText(answer([text]))).toBe('a éb');
  expect(generatedText(answer([]))).toBe('');
  expect(() => generatedText(answer([{ ...text, name: 'y' }]))).toThrow("no output 'text_output', there are: 'y'");
  expect(() => generatedText(answer([{ ...text, datatype: 'FP32', shape: [1], data: new Float32Array(1) }]))).toThrow(
    "output 'text_output' is FP32, expected BYTES",
  );
});
