import { describe, expect, test } from 'vitest';
import { completeModelConfig } from '../../src/engine/model-complete.js';
import { type ModelConfig, type OnnxTensor, parseModelConfig } from '../../src/engine/model-config.js';

const tensor = (name: string): OnnxTensor => ({ name, datatype: 'FP32', ortType: 'float32', dims: ['N', 3, 4] });
const ONNX = { inputs: [tensor('x')], outputs: [tensor('y')] };

function complete(text: string): ModelConfig {
  return completeModelConfig(parseModelConfig(text, 'm'), ONNX, {
    modelName: 'm',
    autoComplete: true,
    defaultMaxBatchSize: 8,
  });
}

const x = (fields: string) => `input { name: "x" data_type: TYPE_FP32 ${fields} }`;
const batching = (fields: string) => `max_batch_size: 8 dynamic_batching { ${fields} }`;

/** Configurations that are refused, with the whole message. */
const REFUSED: Record<string, [text: string, message: string][]> = {
  'platform and backend': [
    ['backend: "python"', "unexpected backend 'python' for m, this server runs ONNX models ('onnxruntime')"],
    [
      'backend: "tensorrt" platform: "tensorrt_plan"',
      "unexpected backend 'tensorrt' for m, this server runs ONNX models ('onnxruntime')",
    ],
    [
      'platform: "pytorch_libtorch"',
      "unexpected platform type 'pytorch_libtorch' for m, this server runs ONNX models ('onnxruntime_onnx')",
    ],
    [
      'backend: "onnxruntime" platform: "tensorrt_plan"',
      "unexpected 'platform' and 'backend' pair, got:tensorrt_plan, onnxruntime for m",
    ],
  ],
  'what this server does not do': [
    ['platform: "ensemble"', 'ensemble scheduling not supported for m'],
    ['ensemble_scheduling { step [ { model_name: "a" } ] }', 'ensemble scheduling not supported for m'],
    ['sequence_batching { }', 'sequence batching not supported for m'],
    ['batch_input [ { target_name: "b" } ]', 'batch_input not supported for m'],
    ['batch_output [ { target_name: "b" } ]', 'batch_output not supported for m'],
    ['model_repository_agents { agents [ { name: "checksum" } ] }', 'model_repository_agents not supported for m'],
    [
      'model_operations { op_library_filename: "ops.so" }',
      'custom operation libraries (model_operations) not supported for m',
    ],
    [x('dims: [ 3, 4 ] allow_ragged_batch: true'), "allow_ragged_batch of input 'x' not supported for m"],
  ],
  tensors: [
    ['input { data_type: TYPE_FP32 dims: 1 }', "model input must specify 'name' for m"],
    ['output { data_type: TYPE_FP32 dims: 1 }', "model output must specify 'name' for m"],
    ['input { name: "x" dims: 1 }', "model input 'x' must specify 'data_type' for m"],
    ['output { name: "y" data_type: TYPE_INVALID dims: 1 }', "model output 'y' must specify 'data_type' for m"],
    [x(''), "model input 'x' must specify 'dims' for m"],
    [x('dims: [ ]'), "model input 'x' must specify 'dims' for m"],
    [
      x('dims: [ 0, 4 ]'),
      "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for m",
    ],
    [
      x('dims: [ -2, 4 ]'),
      "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for m",
    ],
    [
      x('dims: [ 9223372036854775807 ]'),
      "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for m",
    ],
    [
      x('dims: 12 reshape { shape: [ 0 ] }'),
      "model input 'x' reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension for m",
    ],
    [x('dims: 12 reshape { shape: [ 3, 5 ] }'), "model input 'x' has different size for dims and reshape for m"],
    [x('dims: 12 reshape { }'), "model input 'x' has different size for dims and reshape for m"],
    [x('dims: 12 reshape { shape: [ -1 ] }'), "model input 'x' has different size for dims and reshape for m"],
    [
      x('dims: [ 2, -1, 3 ] reshape { shape: [ 3, -1, 2 ] }'),
      "model input 'x' has different size for dims and reshape for m",
    ],
    [
      x('dims: [ -1 ] reshape { shape: [ -1, -1 ] }'),
      "model input 'x' has different number of variable-size dimensions for dims and reshape for m",
    ],
    [
      x('dims: [ 4611686018427387904, 4 ] reshape { shape: [ 1 ] }'),
      "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for m",
    ],
    [x('dims: [ 3, 4 ] format: FORMAT_NHWC'), 'model input NHWC/NCHW require 3 dims for m'],
    [x('dims: [ 3, 4 ] is_shape_tensor: true'), 'shape tensors are only supported for TensorRT platform for m'],
    [
      x('dims: [ 3, 4 ] is_non_linear_format_io: true'),
      'Non-linear IO format is only supported for the TensorRT platform for m',
    ],
    [`${x('dims: [ 3, 4 ]')} ${x('dims: [ 3, 4 ]')}`, "model input 'x' is specified more than once for m"],
  ],
  batching: [
    ['max_batch_size: -1', "'max_batch_size' must be non-negative value for m"],
    [batching('preferred_batch_size: [ 4, 0 ]'), 'dynamic batching preferred size must be positive for m'],
    [batching('preferred_batch_size: [ -4 ]'), 'dynamic batching preferred size must be positive for m'],
    [batching('preferred_batch_size: [ 8, 9 ]'), 'dynamic batching preferred size must be <= max batch size for m'],
    [
      'max_batch_size: 0 dynamic_batching { preferred_batch_size: 1 }',
      'dynamic batching preferred size must be <= max batch size for m',
    ],
    [batching('priority_levels: 3'), 'default priority level must be in range [1, 3] for m'],
    [batching('priority_levels: 3 default_priority_level: 4'), 'default priority level must be in range [1, 3] for m'],
    [batching('priority_levels: 257 default_priority_level: 1'), 'priority_levels must be at most 256 for m, got 257'],
    [
      batching('priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value { } }'),
      'priority queue policy must have priority level in range [1, 2] for m',
    ],
    [
      batching('priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 0 value { } }'),
      'priority queue policy must have priority level in range [1, 2] for m',
    ],
    [
      batching('preserve_ordering: true priority_levels: 2 default_priority_level: 1'),
      "Only one priority level is allowed when 'preserve_ordering' is true for m",
    ],
    [
      batching(
        'preserve_ordering: true default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 }',
      ),
      "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m",
    ],
    [
      batching(
        'preserve_ordering: true priority_levels: 1 default_priority_level: 1 priority_queue_policy { key: 1 value { timeout_action: DELAY default_timeout_microseconds: 1 } }',
      ),
      "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m",
    ],
  ],
  'instance groups': [
    [
      'instance_group { kind: KIND_CPU gpus: 0 }',
      'instance group m_0 of model m has kind KIND_CPU but specifies one or more GPUs',
    ],
    [
      'instance_group [ { }, { name: "b" kind: KIND_MODEL gpus: [ 0 ] } ]',
      'instance group b of model m has kind KIND_MODEL but specifies one or more GPUs',
    ],
    [
      'instance_group { kind: KIND_GPU gpus: [ 0, -1 ] }',
      'instance group m_0 of model m specifies invalid or unsupported gpu id -1',
    ],
    ['instance_group { count: -1 }', 'instance group m_0 of model m must have a non-negative count, got -1'],
    [
      'instance_group { profile: "1" }',
      'instance group m_0 of model m specifies profile field which is only supported for TensorRT models',
    ],
    ['instance_group { passive: true }', 'instance group m_0 of model m is passive, which is not supported'],
  ],
  versions: [
    [
      'version_policy { latest { num_versions: 0 } }',
      'version_policy latest must have num_versions of at least 1 for m',
    ],
    ['version_policy { specific { versions: [ ] } }', 'version_policy specific must list at least one version for m'],
    [
      'version_policy { specific { versions: [ 1, 0 ] } }',
      'version_policy specific must list integers >= 1 for m, got 0',
    ],
    [
      'version_policy { specific { versions: [ -3 ] } }',
      'version_policy specific must list integers >= 1 for m, got -3',
    ],
  ],
  'response cache': [
    [
      'response_cache { enable: true } model_transaction_policy { decoupled: true }',
      "Response Cache does not currently support model m with 'decoupled' transaction policy. Please disable the response cache.",
    ],
  ],
};

for (const [group, table] of Object.entries(REFUSED)) {
  describe(group, () => {
    test.each(table)('refuses %s', (text, message) => {
      expect(() => complete(text)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }));
    });
  });
}

describe('at the bounds', () => {
  const accepted: string[] = [
    'backend: "onnxruntime"',
    'platform: "onnxruntime_onnx"',
    'max_batch_size: 2147483647',
    batching('preferred_batch_size: [ 1, 8 ]'),
    batching('priority_levels: 1 default_priority_level: 1'),
    batching('priority_levels: 256 default_priority_level: 256 priority_queue_policy { key: 256 value { } }'),
    batching('preserve_ordering: true priority_levels: 1 default_priority_level: 1'),
    batching('preserve_ordering: true default_queue_policy { timeout_action: DELAY }'),
    batching('preserve_ordering: true default_queue_policy { default_timeout_microseconds: 1 }'),
    'instance_group { kind: KIND_GPU gpus: [ 7 ] }',
    'instance_group { kind: KIND_CPU count: 0 }',
    'version_policy { latest { } }',
    'version_policy { specific { versions: 1 } }',
    'response_cache { enable: true }',
    'runtime: "libtriton_onnxruntime.so"',
    x('dims: [ 12 ] reshape { shape: [ 3, 4 ] }'),
    x('dims: [ 3, 4, 1 ] format: FORMAT_NHWC reshape { shape: [ 3, 4 ] }'),
    'output { name: "y" data_type: TYPE_FP32 dims: [ 3, 4 ] label_filename: "labels.txt" }',
  ];
  test.each(accepted)('accepts %s', (text) => {
    expect(complete(text).name).toBe('m');
  });
});
