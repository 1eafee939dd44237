import { describe, expect, test } from 'vitest';
import { completeModelConfig } from '../../src/engine/model-complete.js';
import {
  describeModelConfig,
  modelFilename,
  modelMetadataTensors,
  type OnnxTensor,
  parseModelConfig,
} from '../../src/engine/model-config.js';

const vector = (name: string): OnnxTensor => ({ name, datatype: 'FP32', ortType: 'float32', dims: ['batch', 16] });
const ONNX = { inputs: [vector('x')], outputs: [vector('y')] };
const OPTIONS = { modelName: 'm', autoComplete: true, defaultMaxBatchSize: 4 };

describe('parseModelConfig', () => {
  test('keeps what is written and adds nothing', () => {
    expect(parseModelConfig('max_batch_size: 0 backend: "onnxruntime"', 'm')).toEqual({
      max_batch_size: 0,
      backend: 'onnxruntime',
    });
  });

  test('accepts the name of the directory, and none', () => {
    expect(parseModelConfig('name: "m"', 'm').name).toBe('m');
    expect(parseModelConfig('name: ""', 'm').name).toBe('');
  });

  test('refuses another name with both names', () => {
    expect(() => parseModelConfig('name: "resnet"', 'resnet50')).toThrow(
      "unexpected directory name 'resnet50' for model 'resnet', directory name must equal model name",
    );
  });

  test('reports a syntax error with model and line', () => {
    expect(() => parseModelConfig('name: "m"\nmax_batch: 3', 'm')).toThrow(
      "config.pbtxt of model 'm', line 2: inference.ModelConfig: unknown field 'max_batch'",
    );
  });
});

test('the model file is model.onnx unless the configuration says otherwise', () => {
  expect(modelFilename({})).toBe('model.onnx');
  expect(modelFilename({ default_model_filename: '' })).toBe('model.onnx');
  expect(modelFilename({ default_model_filename: 'net.onnx' })).toBe('net.onnx');
});

describe('modelMetadataTensors', () => {
  test('puts the batch dimension in front when the model batches', () => {
    expect(modelMetadataTensors(completeModelConfig({}, ONNX, OPTIONS))).toEqual({
      inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 16] }],
      outputs: [{ name: 'y', datatype: 'FP32', shape: [-1, 16] }],
    });
  });

  test('gives the whole shape when it does not', () => {
    expect(modelMetadataTensors(completeModelConfig({ max_batch_size: 0 }, ONNX, OPTIONS)).inputs).toEqual([
      { name: 'x', datatype: 'FP32', shape: [-1, 16] },
    ]);
  });
});

test('describeModelConfig gives what clients of Triton read, defaults included', () => {
  const raw = parseModelConfig('parameters { key: "k" value { string_value: "v" } }', 'm');
  const described = describeModelConfig(completeModelConfig(raw, ONNX, OPTIONS));
  expect(described).toMatchObject({
    name: 'm',
    platform: 'onnxruntime_onnx',
    backend: 'onnxruntime',
    default_model_filename: 'model.onnx',
    version_policy: { latest: { num_versions: 1 } },
    max_batch_size: 4,
    input: [{ name: 'x', data_type: 'TYPE_FP32', format: 'FORMAT_NONE', dims: [16], optional: false }],
    output: [{ name: 'y', data_type: 'TYPE_FP32', dims: [16], label_filename: '' }],
    instance_group: [{ name: 'm_0', kind: 'KIND_AUTO', count: 1, gpus: [], passive: false }],
    dynamic_batching: { preferred_batch_size: [4], max_queue_delay_microseconds: 0 },
    parameters: { k: { string_value: 'v' } },
    runtime: '',
  });
  // What is printed can be printed as JSON and read again.
  expect(JSON.parse(JSON.stringify(described))).toEqual(described);
});
