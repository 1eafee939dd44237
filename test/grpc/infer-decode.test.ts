import { describe, expect, test } from 'vitest';
import type { ServeError } from '../../src/base/errors.js';
import type { DecodedInfer } from '../../src/grpc/decoded-infer.js';
import { decodeModelInferRequest } from '../../src/grpc/infer-decode.js';
import { decodeModelInferRequestV1 } from '../../src/grpc/infer-decode-v1.js';
import { refusalOf } from './refusal.js';
import { contents, delimited, fixed64, input, integer, varint } from './wire.js';

const decode = (...fields: Uint8Array[]): DecodedInfer => decodeModelInferRequest(Buffer.concat(fields));

function refusal(...fields: Uint8Array[]): ServeError {
  return refusalOf(decodeModelInferRequest, Buffer.concat(fields));
}

const MODEL = delimited(1, 'simple');
const raw = (...bytes: number[]) => delimited(7, Buffer.from(bytes));

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

describe('a request with raw contents', () => {
  const bytes = Buffer.concat([
    MODEL,
    delimited(2, '3'),
    delimited(3, 'request 1'),
    input('INPUT0', 'INT32', delimited(3, varint(1), varint(2))),
    input('INPUT1', 'BYTES', integer(3, 1)),
    delimited(6, delimited(1, 'OUTPUT1')),
    raw(1, 0, 0, 0, 2, 0, 0, 0),
    raw(1, 0, 0, 0, 65),
  ]);

  test('is read with every field', () => {
    const decoded = decodeModelInferRequest(bytes);
    expect(decoded).toMatchObject({
      modelName: 'simple',
      modelVersion: '3',
      id: 'request 1',
      arm: 'grpc_raw',
      byteLength: bytes.length,
      outputs: [{ name: 'OUTPUT1' }],
    });
    expect(decoded.inputs.map(({ name, datatype, shape, data }) => [name, datatype, shape, hex(data)])).toEqual([
      ['INPUT0', 'INT32', [1, 2], '0100000002000000'],
      ['INPUT1', 'BYTES', [1], '0100000041'],
    ]);
    expect(decoded.decodeEnd).toBeGreaterThanOrEqual(decoded.decodeStart);
  });

  test('gives views on the message, no copies', () => {
    for (const { data } of decodeModelInferRequest(bytes).inputs) expect(data.buffer).toBe(bytes.buffer);
  });

  test('of no bytes at all is an empty request, for the engine to refuse', () => {
    expect(decode()).toMatchObject({ modelName: '', inputs: [], outputs: [], byteLength: 0 });
  });

  test('may have inputs of no bytes', () => {
    expect(decode(MODEL, input('X', 'FP32', integer(3, 0)), raw()).inputs[0]!.data.length).toBe(0);
  });

  test('keeps the last of a repeated singular field', () => {
    expect(decode(delimited(1, 'a'), delimited(1, 'b')).modelName).toBe('b');
    expect(decode(delimited(1, 'a'), delimited(1, '')).modelName).toBe('');
  });

  test('keeps negative and huge dimensions as they are, to the nearest double', () => {
    const shape = [integer(3, -1), delimited(3, varint(2n ** 60n + 2n)), integer(3, 2n ** 63n - 1n)];
    expect(decode(input('X', 'FP32', ...shape), raw()).inputs[0]!.shape).toEqual([-1, 2 ** 60, 2 ** 63]);
  });
});

describe('parameters', () => {
  const parameter = (key: string, ...value: Uint8Array[]) => delimited(4, delimited(1, key), delimited(2, ...value));

  test('come in every type, exact beyond 2^53', () => {
    const { parameters } = decode(
      parameter('bool', integer(1, 1)),
      parameter('int', integer(2, -5)),
      parameter('long', integer(2, -(2n ** 63n))),
      parameter('text', delimited(3, 'é')),
      parameter('double', fixed64(4, 0.1)),
      parameter('uint', integer(5, 7)),
      parameter('ulong', integer(5, 2n ** 64n - 1n)),
    );
    expect([...parameters]).toEqual([
      ['bool', true],
      ['int', -5],
      ['long', -(2n ** 63n)],
      ['text', 'é'],
      ['double', 0.1],
      ['uint', 7],
      ['ulong', 2n ** 64n - 1n],
    ]);
  });

  test('without a value are as if not there, without a key have the empty key, and the last of equal keys wins', () => {
    expect(decode(delimited(4, delimited(1, 'a')), parameter('b')).parameters.size).toBe(0);
    expect([...decode(delimited(4, delimited(2, integer(2, 1)))).parameters]).toEqual([['', 1]]);
    expect([...decode(parameter('a', integer(2, 1)), parameter('a', integer(1, 0))).parameters]).toEqual([
      ['a', false],
    ]);
    expect(decode(parameter('a', integer(2, 1)), parameter('a')).parameters.size).toBe(0);
    expect([...decode(parameter('a', integer(2, 1), delimited(3, 'x'))).parameters]).toEqual([['a', 'x']]);
  });

  test('named __proto__ are data like any other', () => {
    const { parameters } = decode(parameter('__proto__', delimited(3, 'x')));
    expect(parameters.get('__proto__')).toBe('x');
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });

  test('are kept per input and per output', () => {
    const own = delimited(1, 'own');
    const decoded = decode(
      input('X', 'FP32', delimited(4, own, delimited(2, integer(2, 1)))),
      delimited(6, delimited(1, 'Y'), delimited(2, own, delimited(2, integer(2, 2)))),
      raw(),
    );
    expect(decoded.inputs[0]!.parameters.get('own')).toBe(1);
    expect(decoded.outputs[0]!.parameters.get('own')).toBe(2);
    expect(decoded.parameters.size).toBe(0);
  });
});

describe('typed contents become the raw layout', () => {
  const cases: [string, Buffer, string][] = [
    ['BOOL', delimited(1, varint(1), varint(0), varint(2n ** 63n)), '010001'],
    ['INT8', delimited(2, varint(-1), varint(300), varint(5)), 'ff2c05'],
    ['INT16', delimited(2, varint(-2), varint(70000)), 'feff7011'],
    ['INT32', Buffer.concat([integer(2, -1), delimited(2, varint(2)), integer(2, 3)]), 'ffffffff0200000003000000'],
    ['INT64', delimited(3, varint(-1), varint(2n ** 53n + 1n)), 'ffffffffffffffff0100000000002000'],
    ['UINT8', delimited(4, varint(255), varint(256)), 'ff00'],
    ['UINT16', delimited(4, varint(65535)), 'ffff'],
    ['UINT32', delimited(4, varint(2 ** 32 - 1)), 'ffffffff'],
    ['UINT64', integer(5, 2n ** 64n - 1n), 'ffffffffffffffff'],
    ['FP32', delimited(6, Buffer.from('0040807f0000c07f00000080', 'hex')), '0040807f0000c07f00000080'],
    ['FP64', delimited(7, Buffer.from('010000000000f07f', 'hex')), '010000000000f07f'],
    [
      'BYTES',
      Buffer.concat([delimited(8, 'AB'), delimited(8, ''), delimited(8, Buffer.of(0, 255))]),
      '020000004142000000000200000000ff',
    ],
  ];

  test.each(cases)('%s', (datatype, field, expected) => {
    const decoded = decode(MODEL, input('X', datatype, contents(field)));
    expect(hex(decoded.inputs[0]!.data)).toBe(expected);
    expect(decoded.arm).toBe('grpc_typed');
  });

  test.each(cases)('%s where datatype and model name come last', (datatype, field, expected) => {
    const decoded = decode(delimited(5, contents(field), delimited(2, datatype), delimited(1, 'X')), MODEL);
    expect(hex(decoded.inputs[0]!.data)).toBe(expected);
  });

  test('without a copy where they are one packed run of floats', () => {
    const bytes = input('X', 'FP32', contents(delimited(6, Buffer.alloc(400))));
    const decoded = decodeModelInferRequest(bytes);
    expect(decoded.inputs[0]!.data.buffer).toBe(bytes.buffer);
    expect(decoded.byteLength).toBe(bytes.length);
  });

  test('and the memory made for them counts as held by the request', () => {
    const bytes = input('X', 'INT64', contents(delimited(3, Buffer.alloc(100))));
    expect(decodeModelInferRequest(bytes).byteLength).toBe(bytes.length + 800);
  });

  test('of no elements are present and empty, whatever the datatype', () => {
    for (const datatype of ['FP32', 'BYTES', 'FP16', 'BOOL'])
      expect(decode(input('X', datatype, contents())).inputs[0]!.data.length).toBe(0);
    expect(decode(input('X', 'FP32', contents(delimited(6), delimited(2)))).inputs[0]!.data.length).toBe(0);
  });

  test('in two fields of the message count as one', () => {
    const decoded = decode(input('X', 'UINT8', contents(integer(4, 1)), contents(delimited(4, varint(2)))));
    expect(hex(decoded.inputs[0]!.data)).toBe('0102');
  });
});

describe('data that is ambiguous or missing is refused in the words of Triton', () => {
  const FP32 = delimited(6, Buffer.alloc(4));
  const unexpected = "unexpected explicit tensor data for input tensor 'X' for model 'simple'";
  const cases: [string, Buffer[], string][] = [
    [
      'raw and typed contents in one request',
      [input('X', 'FP32', contents(FP32)), raw(0)],
      "contents field must not be specified when using raw_input_contents for 'X' for model 'simple'",
    ],
    [
      'raw contents and empty typed contents',
      [input('X', 'FP32', contents()), raw(0)],
      "contents field must not be specified when using raw_input_contents for 'X' for model 'simple'",
    ],
    [
      'raw contents and typed contents of another input',
      [input('W', 'FP32'), input('X', 'FP32', contents(FP32)), raw(0)],
      "contents field must not be specified when using raw_input_contents for 'X' for model 'simple'",
    ],
    [
      'the typed field of another datatype',
      [input('X', 'FP32', contents(integer(2, 1)))],
      `${unexpected} of type 'INT32', expected datatype 'FP32'`,
    ],
    [
      'the typed field of a wider datatype',
      [input('X', 'INT8', contents(integer(3, 1)))],
      `${unexpected} of type 'INT64', expected datatype 'INT8'`,
    ],
    [
      'typed contents for FP16, which has no field',
      [input('X', 'FP16', contents(FP32))],
      `${unexpected} of type 'FP32', expected datatype 'FP16'`,
    ],
    [
      'typed contents for BF16, which has no field',
      [input('X', 'BF16', contents(delimited(8, 'ab')))],
      `${unexpected} of type 'BYTES', expected datatype 'BF16'`,
    ],
    [
      'typed contents of no known datatype',
      [input('X', 'constructor', contents(FP32))],
      `${unexpected} of type 'FP32', expected datatype 'constructor'`,
    ],
    [
      'typed contents of no datatype',
      [input('X', '', contents(FP32))],
      `${unexpected} of type 'FP32', expected datatype '<invalid>'`,
    ],
    [
      'two typed fields, the right one first',
      [input('X', 'INT32', contents(FP32, integer(2, 1)))],
      `${unexpected}, binary data was already supplied.`,
    ],
    [
      'two typed fields, the wrong one first',
      [input('X', 'FP32', contents(FP32, integer(2, 1)))],
      `${unexpected} of type 'INT32', expected datatype 'FP32'`,
    ],
    ['no data at all', [input('X', 'FP32')], "unable to find data for input tensor 'X' for model 'simple' in request."],
    [
      'fewer raw entries than inputs',
      [input('W', 'FP32'), input('X', 'FP32'), raw(0)],
      "unable to find data for input tensor 'X' for model 'simple' in request.",
    ],
    [
      'one typed input and one without data',
      [input('W', 'FP32', contents(FP32)), input('X', 'FP32')],
      "unable to find data for input tensor 'X' for model 'simple' in request.",
    ],
    [
      'more raw entries than inputs',
      [input('X', 'FP32'), raw(0), raw(0)],
      "expected 1 raw_input_contents entries for model 'simple', got 2",
    ],
    ['raw entries and no inputs', [raw(0)], "expected 0 raw_input_contents entries for model 'simple', got 1"],
  ];

  test.each(cases)('%s', (_what, fields, message) => {
    const error = refusal(...fields, MODEL);
    expect(error.message).toBe(message);
    expect(error.code).toBe('INVALID_ARGUMENT');
  });
});

describe('parameters of tensors', () => {
  const parameter = (field: number, key: string, value: Buffer) =>
    delimited(field, delimited(1, key), delimited(2, value));
  const X = delimited(1, 'X');

  test('classification says how many classes an output is asked for, and without it the tensor is', () => {
    const asked = (value: Buffer) => delimited(6, X, parameter(2, 'classification', value));
    const { outputs } = decode(MODEL, asked(integer(2, 3)), asked(integer(2, 2n ** 62n)), delimited(6, X));
    expect(outputs.map(({ classification }) => classification)).toEqual([3, 2 ** 62, 0]);
  });

  test.each([
    ['a string', delimited(3, '3'), "invalid value type for 'classification' parameter, expected int64_param."],
    ['a bool', integer(1, 1), "invalid value type for 'classification' parameter, expected int64_param."],
    ['a fraction', fixed64(4, 2.5), "invalid value type for 'classification' parameter, expected int64_param."],
    ['zero', integer(2, 0), "invalid value for 'classification' parameter, expected > 0, got 0"],
    [
      'negative',
      integer(2, -(2n ** 62n)),
      "invalid value for 'classification' parameter, expected > 0, got -4611686018427387904",
    ],
  ])('classification that is %s is INVALID_ARGUMENT', (_what, value, message) => {
    const error = refusal(MODEL, delimited(6, X, parameter(2, 'classification', value)));
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message });
  });

  test('shared memory for an input or an output is UNIMPLEMENTED, before its data is missed', () => {
    const region = delimited(3, 'region');
    const inbound = refusal(MODEL, input('X', 'FP32', parameter(4, 'shared_memory_region', region)));
    const outbound = refusal(MODEL, delimited(6, X, parameter(2, 'shared_memory_byte_size', integer(2, 4))));
    expect(inbound.code).toBe('UNIMPLEMENTED');
    expect(outbound.code).toBe('UNIMPLEMENTED');
    expect(inbound.message).toBe(
      "Client shared memory is disabled: input 'X' for model 'simple' has parameter 'shared_memory_region'",
    );
    expect(outbound.message).toBe(
      "Client shared memory is disabled: output 'X' for model 'simple' has parameter 'shared_memory_byte_size'",
    );
  });
});

describe('inference.v1.ModelInferRequest', () => {
  test('numbers among the parameters are spelt, and read as such', () => {
    const parameter = (key: string, value: string) => delimited(4, delimited(1, key), delimited(2, value));
    const bytes = Buffer.concat([
      delimited(1, 'm'),
      parameter('timeout', '5000'),
      parameter('priority', '18446744073709551615'),
      parameter('sequence_id', 'abc'),
      parameter('temperature', '7'),
    ]);
    expect([...decodeModelInferRequestV1(bytes).parameters]).toEqual([
      ['timeout', 5000],
      ['priority', 18446744073709551615n],
      ['sequence_id', 'abc'],
      ['temperature', '7'],
    ]);
  });

  const TENSOR = [delimited(1, 'X'), delimited(2, varint(2)), delimited(3, 'UINT8')];
  const bytes = Buffer.concat([
    delimited(1, 'simple'),
    delimited(2, '1'),
    delimited(3, ...TENSOR, delimited(4, Buffer.of(7, 8))),
    delimited(3, delimited(1, 'Y'), delimited(3, 'FP32')),
    delimited(4, delimited(1, 'priority'), delimited(2, '1')),
    delimited(4, delimited(1, 'alone')),
  ]);

  test('the version "1.0", which its example client asks for, is 1', () => {
    const versionOf = (version: string) =>
      decodeModelInferRequestV1(Buffer.concat([delimited(1, 'simple'), delimited(2, version)])).modelVersion;
    expect(['1.0', '12.0', '1', '', '1.1', '0.0', '1.00'].map(versionOf)).toEqual([
      '1',
      '12',
      '1',
      '',
      '1.1',
      '0.0',
      '1.00',
    ]);
  });

  test('is read with every field, and a tensor without raw_contents has no bytes', () => {
    const decoded = decodeModelInferRequestV1(bytes);
    expect(decoded).toMatchObject({ modelName: 'simple', modelVersion: '1', id: '', outputs: [], arm: 'grpc_raw' });
    expect(decoded.inputs.map(({ name, datatype, shape, data }) => [name, datatype, shape, hex(data)])).toEqual([
      ['X', 'UINT8', [2], '0708'],
      ['Y', 'FP32', [], ''],
    ]);
    expect([...decoded.parameters]).toEqual([
      ['priority', 1],
      ['alone', ''],
    ]);
    expect(decoded.inputs[0]!.data.buffer).toBe(bytes.buffer);
    expect(decoded.byteLength).toBe(bytes.length);
  });

  test('takes a tensor without a shape and of no other datatype than BYTES for one string, where it lies', () => {
    const contents = (...bytes: number[]) => delimited(4, Buffer.of(...bytes));
    const message = Buffer.concat([
      delimited(3, delimited(1, 'X'), contents(0x68, 0x69)),
      delimited(3, contents(1), delimited(1, 'Y'), delimited(3, 'BYTES'), contents(0xc3, 0xa9)),
      delimited(3, contents(7)),
      delimited(3, delimited(1, 'empty')),
      delimited(3, delimited(1, 'tensor'), delimited(2, varint(1)), delimited(3, 'BYTES'), contents(1, 0, 0, 0, 97)),
      delimited(3, delimited(1, 'scalar'), delimited(3, 'UINT8'), contents(9)),
      delimited(3, delimited(1, 'shaped'), delimited(2, varint(2)), contents(9, 9)),
    ]);
    const decoded = decodeModelInferRequestV1(message);
    const told = decoded.inputs.map(({ name, datatype, shape, data, content }) => [
      name,
      datatype,
      shape,
      hex(data),
      content,
    ]);
    expect(told).toEqual([
      ['X', 'BYTES', [1], '020000006869', 'text'],
      ['Y', 'BYTES', [1], '02000000c3a9', 'text'],
      ['', 'BYTES', [1], '0100000007', 'text'],
      ['empty', 'BYTES', [1], '00000000', 'text'],
      ['tensor', 'BYTES', [1], '0100000061', undefined],
      ['scalar', 'UINT8', [], '09', undefined],
      ['shaped', '', [2], '0909', undefined],
    ]);
    expect(decoded.inputs[0]!.data.buffer).toBe(message.buffer);
    expect(decoded.note).toBe(
      "Input 'X' came without datatype and shape, so it was taken as one UTF-8 string; a tensor needs both",
    );
    expect(decodeModelInferRequestV1(bytes).note).toBe('');
  });

  test('keeps the last raw_contents of a tensor', () => {
    const tensor = delimited(3, ...TENSOR, delimited(4, Buffer.of(7, 8)), delimited(4, Buffer.of(9)));
    expect(hex(decodeModelInferRequestV1(tensor).inputs[0]!.data)).toBe('09');
  });

  test('is refused as the other is', () => {
    const malformed = refusalOf(decodeModelInferRequestV1, Buffer.of(0x0a, 0x05, 0x41));
    expect(malformed).toMatchObject({ code: 'INTERNAL' });
    const many = refusalOf(decodeModelInferRequestV1, Buffer.alloc(600, Buffer.of(0x1a, 0)));
    expect(many).toMatchObject({ code: 'INVALID_ARGUMENT', message: 'request has more than 256 inputs' });
  });
});
