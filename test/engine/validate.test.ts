/** Every refusal of a request by its form, with Triton's texts, on models that really loaded. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ServeError } from '../../src/base/errors.js';
import type { InferInput } from '../../src/engine/types.js';
import { type Ask, infer, rawStrings, startEngine, type TestEngine, temporaryDirectory } from '../support/engine.js';
import { addSubModel, identityModel, stringModel, writeModel } from '../support/onnx.js';

const repository = temporaryDirectory();
const batching = 'max_batch_size: 8\n';
writeModel(repository, 'simple', { config: batching, versions: { 1: addSubModel() } });
writeModel(repository, 'wide', { config: batching, versions: { 1: identityModel('FP32', ['n']) } });
writeModel(repository, 'plain', { versions: { 1: identityModel('FP32', [4], { batching: false }) } });
writeModel(repository, 'flags', { config: batching, versions: { 1: identityModel('BOOL', ['n']) } });
writeModel(repository, 'text', { config: batching, versions: { 1: stringModel() } });
writeModel(repository, 'reshaped', {
  config: `${batching}input { name: "INPUT0" data_type: TYPE_FP32 dims: [2, 3] reshape { shape: [6] } } output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [3, 2] reshape { shape: [6] } }`,
  versions: { 1: identityModel('FP32', [6]) },
});

let running: TestEngine;
beforeAll(async () => {
  running = await startEngine(repository);
});
afterAll(() => running.stop());

const zeros = (name: string, datatype: string, shape: number[], byteLength: number): InferInput => ({
  name,
  datatype,
  shape,
  data: new Uint8Array(byteLength),
});
const int = (name: string, shape = [1, 16], byteLength = 64) => zeros(name, 'INT32', shape, byteLength);
const both = [int('INPUT0'), int('INPUT1')];

interface Case {
  what: string;
  model?: string;
  inputs: InferInput[];
  outputs?: string[];
  parameters?: Record<string, boolean | number | bigint | string>;
  text: string;
}

const cases: Case[] = [
  {
    what: 'no inputs',
    inputs: [],
    text: "expected 2 inputs but got 0 inputs for model 'simple'. Got input(s) [], but missing required input(s) ['INPUT0','INPUT1']. Please provide all required input(s).",
  },
  {
    what: 'one missing',
    inputs: [int('INPUT0')],
    text: "Got input(s) ['INPUT0'], but missing required input(s) ['INPUT1']",
  },
  {
    what: 'an unknown input',
    inputs: [...both, int('INPUT2')],
    text: "unexpected inference input 'INPUT2' for model 'simple'",
  },
  { what: 'an input twice', inputs: [...both, int('INPUT0')], text: "input 'INPUT0' already exists in request" },
  { what: 'an empty name', inputs: [int('')], text: "unexpected inference input '' for model 'simple'" },
  {
    what: 'a name with control characters',
    inputs: [int('a\r\nb\u001b')],
    text: "unexpected inference input 'a??b?' for model 'simple'",
  },
  {
    what: 'another datatype',
    inputs: [zeros('INPUT0', 'FP32', [1, 16], 64), int('INPUT1')],
    text: "inference input 'INPUT0' data-type is 'FP32', but model 'simple' expects 'INT32'",
  },
  ...['FP31', '', 'int32', 'INTEGER', 'BF16'].map((datatype) => ({
    what: `datatype '${datatype}'`,
    inputs: [zeros('INPUT0', datatype, [1, 16], 64), int('INPUT1')],
    text: `data-type is '${datatype}'`,
  })),
  {
    what: 'a negative dimension',
    inputs: [int('INPUT0', [-1, 16]), int('INPUT1')],
    text: "All input dimensions should be specified for input 'INPUT0' for model 'simple', got [-1,16]",
  },
  {
    what: 'no shape',
    inputs: [int('INPUT0', []), int('INPUT1')],
    text: "input 'INPUT0' has no shape but model requires batch dimension for 'simple'",
  },
  {
    what: 'a wrong dimension',
    inputs: [int('INPUT0', [1, 8], 32), int('INPUT1')],
    text: "unexpected shape for input 'INPUT0' for model 'simple'. Expected [-1,16], got [1,8]. NOTE: Setting a non-zero max_batch_size",
  },
  { what: 'no batch dimension', inputs: [int('INPUT0', [16]), int('INPUT1')], text: 'Expected [-1,16], got [16]' },
  {
    what: 'a wrong dimension of a model that does not batch',
    model: 'plain',
    inputs: [zeros('INPUT0', 'FP32', [5], 20)],
    text: 'Expected [4], got [5].',
  },
  {
    what: 'a batch that is too large',
    inputs: [int('INPUT0', [9, 16], 576), int('INPUT1', [9, 16], 576)],
    text: "inference request batch-size must be <= 8 for 'simple'",
  },
  {
    what: 'unequal batches',
    inputs: [int('INPUT0', [2, 16], 128), int('INPUT1')],
    text: "input 'INPUT1' batch size does not match other inputs for 'simple'",
  },
  {
    what: 'an empty batch',
    inputs: [int('INPUT0', [0, 16], 0), int('INPUT1', [0, 16], 0)],
    text: "input 'INPUT0' has batch size 0",
  },
  ...[
    [2 ** 32, 2 ** 32],
    [2 ** 4, 2 ** 60 + 2],
    [1, 2 ** 53 + 2],
    [1, 2 ** 63],
  ].map((shape) => ({
    what: `shape [${shape}]`,
    model: 'wide',
    inputs: [zeros('INPUT0', 'FP32', shape, 4)],
    text: 'causes total element count to exceed maximum size',
  })),
  {
    what: 'too few bytes',
    inputs: [int('INPUT0', [1, 16], 60), int('INPUT1')],
    text: "input byte size mismatch for input 'INPUT0' for model 'simple'. Expected 64, got 60",
  },
  { what: 'too many bytes', inputs: [int('INPUT0', [1, 16], 68), int('INPUT1')], text: 'Expected 64, got 68' },
  {
    what: 'BOOL bytes other than 0 and 1',
    model: 'flags',
    inputs: [{ ...zeros('INPUT0', 'BOOL', [1, 2], 0), data: new Uint8Array([1, 2]) }],
    text: 'BOOL bytes other than 0 and 1',
  },
  {
    what: 'an unknown output',
    inputs: both,
    outputs: ['OUTPUT9'],
    text: "unexpected inference output 'OUTPUT9' for model 'simple'",
  },
  {
    what: 'an output twice',
    inputs: both,
    outputs: ['OUTPUT0', 'OUTPUT0'],
    text: "output 'OUTPUT0' already exists in request",
  },
  {
    what: 'the response flag of streams as a parameter',
    inputs: both,
    parameters: { triton_final_response: true },
    text: "parameter 'triton_final_response' starts with 'triton_', which is reserved",
  },
  { what: 'a reserved parameter', inputs: both, parameters: { triton_x: 1 }, text: 'reserved for Triton usage' },
  {
    what: 'a priority of the wrong type',
    inputs: both,
    parameters: { priority: 'high' },
    text: "invalid value type for 'priority' parameter",
  },
  {
    what: 'a negative priority',
    inputs: both,
    parameters: { priority: -1 },
    text: "invalid value for 'priority' parameter",
  },
  {
    what: 'a negative timeout',
    inputs: both,
    parameters: { timeout: -1 },
    text: "invalid value for 'timeout' parameter",
  },
  {
    what: 'a timeout past int64',
    inputs: both,
    parameters: { timeout: 2n ** 63n },
    text: "invalid value for 'timeout' parameter",
  },
  {
    what: 'a timeout as text',
    inputs: both,
    parameters: { timeout: '5' },
    text: "invalid value type for 'timeout' parameter",
  },
  {
    what: 'a boolean sequence id',
    inputs: both,
    parameters: { sequence_id: true },
    text: "invalid value type for 'sequence_id' parameter",
  },
];

describe('a request is refused for', () => {
  test.each(cases)('$what', async ({ model = 'simple', inputs, outputs = [], parameters = {}, text }) => {
    const request: Ask = {
      modelName: model,
      inputs,
      outputs: outputs.map((name) => ({ name })),
      parameters: new Map(Object.entries(parameters)),
    };
    const error = await infer(running.engine, request).then(
      () => undefined,
      (refused: ServeError) => refused,
    );
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(error!.message).toContain(text);
  });

  const prefix = (length: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(length);
    return bytes;
  };
  test.each([
    [
      'a prefix that overruns',
      Buffer.concat([prefix(9), Buffer.from('short')]),
      'expecting string of length 9 but only 5 bytes available',
    ],
    ['a prefix of 2^32 - 1', prefix(0xffffffff), 'expecting string of length 4294967295'],
    [
      'three bytes at the end',
      Buffer.concat([rawStrings('one'), Buffer.alloc(3)]),
      'expecting 4 bytes but only 3 bytes available',
    ],
    ['too many elements', rawStrings('one', 'two'), 'unexpected number of string elements 2'],
    [
      'too few elements',
      new Uint8Array(0),
      "expected 1 string elements for inference input 'INPUT0' for model 'text', got 0",
    ],
    ['bytes that are not UTF-8', rawStrings(new Uint8Array([0xff, 0xfe])), 'is not valid UTF-8'],
    ['a NUL byte, which ONNX Runtime would cut a string at', rawStrings('one\0two'), 'string element 0 of'],
  ])('BYTES with %s', async (_, data, text) => {
    const names = running.engine.modelMetadata('text', '').inputs.map(({ name }) => name);
    const inputs = names.map((name, i) => ({
      name,
      datatype: 'BYTES',
      shape: [1, 1],
      data: i === 0 ? data : rawStrings('x'),
    }));
    const error = await infer(running.engine, { modelName: 'text', inputs }).then(
      () => undefined,
      (refused: ServeError) => refused,
    );
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(error!.message).toContain(text);
  });
});

test('outputs come in the order asked for', async () => {
  const { outputs } = await infer(running.engine, {
    modelName: 'simple',
    inputs: both,
    outputs: [{ name: 'OUTPUT1' }, { name: 'OUTPUT0' }],
  });
  expect(outputs.map(({ name }) => name)).toEqual(['OUTPUT1', 'OUTPUT0']);
});

test('a reshape of the config is applied on the way in and on the way out', async () => {
  const data = new Float32Array([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  const { outputs } = await infer(running.engine, {
    modelName: 'reshaped',
    inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [2, 2, 3], data: new Uint8Array(data.buffer) }],
  });
  expect(outputs[0]!.shape).toEqual([2, 3, 2]);
  expect([...new Float32Array(outputs[0]!.data.buffer)]).toEqual([...data]);
});

test('parameters that nobody knows are let through, as are sequences on a model without state', async () => {
  const parameters = new Map<string, string | number | boolean>([
    ['anything', 'x'],
    ['__proto__', 'y'],
    ['sequence_id', 7],
    ['sequence_start', true],
    // The one name with the reserved prefix that clients may set.
    ['triton_enable_empty_final_response', true],
  ]);
  const { outputs } = await infer(running.engine, { modelName: 'simple', inputs: both, parameters });
  expect(outputs).toHaveLength(2);
});
