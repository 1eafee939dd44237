import { describe, expect, test } from 'vitest';
import { MAX_FIELDS, WireError } from '../../src/base/wire-reader.js';
import { decodeModelInferRequest } from '../../src/grpc/infer-decode.js';
import { MAX_MADE_BYTES, MAX_VARINT_BYTES } from '../../src/grpc/typed-contents.js';
import { refusalOf } from './refusal.js';
import { contents, delimited, fixed32, input, integer, repeat, tag, varint } from './wire.js';

const MIB = 1024 * 1024;
const MODEL = delimited(1, 'simple');

function refusal(bytes: Uint8Array) {
  return refusalOf(decodeModelInferRequest, Buffer.from(bytes));
}

describe('bytes that are no message are a WireError', () => {
  const name = (...bytes: number[]) => delimited(1, Buffer.from(bytes));
  const cases: [string, Buffer, string][] = [
    ['P1 wire type 6', Buffer.of(0x0e, 0), 'wire type 6'],
    ['P1 wire type 7', Buffer.of(0x7f, 0), 'wire type 7'],
    ['P2 field number 0', Buffer.of(0x02, 0), 'field number 0'],
    ['P2 field number 0 in two bytes', Buffer.of(0x82, 0x00, 0), 'field number 0'],
    ['P2 tag beyond 32 bits', Buffer.of(0x88, 0x80, 0x80, 0x80, 0x10, 0), 'tag beyond 32 bits'],
    ['P2 tag of six bytes', Buffer.of(0x88, 0x80, 0x80, 0x80, 0x80, 0), 'tag beyond 32 bits'],
    ['P3 varint of 11 bytes', Buffer.concat([tag(15, 0), Buffer.alloc(10, 0xff), Buffer.of(1)]), 'more than 10 bytes'],
    [
      'P3 length of 11 bytes',
      Buffer.concat([tag(1, 2), Buffer.alloc(10, 0x80), Buffer.of(0)]),
      'length beyond 31 bits',
    ],
    ['P4 string past the end', Buffer.of(0x0a, 5, 65), 'length 5 where 1 bytes are left'],
    ['P5 bytes past the end', Buffer.of(0x3a, 5, 65), 'length 5 where 1 bytes are left'],
    ['P6 sub-message past the end', Buffer.of(0x2a, 5, 65), 'length 5 where 1 bytes are left'],
    ['P6 string past the end of its sub-message', delimited(5, Buffer.of(0x0a, 9), Buffer.alloc(1)), 'length 9'],
    ['P6 length 2^64 - 1', Buffer.concat([tag(5, 2), varint(2n ** 64n - 1n)]), 'length beyond 31 bits'],
    ['P8 groups nested a million times', Buffer.alloc(1e6, 0x7b), 'groups nested deeper than 100'],
    ['P8 group ended by another field', Buffer.of(0x7b, 0x74), 'group ended by another field'],
    ['P8 end of no group', Buffer.of(0x7c), 'end of a group that was not begun'],
    ['P8 group without end', Buffer.of(0x7b, 0x08, 1), 'group without end'],
    ['P10 name that is not UTF-8', name(0xff, 0xfe), 'not UTF-8'],
    ['P10 long name that is not UTF-8', name(...Buffer.alloc(40, 65), 0x80), 'not UTF-8'],
    ['P11 surrogate in a name', name(0xed, 0xa0, 0x80), 'not UTF-8'],
    ['P11 over-long form in a name', name(0xc0, 0x80), 'not UTF-8'],
    ['P10 parameter key that is not UTF-8', delimited(4, delimited(1, Buffer.of(0x80))), 'not UTF-8'],
    [
      'P23 packed fp32 of 7 bytes',
      input('X', 'FP32', contents(delimited(6, Buffer.alloc(7)))),
      'packed FP32 of 7 bytes',
    ],
    ['P23 packed fp64 of 12 bytes', input('X', 'FP64', contents(delimited(7, Buffer.alloc(12)))), 'packed FP64 of 12'],
    [
      'packed integers ending inside a varint',
      input('X', 'INT32', contents(delimited(2, Buffer.of(1, 0x80)))),
      'inside a',
    ],
    [
      'packed varint of 11 bytes',
      input('X', 'INT64', contents(delimited(3, Buffer.alloc(10, 255), Buffer.of(1)))),
      'more than 10',
    ],
    ['typed contents past their end', input('X', 'BYTES', contents(Buffer.of(0x42, 3, 65))), 'length 3 where 1'],
    ['truncated tag', Buffer.of(0x88), 'truncated tag'],
    ['truncated varint', Buffer.of(0x78, 0x80), 'truncated varint'],
    ['truncated length', Buffer.of(0x0a, 0x80), 'truncated length'],
    ['tag without length', Buffer.of(0x0a), 'truncated length'],
    ['truncated 32-bit field', Buffer.of(0x7d, 0, 0), 'truncated field'],
    ['truncated 64-bit field', Buffer.of(0x79, 0, 0), 'truncated field'],
    ['truncated double', delimited(4, delimited(2, Buffer.of(0x21, 0))), 'truncated 64-bit field'],
  ];

  test.each(cases)('%s', (_what, bytes, message) => {
    const error = refusal(bytes);
    expect(error).toBeInstanceOf(WireError);
    expect(error.code).toBe('INTERNAL');
    expect(error.message).toMatch(/^malformed ModelInferRequest: .* at byte \d+$/);
    expect(error.message).toContain(message);
  });
});

describe('legal oddities are accepted', () => {
  test('P7 a known field with another wire type is unknown', () => {
    const odd = Buffer.concat([integer(1, 5), fixed32(3, 1), integer(5, 1), integer(7, 1), MODEL]);
    expect(decodeModelInferRequest(odd)).toMatchObject({ modelName: 'simple', id: '', inputs: [] });
    const typed = input('X', 'INT32', contents(fixed32(2, 1), integer(6, 5), integer(2, 9)));
    expect([...decodeModelInferRequest(typed).inputs[0]!.data]).toEqual([9, 0, 0, 0]);
  });

  test('P8 well-formed groups are passed over', () => {
    const group = Buffer.concat([tag(15, 3), tag(3, 3), integer(1, 300), tag(3, 4), delimited(2, 'x'), tag(15, 4)]);
    expect(decodeModelInferRequest(Buffer.concat([group, MODEL])).modelName).toBe('simple');
  });

  test('P9 a million unknown fields are passed over', () => {
    const unknown = repeat(integer(99, 300), 4 * 1e6);
    expect(unknown.length).toBe(4e6);
    expect(decodeModelInferRequest(Buffer.concat([unknown, MODEL])).modelName).toBe('simple');
  });

  test('lengths and tags in more bytes than they need', () => {
    const long = Buffer.of(0x8a, 0x80, 0x00, 0x81, 0x80, 0x80, 0x80, 0x00, 65);
    expect(decodeModelInferRequest(long).modelName).toBe('A');
  });
});

describe('caps', () => {
  const parameter = (index: number) => delimited(4, delimited(1, `key ${index}`), delimited(2, integer(2, 1)));
  const many = (count: number, make: (index: number) => Buffer) =>
    Buffer.concat(Array.from({ length: count }, (_, i) => make(i)));
  const outputParameter = () => delimited(2, delimited(1, 'k'), delimited(2, integer(2, 1)));
  const cases: [string, number, (count: number) => Buffer, string][] = [
    ['inputs', 256, (n) => many(n, () => input('X', 'FP32', contents())), 'request has more than 256 inputs'],
    ['outputs', 256, (n) => many(n, () => delimited(6)), 'request has more than 256 outputs'],
    [
      'raw entries',
      256,
      (n) => Buffer.concat([many(Math.min(n, 256), () => input('X', 'FP32')), many(n, () => delimited(7))]),
      'request has more than 256 raw_input_contents entries',
    ],
    ['parameters', 128, (n) => many(n, parameter), 'request has more than 128 parameters'],
    ['equal parameters', 128, (n) => many(n, () => parameter(0)), 'request has more than 128 parameters'],
    [
      'parameters of an input',
      128,
      (n) => input('X', 'FP32', contents(), many(n, parameter)),
      'more than 128 parameters of an input',
    ],
    [
      'parameters of an output',
      128,
      (n) => delimited(6, many(n, outputParameter)),
      'more than 128 parameters of an output',
    ],
    [
      'packed dimensions',
      16,
      (n) => input('X', 'FP32', contents(), delimited(3, Buffer.alloc(n, 1))),
      'more than 16 dimensions',
    ],
    [
      'unpacked dimensions',
      16,
      (n) =>
        input(
          'X',
          'FP32',
          contents(),
          many(n, () => integer(3, 1)),
        ),
      'more than 16 dimensions',
    ],
    [
      'contents of an input',
      256,
      (n) =>
        input(
          'X',
          'FP32',
          many(n, () => contents()),
        ),
      'more than 256 contents fields in an input',
    ],
    [
      'bytes of a model name',
      256,
      (n) => delimited(1, 'm'.repeat(n)),
      'model name is 257 bytes long, at most 256 are allowed',
    ],
    ['bytes of a version', 256, (n) => delimited(2, '1'.repeat(n)), 'model version is 257 bytes long'],
    ['bytes of an input name', 256, (n) => input('i'.repeat(n), 'FP32', contents()), 'input name is 257 bytes long'],
    ['bytes of a datatype', 256, (n) => input('X', 'd'.repeat(n), contents()), 'input datatype is 257 bytes long'],
    ['bytes of an output name', 256, (n) => delimited(6, delimited(1, 'o'.repeat(n))), 'output name is 257 bytes long'],
    [
      'bytes of a parameter name',
      256,
      (n) => delimited(4, delimited(1, 'p'.repeat(n))),
      'parameter name is 257 bytes long',
    ],
  ];

  test.each(cases)('%s: %i are accepted, one more is INVALID_ARGUMENT', (_what, limit, build, message) => {
    expect(() => decodeModelInferRequest(build(limit))).not.toThrow();
    const error = refusal(build(limit + 1));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toContain(message);
  });

  test('I4 a model name of 1 MB is echoed cut and clean', () => {
    const error = refusal(delimited(1, 'a\nb', Buffer.alloc(MIB, 'n')));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toBe(
      `model name is ${MIB + 3} bytes long, at most 256 are allowed: 'a?b${'n'.repeat(61)}...'`,
    );
  });

  test('names are echoed clean in other refusals too', () => {
    const error = refusal(Buffer.concat([input('x\u0000\u001b[1m', 'FP32'), delimited(1, 'm\r\n')]));
    expect(error.message).toBe("unable to find data for input tensor 'x??[1m' for model 'm??' in request.");
  });
});

describe('hostile messages of some megabytes cost neither memory nor time', () => {
  // The limits that hold: with them, no test here decodes more than a few million fields.
  const cases: [string, Buffer, string][] = [
    ['P15 2M empty inputs', repeat(delimited(5), 4 * MIB), 'request has more than 256 inputs'],
    ['P16 2M empty outputs', repeat(delimited(6), 4 * MIB), 'request has more than 256 outputs'],
    ['P17 2M empty raw entries', repeat(delimited(7), 4 * MIB), 'request has more than 256 raw_input_contents entries'],
    [
      'P18 4M int64s',
      input('X', 'INT64', contents(delimited(3, Buffer.alloc(4 * MIB, 1)))),
      'input byte size mismatch',
    ],
    ['P19 4M bools', input('X', 'BOOL', contents(delimited(1, Buffer.alloc(4 * MIB, 1)))), 'input byte size mismatch'],
    ['P20 4M dimensions', input('X', 'FP32', delimited(3, Buffer.alloc(4 * MIB, 1))), 'more than 16 dimensions'],
    ['P21 400k parameters', repeat(delimited(4, delimited(1, 'key')), 4 * MIB), 'more than 128 parameters'],
    [
      'more integers than gRPC sends by default',
      input('X', 'INT64', contents(delimited(3, Buffer.alloc(MAX_VARINT_BYTES + 1, 1)))),
      'use raw_input_contents',
    ],
    [
      'integers that become more than may be made of them',
      input(
        'X',
        'INT64',
        delimited(3, varint(MAX_MADE_BYTES / 8 + 1)),
        contents(delimited(3, Buffer.alloc(MAX_MADE_BYTES / 8 + 1, 1))),
      ),
      'take more than 16777216 bytes as tensors, use raw_input_contents',
    ],
    ['unknown fields without end', repeat(integer(15, 1), 2 * MAX_FIELDS + 2), `more than ${MAX_FIELDS} fields`],
    [
      'empty strings without end',
      input('X', 'BYTES', contents(repeat(delimited(8), 2 * MAX_FIELDS + 2))),
      `more than ${MAX_FIELDS} fields`,
    ],
    ['the model name over and over', repeat(delimited(1, 'é'), 4 * MIB), `more than ${MAX_FIELDS} fields`],
    ['P26 64 MiB of empty inputs', repeat(delimited(5), 64 * MIB), 'request has more than 256 inputs'],
    [
      'P26 64 MiB of int64s',
      input('X', 'INT64', contents(delimited(3, Buffer.alloc(64 * MIB, 1)))),
      'use raw_input_contents',
    ],
  ];

  test.each(cases)('%s', (_what, bytes, message) => {
    const error = refusal(bytes);
    expect(error.message).toContain(message);
    expect(['INVALID_ARGUMENT', 'RESOURCE_EXHAUSTED']).toContain(error.code);
  });

  test('P18 as many integers as the shape says are decoded', () => {
    const count = MAX_MADE_BYTES / 8;
    const bytes = input('X', 'INT64', integer(3, count), contents(delimited(3, Buffer.alloc(count, 1))));
    const { data } = decodeModelInferRequest(bytes).inputs[0]!;
    expect(data.length).toBe(8 * count);
    expect(data.subarray(8 * (count - 1))).toEqual(Buffer.of(1, 0, 0, 0, 0, 0, 0, 0));
  });
});
