import { describe, expect, test } from 'vitest';
import { ServeError } from '../../src/base/errors.js';
import { parsePbtxt, withDefaults } from '../../src/base/pbtxt.js';

function failure(text: string): ServeError {
  try {
    parsePbtxt(text);
  } catch (error) {
    if (error instanceof ServeError) return error;
    throw error;
  }
  throw new Error(`parsed: ${text}`);
}

describe('parsePbtxt', () => {
  const accepted: [what: string, text: string, expected: Record<string, unknown>][] = [
    ['an empty text', '', {}],
    ['a text of comments', '# nothing\n  # here', {}],
    ['a scalar', 'name: "resnet"', { name: 'resnet' }],
    ['single quotes and joined strings', 'platform: \'onnx\' "runtime_onnx"', { platform: 'onnxruntime_onnx' }],
    ['a comment behind a field', 'max_batch_size: 8 # images', { max_batch_size: 8 }],
    ['a hash inside a string', 'name: "a#b"', { name: 'a#b' }],
    [
      'Windows line ends and a byte order mark',
      '\uFEFFname: "a"\r\nmax_batch_size: 2\r\n',
      { name: 'a', max_batch_size: 2 },
    ],
    [
      'separators between fields',
      'name: "a", max_batch_size: 2; backend: "b",',
      { name: 'a', max_batch_size: 2, backend: 'b' },
    ],
    ['an explicit zero, which stays', 'max_batch_size: 0', { max_batch_size: 0 }],
    ['a message without a colon', 'dynamic_batching { }', { dynamic_batching: {} }],
    ['a message with a colon', 'dynamic_batching: { }', { dynamic_batching: {} }],
    [
      'a message in angle brackets',
      'dynamic_batching <preserve_ordering: true>',
      { dynamic_batching: { preserve_ordering: true } },
    ],
    ['a list of messages', 'input [ { name: "x" }, { name: "y" } ]', { input: [{ name: 'x' }, { name: 'y' }] }],
    ['a list of messages with a colon', 'input: [ { name: "x" } ]', { input: [{ name: 'x' }] }],
    ['repeated messages', 'input { name: "x" } input { name: "y" }', { input: [{ name: 'x' }, { name: 'y' }] }],
    ['a list of numbers', 'input { dims: [ 3, -1, 224 ] }', { input: [{ dims: [3, -1, 224] }] }],
    ['repeated numbers', 'input { dims: 3 dims: -1 }', { input: [{ dims: [3, -1] }] }],
    ['an empty list', 'input { reshape { shape: [ ] } }', { input: [{ reshape: {} }] }],
    [
      'an enum by label',
      'input { data_type: TYPE_FP32 format: FORMAT_NCHW }',
      { input: [{ data_type: 'TYPE_FP32', format: 'FORMAT_NCHW' }] },
    ],
    ['an enum by number', 'instance_group { kind: 2 }', { instance_group: [{ kind: 'KIND_CPU' }] }],
    [
      'a 64-bit integer',
      'version_policy { specific { versions: [ 9007199254740991 ] } }',
      { version_policy: { specific: { versions: [9007199254740991] } } },
    ],
    ['an empty oneof member', 'version_policy: { all { } }', { version_policy: { all: {} } }],
    ['escapes', 'name: "a\\tb\\"c\\\\d\\x41\\102\\u00e9"', { name: 'a\tb"c\\dAB\u00e9' }],
    [
      'a map',
      'parameters: { key: "k" value: { string_value: "v" } } parameters { key: "l" value { string_value: "" } }',
      { parameters: { k: { string_value: 'v' }, l: { string_value: '' } } },
    ],
    [
      'a map with number keys',
      'dynamic_batching { priority_queue_policy { key: 2 value { timeout_action: DELAY } } }',
      { dynamic_batching: { priority_queue_policy: { 2: { timeout_action: 'DELAY' } } } },
    ],
    [
      'booleans in all spellings',
      'response_cache { enable: True } model_transaction_policy { decoupled: f }',
      { response_cache: { enable: true }, model_transaction_policy: { decoupled: false } },
    ],
  ];
  test.each(accepted)('reads %s', (_what, text, expected) => {
    expect(parsePbtxt(text)).toEqual(expected);
  });

  test('reads every field group of a full configuration', () => {
    const config = parsePbtxt(`
      # A configuration as people write them.
      name: "densenet_onnx"
      platform: "onnxruntime_onnx"
      max_batch_size : 32
      input [
        {
          name: "data_0"
          data_type: TYPE_FP32
          format: FORMAT_NCHW
          dims: [ 3, 224, 224 ]
          reshape { shape: [ 1, 3, 224, 224 ] }
        }
      ]
      output [
        {
          name: "fc6_1"
          data_type: TYPE_FP32
          dims: [ 1000 ]
          label_filename: "densenet_labels.txt"
        }
      ]
      version_policy: { latest { num_versions: 2 } }
      instance_group [ { name: "first" count: 2 kind: KIND_GPU gpus: [ 0, 1 ] } ]
      dynamic_batching {
        preferred_batch_size: [ 4, 8 ]
        max_queue_delay_microseconds: 100
        priority_levels: 2
        default_priority_level: 1
        default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 5000 allow_timeout_override: true max_queue_size: 16 }
      }
      optimization {
        graph { level: 1 }
        execution_accelerators { gpu_execution_accelerator : [ { name : "tensorrt" parameters { key: "precision_mode" value: "FP16" } } ] }
        cuda { graphs: true graph_spec { batch_size: 1 input { key: "data_0" value { dim: [ 3 ] } } } }
      }
      parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
      model_warmup [ { name: "w" batch_size: 1 inputs { key: "data_0" value: { data_type: TYPE_FP32 dims: [ 3, 224, 224 ] random_data: true } } } ]
      metric_tags { key: "team" value: "vision" }
      model_metrics { metric_control: [ { metric_identifier: { family: "f" } histogram_options: { buckets: [ 1, 2.5, 1e3 ] } } ] }
      model_repository_agents { agents [ { name: "checksum" } ] }
    `);
    expect(config).toMatchObject({
      name: 'densenet_onnx',
      max_batch_size: 32,
      input: [{ reshape: { shape: [1, 3, 224, 224] } }],
      output: [{ label_filename: 'densenet_labels.txt' }],
      instance_group: [{ name: 'first', count: 2, kind: 'KIND_GPU', gpus: [0, 1] }],
      optimization: {
        execution_accelerators: {
          gpu_execution_accelerator: [{ name: 'tensorrt', parameters: { precision_mode: 'FP16' } }],
        },
      },
      metric_tags: { team: 'vision' },
      model_metrics: { metric_control: [{ histogram_options: { buckets: [1, 2.5, 1000] } }] },
    });
  });

  const refused: [text: string, message: string][] = [
    ['nam: "a"', "line 1: inference.ModelConfig: unknown field 'nam'"],
    ['input [\n  {\n    dim: [ 1 ]\n  }\n]', "line 3: inference.ModelInput: unknown field 'dim'"],
    ['input [\n  {\n    name: "x"\n    dims: [ a ]\n  }\n]', 'line 4: integer value expected'],
    ['input {\n dims: [ 1, ]\n}', 'line 2: integer value expected'],
    ['input: [ { name: "x" }, ]', 'line 1: expected message value'],
    ['\n\ninstance_group { kind: KIND_GPO }', 'line 3: inference.ModelInstanceGroup.kind: enum value expected'],
    ['name: "a"\n\nname: "b"\nbackend: "c"', 'line 3: inference.ModelConfig.name: multiple values'],
    ['dynamic_batching { }\nsequence_batching { }', 'line 2: scheduling_choice: multiple values'],
    ['max_batch_size: 3000000000', 'line 1: integer value out of range'],
    ['max_batch_size: 1.5', 'line 1: integer value expected'],
    ['max_batch_size 1', "line 1: expected ':'"],
    ['name: "a', 'line 1: unterminated string'],
    ['name: a', 'line 1: expected string'],
    ['name: "\\377"', 'line 1: invalid UTF-8 string'],
    ['input {\n  name: "x"\n', "line 3: expected '}'"],
    ['}', "line 1: illegal field name '}'"],
  ];
  test.each(refused)('refuses %j with its line', (text, message) => {
    const error = failure(text);
    expect(error.message).toBe(message);
    expect(error.code).toBe('INVALID_ARGUMENT');
  });

  test('finds the line of an error that comes without one in a long text', () => {
    const lines = Array.from({ length: 3000 }, (_, index) => `input { name: "i${index}" }`);
    lines[2345] = 'input { data_type: TYPE_FLOAT }';
    expect(failure(lines.join('\n')).message).toBe('line 2346: inference.ModelInput.data_type: enum value expected');
  });

  test('cleans and cuts what it echoes', () => {
    const { message } = failure(`na\u0007me${'x'.repeat(5000)}: 1`);
    expect(message).toContain('na?me');
    expect(message.length).toBeLessThan(300);
  });

  test('refuses nesting without end instead of overflowing the stack', () => {
    expect(failure('input { '.repeat(100_000)).code).toBe('INVALID_ARGUMENT');
  });
});

describe('withDefaults', () => {
  test('sets every primitive and leaves absent messages out', () => {
    const full = withDefaults({
      name: 'a',
      input: [{ name: 'x', data_type: 'TYPE_FP32', dims: [1] }],
      dynamic_batching: {},
    });
    expect(full).toMatchObject({
      name: 'a',
      platform: '',
      max_batch_size: 0,
      output: [],
      parameters: {},
      input: [{ name: 'x', data_type: 'TYPE_FP32', format: 'FORMAT_NONE', dims: [1], optional: false }],
      dynamic_batching: { preferred_batch_size: [], max_queue_delay_microseconds: 0, preserve_ordering: false },
    });
    expect(full).not.toHaveProperty('optimization');
    expect(full).not.toHaveProperty('sequence_batching');
    expect((full.input as object[])[0]).not.toHaveProperty('reshape');
  });

  test('keeps 64-bit integers as numbers and map keys as they are', () => {
    const given = {
      dynamic_batching: {
        max_queue_delay_microseconds: 5_000_000_000,
        priority_queue_policy: { 1: { max_queue_size: 3 } },
      },
      metric_tags: JSON.parse('{ "__proto__": "x" }') as object,
    };
    const full = withDefaults(given) as { dynamic_batching: Record<string, unknown>; metric_tags: object };
    expect(full.dynamic_batching.max_queue_delay_microseconds).toBe(5_000_000_000);
    expect(full.dynamic_batching.priority_queue_policy).toMatchObject({
      1: { timeout_action: 'REJECT', max_queue_size: 3 },
    });
    expect(Object.entries(full.metric_tags)).toEqual([['__proto__', 'x']]);
  });

  test('does not change what it is given', () => {
    const given = { dynamic_batching: {} };
    withDefaults(given);
    expect(given).toEqual({ dynamic_batching: {} });
  });

  test('refuses what is no configuration', () => {
    expect(() => withDefaults({ input: 3 })).toThrow(
      'not a model configuration: .inference.ModelConfig.input: array expected',
    );
  });
});
