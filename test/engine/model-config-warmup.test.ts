import { describe, expect, test } from 'vitest';
import { type InputConfig, parseModelConfig } from '../../src/engine/model-config.js';
import { warmups } from '../../src/engine/model-config-warmup.js';

const input = (name: string, dims: readonly number[], optional = false): InputConfig => ({
  name,
  datatype: 'FP32',
  dims,
  reshape: undefined,
  optional,
  allowRaggedBatch: false,
});

function read(text: string, { maxBatchSize = 4, inputs = [input('x', [3, -1])] } = {}) {
  return warmups(parseModelConfig(text, 'm').model_warmup ?? [], { model: 'm', maxBatchSize, inputs });
}

const sample = (fields: string, x = 'data_type: TYPE_FP32 dims: [ 3, 7 ] zero_data: true') =>
  `model_warmup { name: "w" ${fields} inputs { key: "x" value { ${x} } } }`;

describe('warm-up samples', () => {
  test('say what to run and how often', () => {
    expect(read(sample('batch_size: 4 count: 3'))).toEqual([
      {
        name: 'w',
        batchSize: 4,
        count: 3,
        inputs: new Map([['x', { datatype: 'FP32', dims: [3, 7], source: { kind: 'zero' } }]]),
      },
    ]);
  });

  test('run once when they give no count', () => {
    expect(read(sample('batch_size: 1'))[0]?.count).toBe(1);
    expect(read(sample('batch_size: 1 count: 0'))[0]?.count).toBe(1);
  });

  test.each([
    ['zero_data: true', { kind: 'zero' }],
    ['zero_data: false', { kind: 'zero' }],
    ['random_data: true', { kind: 'random' }],
    ['input_data_file: "x.bin"', { kind: 'file', file: 'x.bin' }],
  ])('with %s take data from %o', (source, expected) => {
    const [warmup] = read(sample('batch_size: 1', `data_type: TYPE_FP32 dims: [ 3, 1 ] ${source}`));
    expect(warmup?.inputs.get('x')?.source).toEqual(expected);
  });

  test('may leave optional inputs out', () => {
    const inputs = [input('x', [3, 7]), input('bias', [1], true)];
    expect(read(sample('batch_size: 1'), { maxBatchSize: 0, inputs })).toHaveLength(1);
  });

  const refused: [string, string, number][] = [
    [sample(''), "warmup sample 'w' of model 'm': batch_size must be in range [1, 4], got 0", 4],
    [sample('batch_size: 5'), "warmup sample 'w' of model 'm': batch_size must be in range [1, 4], got 5", 4],
    [sample('batch_size: 2'), "warmup sample 'w' of model 'm': batch_size must be in range [1, 1], got 2", 0],
    [
      'model_warmup { name: "w" batch_size: 1 }',
      "warmup sample 'w' of model 'm': expected data for every input, missing 'x'",
      4,
    ],
    [
      'model_warmup { name: "w" batch_size: 1 inputs { key: "z" value { } } }',
      "warmup sample 'w' of model 'm': input 'z' is no input of the model",
      4,
    ],
    [
      sample('batch_size: 1', 'dims: [ 3, 7 ] zero_data: true'),
      "warmup sample 'w' of model 'm': input 'x' must have data_type TYPE_FP32, got TYPE_INVALID",
      4,
    ],
    [
      sample('batch_size: 1', 'data_type: TYPE_INT8 dims: [ 3, 7 ]'),
      "warmup sample 'w' of model 'm': input 'x' must have data_type TYPE_FP32, got TYPE_INT8",
      4,
    ],
    [
      sample('batch_size: 1', 'data_type: TYPE_FP32 dims: [ 4, 7 ]'),
      "warmup sample 'w' of model 'm': input 'x' must have fully specified dims that fit [3,-1], got [4,7]",
      4,
    ],
    [
      sample('batch_size: 1', 'data_type: TYPE_FP32 dims: [ 3, -1 ]'),
      "warmup sample 'w' of model 'm': input 'x' must have fully specified dims that fit [3,-1], got [3,-1]",
      4,
    ],
    [
      sample('batch_size: 1', 'data_type: TYPE_FP32 dims: [ 1, 3, 7 ]'),
      "warmup sample 'w' of model 'm': input 'x' must have fully specified dims that fit [3,-1], got [1,3,7]",
      4,
    ],
    [
      sample('batch_size: 1', 'data_type: TYPE_FP32 dims: [ 3, 7 ]'),
      "warmup sample 'w' of model 'm': input 'x' must specify one of 'zero_data', 'random_data' and 'input_data_file'",
      4,
    ],
  ];
  test.each(refused)('refuses %s', (text, message, maxBatchSize) => {
    expect(() => read(text, { maxBatchSize })).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }));
  });
});
