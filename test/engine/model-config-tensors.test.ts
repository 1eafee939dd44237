import { describe, expect, test } from 'vitest';
import { completeModelConfig, type OnnxModel } from '../../src/engine/model-complete.js';
import { type ModelConfig, type OnnxTensor, parseModelConfig } from '../../src/engine/model-config.js';

type Dims = readonly (number | string)[];

const fp32 = (name: string, dims: Dims, hasDefault = false): OnnxTensor => ({
  name,
  datatype: 'FP32',
  ortType: 'float32',
  dims,
  hasDefault,
});

const onnx = (x: Dims, y: Dims = x): OnnxModel => ({ inputs: [fp32('x', x)], outputs: [fp32('y', y)] });

function complete(text: string, model: OnnxModel): ModelConfig {
  const options = { modelName: 'm', autoComplete: true, defaultMaxBatchSize: 4 };
  return completeModelConfig(parseModelConfig(text, 'm'), model, options);
}

const input = (fields: string) => `input { name: "x" data_type: TYPE_FP32 ${fields} }`;
const output = (fields: string) => `output { name: "y" data_type: TYPE_FP32 ${fields} }`;
const mismatch = (tensor: string, text: string) => `model 'm', tensor '${tensor}': the model expects ${text}`;

describe('dimensions that fit', () => {
  // what, config's dims of x, of y, ONNX
  const table: [string, string, string, OnnxModel][] = [
    ['equal ones', 'dims: [ 3, 4 ]', 'dims: [ 3, 4 ]', onnx([3, 4])],
    ['a variable one written as such', 'dims: [ -1, 4 ]', 'dims: [ -1, 4 ]', onnx(['rows', 4])],
    ['a variable input dimension narrowed', 'dims: [ 2, 4 ]', 'dims: [ -1, 4 ]', onnx(['rows', 4])],
    [
      'a reshape to the dimensions of the model',
      'dims: 12 reshape { shape: [ 3, 4 ] }',
      'dims: 12 reshape { shape: [ 3, 4 ] }',
      onnx([3, 4]),
    ],
    ['a scalar', 'dims: 1', 'dims: 1', onnx([])],
    ['a scalar by reshape', 'dims: 1 reshape { }', 'dims: 1 reshape { shape: [ ] }', onnx([])],
  ];
  test.each(table)('%s', (_what, x, y, model) => {
    const config = complete(`max_batch_size: 0 ${input(x)} ${output(y)}`, model);
    expect(config.maxBatchSize).toBe(0);
  });

  test.each(table.slice(0, 4))('%s, behind a batch dimension', (_what, x, y, model) => {
    const batched = onnx(['N', ...model.inputs[0]!.dims], ['N', ...model.outputs[0]!.dims]);
    expect(complete(`max_batch_size: 8 ${input(x)} ${output(y)}`, batched).maxBatchSize).toBe(8);
  });

  test('the reshape is given to the engine, and for a scalar it is []', () => {
    expect(
      complete(`${input('dims: 12 reshape { shape: [ 3, 4 ] }')} ${output('dims: 1')}`, onnx([3, 4], [])),
    ).toMatchObject({
      inputs: [{ dims: [12], reshape: [3, 4] }],
      outputs: [{ dims: [1], reshape: [] }],
    });
  });

  test('labels come with the output', () => {
    const config = complete(`${input('dims: 3')} ${output('dims: 3 label_filename: "labels.txt"')}`, onnx([3]));
    expect(config.outputs[0]?.labelFilename).toBe('labels.txt');
  });
});

describe('dimensions that do not fit are refused with both shapes', () => {
  // config, ONNX, message
  const table: [string, OnnxModel, string][] = [
    [
      input('dims: [ 3, 5 ]'),
      onnx([3, 4]),
      mismatch('x', '2 dimensions (shape [3,4]) but the model configuration specifies 2 dimensions (shape [3,5])'),
    ],
    [
      input('dims: 3'),
      onnx([3, 4]),
      mismatch('x', '2 dimensions (shape [3,4]) but the model configuration specifies 1 dimensions (shape [3])'),
    ],
    [
      input('dims: [ -1, 4 ]'),
      onnx([3, 4]),
      mismatch('x', '2 dimensions (shape [3,4]) but the model configuration specifies 2 dimensions (shape [-1,4])'),
    ],
    [
      output('dims: [ 2, 4 ]'),
      onnx([3, 4], ['rows', 4]),
      mismatch('y', '2 dimensions (shape [-1,4]) but the model configuration specifies 2 dimensions (shape [2,4])'),
    ],
    [
      input('dims: 12 reshape { shape: [ 2, 6 ] }'),
      onnx([3, 4]),
      mismatch('x', '2 dimensions (shape [3,4]) but the model configuration specifies 2 dimensions (shape [2,6])'),
    ],
    [
      `max_batch_size: 8 ${input('dims: [ -1, 4 ]')}`,
      onnx(['N', 4]),
      mismatch(
        'x',
        '2 dimensions (shape [-1,4]) but the model configuration specifies 3 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making complete shape [-1,-1,4])',
      ),
    ],
    [
      `max_batch_size: 8 ${input('dims: 1')} ${output('dims: 1')}`,
      onnx(['N'], ['N']),
      mismatch(
        'x',
        '1 dimensions (shape [-1]) but the model configuration specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making complete shape [-1,1])',
      ),
    ],
    [
      input('dims: 2'),
      onnx([]),
      "unable to load model 'm', scalar tensor 'x', should only provide 1 in the model configuration when the model doesn't support batching. Model configuration provided: [2].",
    ],
  ];
  test.each(table)('%s', (text, model, message) => {
    expect(() => complete(text, model)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }));
  });
});

describe('names and types', () => {
  const TWO: OnnxModel = {
    inputs: [fp32('b', ['N', 2]), fp32('a', ['N', 2])],
    outputs: [fp32('q', ['N', 2]), fp32('p', ['N', 2])],
  };
  const tensor = (kind: string, name: string, type = 'TYPE_FP32') =>
    `${kind} { name: "${name}" data_type: ${type} dims: 2 }`;

  const refused: [string, string][] = [
    [tensor('input', 'c'), "unexpected inference input 'c', allowed inputs are: a, b"],
    [tensor('output', 'A'), "unexpected inference output 'A', allowed outputs are: p, q"],
    [
      tensor('input', 'a'),
      "unable to load model 'm', configuration expects 1 inputs, model provides 2: missing in the configuration 'b'",
    ],
    [
      `${tensor('input', 'a', 'TYPE_INT32')} ${tensor('input', 'b')}`,
      "unable to load model 'm', configuration expects datatype TYPE_INT32 for input 'a', model provides TYPE_FP32",
    ],
    [
      tensor('output', 'p', 'TYPE_STRING'),
      "unable to load model 'm', configuration expects datatype TYPE_STRING for output 'p', model provides TYPE_FP32",
    ],
  ];
  test.each(refused)('refuses %s', (text, message) => {
    expect(() => complete(text, TWO)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }));
  });

  test('outputs may be left out and are in the order of the configuration', () => {
    expect(complete(tensor('output', 'p'), TWO).outputs.map((each) => each.name)).toEqual(['p']);
    const both = `${tensor('output', 'p')} ${tensor('output', 'q')}`;
    expect(complete(both, TWO).outputs.map((each) => each.name)).toEqual(['p', 'q']);
  });
});

describe('optional inputs', () => {
  const model: OnnxModel = { inputs: [fp32('x', ['N', 2]), fp32('bias', [2], true)], outputs: [fp32('y', ['N', 2])] };
  const bias = 'input { name: "bias" data_type: TYPE_FP32 dims: 2 optional: true }';

  test('are those for which the ONNX file has a value', () => {
    const config = complete(`${input('dims: [ -1, 2 ]')} ${bias} ${output('dims: [ -1, 2 ]')}`, model);
    expect(config.inputs.map(({ name, optional }) => [name, optional])).toEqual([
      ['x', false],
      ['bias', true],
    ]);
  });

  test('are refused where the model batches', () => {
    expect(() => complete(`max_batch_size: 4 ${input('dims: 2')} ${bias} ${output('dims: 2')}`, model)).toThrow(
      "unable to load model 'm', optional input 'bias' is not supported for models that support batching",
    );
  });

  test('are refused where ONNX Runtime needs them', () => {
    expect(() => complete(`${input('dims: [ -1, 2 ] optional: true')} ${output('dims: [ -1, 2 ]')}`, model)).toThrow(
      "unable to load model 'm', input 'x' can not be optional: the ONNX model has no value for it",
    );
  });
});
