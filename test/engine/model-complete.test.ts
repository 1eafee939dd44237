import { describe, expect, test } from 'vitest';
import { completeModelConfig, type OnnxModel, versionPolicyOf } from '../../src/engine/model-complete.js';
import { type ModelConfig, type OnnxTensor, parseModelConfig } from '../../src/engine/model-config.js';

type Dims = readonly (number | string)[];

const fp32 = (name: string, dims: Dims): OnnxTensor => ({ name, datatype: 'FP32', ortType: 'float32', dims });
const int64 = (name: string, dims: Dims): OnnxTensor => ({ name, datatype: 'INT64', ortType: 'int64', dims });

/** A model x -> y of these shapes. */
const onnx = (x: Dims, y: Dims = x): OnnxModel => ({ inputs: [fp32('x', x)], outputs: [fp32('y', y)] });

const BATCHING = onnx(['N', 16], ['N', 4]);
const FIXED = onnx([1, 16], [1, 4]);

interface Overrides {
  readonly autoComplete?: boolean;
  readonly defaultMaxBatchSize?: number;
  readonly defaultInstanceCount?: number;
}

function complete(text: string, model: OnnxModel = BATCHING, overrides: Overrides = {}): ModelConfig {
  const options = { modelName: 'm', autoComplete: true, defaultMaxBatchSize: 4, ...overrides };
  return completeModelConfig(parseModelConfig(text, 'm'), model, options);
}

const IO = (x: string, y: string) => `
  input [ { name: "x" data_type: TYPE_FP32 dims: ${x} } ]
  output [ { name: "y" data_type: TYPE_FP32 dims: ${y} } ]`;

describe('batching', () => {
  // config, model, default-max-batch-size -> max_batch_size, preferred sizes (undefined = no dynamic batching)
  const table: [string, string, OnnxModel, number, number, number[] | undefined][] = [
    ['no config, symbolic first dimensions', '', BATCHING, 4, 4, [4]],
    ['no config, other default', '', BATCHING, 16, 16, [16]],
    ['no config, default 1', '', BATCHING, 1, 1, undefined],
    ['no config, default 0', '', BATCHING, 0, 0, undefined],
    ['no config, fixed first dimensions', '', FIXED, 4, 0, undefined],
    ['no config, one fixed output', '', onnx(['N', 16], [1]), 4, 0, undefined],
    ['no config, a scalar output', '', onnx(['N', 16], []), 4, 0, undefined],
    ['an unnamed symbol', '', onnx(['', 16]), 4, 4, [4]],
    ['max_batch_size alone', 'max_batch_size: 8', BATCHING, 4, 8, [8]],
    ['max_batch_size 1', 'max_batch_size: 1', BATCHING, 4, 1, undefined],
    ['an explicit 0', 'max_batch_size: 0', BATCHING, 4, 0, undefined],
    ['all tensors listed', IO('[ -1, 16 ]', '[ -1, 4 ]'), BATCHING, 4, 0, undefined],
    ['all tensors listed and max_batch_size', `max_batch_size: 8 ${IO('[ 16 ]', '[ 4 ]')}`, BATCHING, 4, 8, undefined],
    [
      'all listed, max_batch_size and batching',
      `max_batch_size: 8 dynamic_batching { } ${IO('16', '4')}`,
      BATCHING,
      4,
      8,
      [8],
    ],
    ['input listed without batch dimension', 'input { name: "x" data_type: TYPE_FP32 dims: 16 }', BATCHING, 4, 4, [4]],
    [
      'input listed with all dimensions',
      'input { name: "x" data_type: TYPE_FP32 dims: [ -1, 16 ] }',
      BATCHING,
      4,
      0,
      undefined,
    ],
    ['output listed without batch dimension', 'output { name: "y" data_type: TYPE_FP32 dims: 4 }', BATCHING, 4, 4, [4]],
    ['batching written, no max', 'dynamic_batching { max_queue_delay_microseconds: 5 }', BATCHING, 4, 4, [4]],
    ['batching written for a model without', 'dynamic_batching { }', FIXED, 4, 0, []],
    [
      'preferred sizes',
      'max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 8, 2, 8 ] }',
      BATCHING,
      4,
      8,
      [2, 8],
    ],
  ];
  test.each(table)('%s', (_what, text, model, defaultMaxBatchSize, maxBatchSize, preferred) => {
    const config = complete(text, model, { defaultMaxBatchSize });
    expect(config.maxBatchSize).toBe(maxBatchSize);
    expect(config.dynamicBatching?.preferredBatchSizes).toEqual(preferred);
    expect(config.raw.max_batch_size).toBe(maxBatchSize);
    expect(config.raw.dynamic_batching?.preferred_batch_size).toEqual(preferred);
  });

  test('an unlisted output that can not be batched does not hinder batching', () => {
    const model = { inputs: [fp32('x', ['N', 16])], outputs: [fp32('y', ['N', 4]), fp32('loss', [])] };
    const text = 'output { name: "y" data_type: TYPE_FP32 dims: 4 }';
    expect(complete(text, model).maxBatchSize).toBe(4);
    expect(complete('', model).maxBatchSize).toBe(0);
  });

  test('without auto-completion nothing is added', () => {
    const config = complete(IO('[ -1, 16 ]', '[ -1, 4 ]'), BATCHING, { autoComplete: false });
    expect(config.maxBatchSize).toBe(0);
    expect(config.dynamicBatching).toBeUndefined();
    expect(() => complete('', BATCHING, { autoComplete: false })).toThrow(
      "unable to load model 'm', configuration expects 0 inputs, model provides 1: missing in the configuration 'x'",
    );
    const inputOnly = 'input { name: "x" data_type: TYPE_FP32 dims: [ -1, 16 ] }';
    expect(() => complete(inputOnly, BATCHING, { autoComplete: false })).toThrow(
      "model configuration must specify at least one 'output' for m",
    );
  });

  test('max_batch_size for a model that can not batch is refused with tensor and shape', () => {
    const message =
      "model 'm', tensor 'x': for the model to support batching the shape should have at least 1 dimension and the first " +
      'dimension must be -1; but shape expected by the model is [1,16]';
    expect(() => complete('max_batch_size: 8', FIXED)).toThrow(message);
    expect(() => complete(`max_batch_size: 8 ${IO('[ 16 ]', '[ 4 ]')}`, FIXED)).toThrow(message);
    expect(() => complete(`max_batch_size: 8 ${IO('[ 16 ]', '[ 4 ]')}`, onnx(['N', 16], []))).toThrow(
      "tensor 'y': for the model to support batching the shape should have at least 1 dimension and the first dimension must be -1; but shape expected by the model is []",
    );
  });
});

describe('tensors from the ONNX file', () => {
  test('lose the batch dimension and turn symbols into -1', () => {
    const { inputs, raw } = complete('', onnx(['N', 3, 'height', 'width'], ['N']));
    expect(inputs).toEqual([
      { name: 'x', datatype: 'FP32', dims: [3, -1, -1], reshape: undefined, optional: false, allowRaggedBatch: false },
    ]);
    expect(raw.input).toEqual([{ name: 'x', data_type: 'TYPE_FP32', dims: [3, -1, -1] }]);
  });

  test('of which nothing is left without the batch dimension are [1] reshaped to []', () => {
    const { outputs, raw } = complete('', onnx(['N', 3], ['N']));
    expect(outputs[0]).toMatchObject({ dims: [1], reshape: [] });
    expect(raw.output).toEqual([{ name: 'y', data_type: 'TYPE_FP32', dims: [1], reshape: { shape: [] } }]);
  });

  test('that are scalars are [1] for clients and [] for the model', () => {
    const { inputs, raw } = complete('', onnx([], [2]));
    expect(inputs[0]).toMatchObject({ dims: [1], reshape: [] });
    expect(raw.input).toEqual([{ name: 'x', data_type: 'TYPE_FP32', dims: [1] }]);
  });

  test('keep their order and their types', () => {
    const model = {
      inputs: [
        int64('b', ['N', 1]),
        fp32('a', ['N', 1]),
        { name: 's', datatype: 'BYTES' as const, ortType: 'string', dims: ['N', 1] },
      ],
      outputs: [fp32('y', ['N', 1])],
    };
    expect(complete('', model).inputs.map(({ name, datatype }) => [name, datatype])).toEqual([
      ['b', 'INT64'],
      ['a', 'FP32'],
      ['s', 'BYTES'],
    ]);
    expect(complete('', model).raw.input?.[2]?.data_type).toBe('TYPE_STRING');
  });

  test('that have a value in the file are not asked of clients', () => {
    const model = {
      inputs: [fp32('x', ['N', 2]), { ...fp32('bias', [2]), hasDefault: true }],
      outputs: [fp32('y', ['N', 2])],
    };
    const config = complete('', model);
    expect(config.inputs.map((input) => input.name)).toEqual(['x']);
    expect(config.maxBatchSize).toBe(4);
  });

  test('of a type without a datatype are refused by name and type', () => {
    const bf16 = { name: 'x', datatype: undefined, ortType: 'bfloat16', dims: ['N', 2] };
    expect(() => complete('', { inputs: [bf16], outputs: [fp32('y', ['N', 2])] })).toThrow(
      "unable to load model 'm', input 'x' has ONNX type 'bfloat16', which is not supported",
    );
  });

  test('of such a type are no matter when they are outputs that the configuration leaves out', () => {
    const model = {
      inputs: [fp32('x', ['N', 2])],
      outputs: [int64('label', ['N']), { name: 'probabilities', datatype: undefined, ortType: 'sequence', dims: [] }],
    };
    expect(() => complete('', model)).toThrow(
      "unable to load model 'm', output 'probabilities' has ONNX type 'sequence', which is not supported; list only the other outputs in config.pbtxt to serve the model without it",
    );
    const text = 'output { name: "label" data_type: TYPE_INT64 dims: 1 reshape { shape: [ ] } }';
    expect(complete(text, model).outputs.map((output) => output.name)).toEqual(['label']);
  });
});

describe('normalisation', () => {
  test('fills in name, platform, backend, file, version policy and one instance group', () => {
    expect(complete('')).toMatchObject({
      name: 'm',
      platform: 'onnxruntime_onnx',
      backend: 'onnxruntime',
      defaultModelFilename: 'model.onnx',
      versionPolicy: { kind: 'latest', count: 1 },
      instanceGroups: [{ name: 'm_0', kind: 'KIND_AUTO', count: 1, gpus: [] }],
      graphOptimizationLevel: 'all',
      executionAccelerators: { gpu: [], cpu: [] },
      sessionSettings: { configEntries: {}, runEntries: {} },
      warmup: [],
      metricTags: {},
      responseCache: false,
      decoupled: false,
    });
  });

  test('keeps what is written', () => {
    const config = complete(
      `
      name: "m" backend: "onnxruntime" platform: "onnxruntime_onnx" default_model_filename: "net.onnx"
      version_policy { specific { versions: [ 3, 1, 3 ] } }
      instance_group [ { count: 3 kind: KIND_CPU }, { name: "gpu" kind: KIND_GPU gpus: [ 0, 1 ] host_policy: "p" } ]
      metric_tags { key: "team" value: "vision" }
      response_cache { enable: true }`,
      BATCHING,
      { defaultInstanceCount: 2 },
    );
    expect(config).toMatchObject({
      defaultModelFilename: 'net.onnx',
      versionPolicy: { kind: 'specific', versions: [1, 3] },
      instanceGroups: [
        { name: 'm_0', kind: 'KIND_CPU', count: 3, gpus: [] },
        { name: 'gpu', kind: 'KIND_GPU', count: 2, gpus: [0, 1] },
      ],
      metricTags: { team: 'vision' },
      responseCache: true,
    });
    expect(config.raw.instance_group?.[1]).toMatchObject({ name: 'gpu', host_policy: 'p', count: 2 });
  });

  test('a decoupled model is one by its flag', () => {
    expect(complete('model_transaction_policy { decoupled: true }').decoupled).toBe(true);
  });

  test('queue policies are complete, those of levels by number', () => {
    const config = complete(`dynamic_batching {
      max_queue_delay_microseconds: 100 priority_levels: 3 default_priority_level: 2
      default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 7 }
      priority_queue_policy { key: 1 value { allow_timeout_override: true max_queue_size: 9 } } }`);
    expect(config.dynamicBatching).toEqual({
      preferredBatchSizes: [4],
      maxQueueDelayUs: 100,
      preserveOrdering: false,
      priorityLevels: 3,
      defaultPriorityLevel: 2,
      defaultQueuePolicy: { timeoutAction: 'DELAY', defaultTimeoutUs: 7, allowTimeoutOverride: false, maxQueueSize: 0 },
      priorityQueuePolicy: new Map([
        [1, { timeoutAction: 'REJECT', defaultTimeoutUs: 0, allowTimeoutOverride: true, maxQueueSize: 9 }],
      ]),
    });
  });

  test('priorities without levels are ignored, as in Triton', () => {
    const batching = complete(
      'dynamic_batching { default_priority_level: 2 priority_queue_policy { key: 9 value { } } }',
    ).dynamicBatching;
    expect(batching).toMatchObject({ priorityLevels: 0, defaultPriorityLevel: 0, priorityQueuePolicy: new Map() });
  });

  test('does not change what it is given, and completes its own result to the same', () => {
    const raw = parseModelConfig('max_batch_size: 8', 'm');
    const before = structuredClone(raw);
    const options = { modelName: 'm', autoComplete: true, defaultMaxBatchSize: 4 };
    const once = completeModelConfig(raw, BATCHING, options);
    expect(raw).toEqual(before);
    expect(completeModelConfig(once.raw, BATCHING, options)).toEqual(once);
  });
});

test('versionPolicyOf reads the policy before any version is loaded', () => {
  const policy = (text: string) => versionPolicyOf(parseModelConfig(text, 'm'), 'm');
  expect(policy('')).toEqual({ kind: 'latest', count: 1 });
  expect(policy('version_policy { latest { num_versions: 3 } }')).toEqual({ kind: 'latest', count: 3 });
  expect(policy('version_policy { all { } }')).toEqual({ kind: 'all' });
  expect(() => policy('version_policy { specific { } }')).toThrow(
    'version_policy specific must list at least one version for m',
  );
});
