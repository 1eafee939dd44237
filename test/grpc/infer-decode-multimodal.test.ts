import { describe, expect, test } from 'vitest';
import type { DecodedInfer } from '../../src/grpc/decoded-infer.js';
import { decodeMultimodalInferRequest } from '../../src/grpc/infer-decode-multimodal.js';
import { refusalOf } from './refusal.js';
import { delimited, fixed32, integer, tag } from './wire.js';

const input = (...fields: Uint8Array[]) => delimited(3, ...fields);
const named = (name: string, ...fields: Uint8Array[]) => input(delimited(1, name), ...fields);
const image = (bytes: Uint8Array) => delimited(2, bytes);
const text = (text: Uint8Array | string) => delimited(3, text);
const embedding = (...fields: Uint8Array[]) => delimited(4, ...fields);
const packed = (...values: number[]) => delimited(1, Buffer.from(Float32Array.from(values).buffer));

const decode = (...fields: Uint8Array[]): DecodedInfer => decodeMultimodalInferRequest(Buffer.concat(fields));
const refusal = (...fields: Uint8Array[]) => refusalOf(decodeMultimodalInferRequest, Buffer.concat(fields));
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

function told({ inputs }: DecodedInfer) {
  return inputs.map(({ name, content, datatype, shape, data }) => [name, content, datatype, shape, hex(data)]);
}

const ALL = [
  delimited(1, 'clip'),
  delimited(2, '4'),
  named('picture', image(Buffer.of(0x89, 0x50))),
  named('caption', text('é')),
  named('vector', embedding(packed(1, -2))),
  delimited(4, delimited(1, 'timeout'), delimited(2, '5000')),
];

describe('a multimodal request', () => {
  test('is read with every field, each content by its kind', () => {
    const decoded = decode(...ALL);
    expect(decoded).toMatchObject({
      modelName: 'clip',
      modelVersion: '4',
      id: '',
      outputs: [],
      arm: 'grpc_raw',
      note: '',
    });
    expect(told(decoded)).toEqual([
      ['picture', 'image', 'BYTES', [1], '020000008950'],
      ['caption', 'text', 'BYTES', [1], '02000000c3a9'],
      ['vector', 'embedding', 'FP32', [2], '0000803f000000c0'],
    ]);
    expect([...decoded.parameters]).toEqual([['timeout', 5000]]);
  });

  test('gives views on the message, no copies', () => {
    const bytes = Buffer.concat(ALL);
    const decoded = decodeMultimodalInferRequest(bytes);
    for (const { data } of decoded.inputs) expect(data.buffer).toBe(bytes.buffer);
    expect(decoded.byteLength).toBe(bytes.length);
  });

  test('may name nothing, and a length in front of one content touches no other', () => {
    const least = [
      image(Buffer.of(7)),
      embedding(packed(3)),
      text(''),
      image(Buffer.of(8)),
      text('a'),
      image(Buffer.of()),
    ];
    expect(told(decode(...least.map((content) => input(content)))).map(([, , , , data]) => data)).toEqual([
      '0100000007',
      '00004040',
      '00000000',
      '0100000008',
      '0100000061',
      '00000000',
    ]);
  });

  test('may hold a picture of megabytes', () => {
    const bytes = Buffer.alloc(3_000_000, 'picture');
    const [picture] = decode(named('x', image(bytes))).inputs;
    expect(Buffer.from(picture!.data).readUInt32LE()).toBe(3_000_000);
    expect(bytes.equals(picture!.data.subarray(4))).toBe(true);
  });

  test('counts the last content of an input', () => {
    const contents = [
      [text('a'), image(Buffer.of(1))],
      [image(Buffer.of(1)), embedding(packed(9)), text('a')],
      [embedding(packed(9)), text('a'), embedding(packed(1))],
      [image(Buffer.of(1)), embedding()],
    ];
    expect(told(decode(...contents.map((fields) => named('x', ...fields))))).toEqual([
      ['x', 'image', 'BYTES', [1], '0100000001'],
      ['x', 'text', 'BYTES', [1], '0100000061'],
      ['x', 'embedding', 'FP32', [1], '0000803f'],
      ['x', 'embedding', 'FP32', [0], ''],
    ]);
  });

  test('may have its values in pieces, which are put together in memory that is counted', () => {
    const pieces = [
      embedding(fixed32(1, 1), integer(7, 1), packed(2, 3), delimited(1)),
      embedding(packed(...Array.from({ length: 9 }, (_, i) => 4 + i))),
    ];
    const bytes = named('x', ...pieces);
    const decoded = decodeMultimodalInferRequest(bytes);
    const data = Uint8Array.from(decoded.inputs[0]!.data);
    expect([...new Float32Array(data.buffer)]).toEqual(Array.from({ length: 12 }, (_, i) => 1 + i));
    expect(decoded.byteLength).toBe(bytes.length + 48);
  });

  test('keeps the bits of a signalling NaN', () => {
    const bits = Buffer.of(0x01, 0x00, 0xa0, 0x7f);
    const pieces = Buffer.concat([tag(1, 5), bits, tag(1, 5), bits]);
    expect(hex(decode(named('x', embedding(pieces))).inputs[0]!.data)).toBe('0100a07f0100a07f');
  });
});

describe('is refused', () => {
  test.each<[string, Uint8Array[], string]>([
    [
      'an input without content',
      [named('caption', integer(9, 1))],
      "input 'caption' has no content, expected one of image_bytes, text and embedding",
    ],
    [
      'text that is not UTF-8',
      [named('caption', text(Buffer.of(0x61, 0xff)))],
      "text of input 'caption' is not valid UTF-8",
    ],
    [
      'text that is not UTF-8 with the name and another content behind it',
      [input(text(Buffer.of(0xc0, 0x80)), image(Buffer.of(1)), delimited(1, 'late'))],
      "text of input 'late' is not valid UTF-8",
    ],
    ['the 257th input', Array.from({ length: 257 }, () => input(text('a'))), 'request has more than 256 inputs'],
    [
      'the 257th content of an input',
      [named('x', ...Array.from({ length: 257 }, () => embedding()))],
      'request has more than 256 contents in an input',
    ],
    [
      'the 129th parameter',
      Array.from({ length: 129 }, (_, i) => delimited(4, delimited(1, `k${i}`))),
      'request has more than 128 parameters',
    ],
    [
      'a long name',
      [named('x'.repeat(257), text('a'))],
      `input name is 257 bytes long, at most 256 are allowed: '${'x'.repeat(64)}...'`,
    ],
  ])('%s', (_what, fields, message) => {
    expect(refusal(...fields)).toMatchObject({ code: 'INVALID_ARGUMENT', message });
  });

  test.each<[string, Uint8Array]>([
    ['values that end inside a number', named('x', embedding(delimited(1, Buffer.alloc(7))))],
    ['a value cut off', named('x', embedding(tag(1, 5), Buffer.alloc(3)))],
    ['a content longer than its input', input(Buffer.of(0x1a, 5, 0x61))],
    ['a length beyond the message', Buffer.of(0x1a, 0x7f, 0x1a, 0x01, 0x61)],
  ])('%s, as malformed', (_what, bytes) => {
    const error = refusal(bytes);
    expect(error.code).toBe('INTERNAL');
    expect(error.message).toMatch(/^malformed MultimodalInferRequest: .* at byte \d+$/);
  });

  test('more values one by one than a message may have fields', () => {
    const values = Buffer.alloc(5 * 1024 * 1024, fixed32(1, 1));
    expect(refusal(named('x', embedding(values)))).toMatchObject({ code: 'RESOURCE_EXHAUSTED' });
    expect(decode(named('x', embedding(values.subarray(0, 500_000)))).inputs[0]!.shape).toEqual([100_000]);
  });
});
