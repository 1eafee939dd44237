/** Section P of the catalogue: bytes that are no ModelInferRequest, or one that should cost a server dear. For both gRPC packages. */

import { repeat } from '../grpc/wire.js';
import { type Case, EXHAUSTED, expectAnswer, grpcCase, INTERNAL, INVALID, OK, special } from './case.js';
import {
  contents,
  delimited,
  fp32,
  goodInfer,
  goodInferV1,
  infer,
  inferV1,
  integer,
  intValue,
  longVarint,
  packedShape,
  parameter,
  raw,
  simpleInputs,
  tag,
  tensor,
  tensorV1,
  textValue,
  varint,
} from './message.js';
import { INFER_V1 } from './world.js';

const MIB = 1024 * 1024;

/** One case for each package: what is appended to a good request, or a message of its own. */
function both(
  row: string,
  name: string,
  extra: () => Uint8Array,
  status: number | readonly number[],
  says?: RegExp,
): Case[] {
  return [
    grpcCase(row, name, () => goodInfer(extra()), status, says),
    grpcCase(row, `${name}, inference.v1`, () => goodInferV1(extra()), status, says, { path: INFER_V1 }),
  ];
}

/** An unknown field number in both packages. */
const UNKNOWN = 100;

/** Groups of one field within each other: `depth` begins, then as many ends. */
function groups(depth: number): Buffer {
  return Buffer.concat([repeat(tag(UNKNOWN, 3), depth * 2), repeat(tag(UNKNOWN, 4), depth * 2)]);
}

/** A length of 2^64 - 1. */
const HUGE_LENGTH = longVarint(10, 1);

/** A request of model id_int64, id_bool ... with nothing but `fields` for contents. */
function typed(datatype: string, count: number, ...fields: Uint8Array[]): Buffer {
  return infer(`id_${datatype.toLowerCase()}`, tensor('INPUT0', datatype, [1, count], contents(...fields)));
}

const malformed: readonly Case[] = [
  ...both('P1', 'wire type 7', () => tag(UNKNOWN, 7), INTERNAL, /wire type 7/),
  ...both('P1', 'wire type 6', () => tag(UNKNOWN, 6), INTERNAL, /wire type 6/),
  ...both('P2', 'field number 0', () => Buffer.from([0x02, 0x00]), INTERNAL, /field number 0/),
  ...both(
    'P2',
    'a tag beyond 32 bits',
    () => Buffer.from([0x80, 0x80, 0x80, 0x80, 0x10, 0]),
    INTERNAL,
    /tag beyond 32 bits/,
  ),
  ...both('P3', 'a varint of 11 bytes', () => Buffer.concat([tag(UNKNOWN, 0), longVarint(11, 0)]), INTERNAL, /varint/),
  ...both('P3', 'a length of 11 bytes', () => Buffer.concat([tag(UNKNOWN, 2), longVarint(11, 0)]), INTERNAL, /length/),
  ...both('P4', 'a string past the end', () => Buffer.from([0x0a, 10, 0x61]), INTERNAL, /length 10 where 1/),
  grpcCase('P5', 'bytes past the end', () => goodInfer(Buffer.from([0x3a, 99, 1])), INTERNAL, /length 99 where 1/),
  ...both(
    'P5',
    'a cut varint',
    () => Buffer.concat([tag(UNKNOWN, 0), Buffer.from([0xff])]),
    INTERNAL,
    /truncated varint/,
  ),
  grpcCase('P6', 'a sub-message past the end', () => goodInfer(Buffer.from([0x2a, 50])), INTERNAL, /length 50/),
  grpcCase(
    'P6',
    'a field past the end of its sub-message',
    () => infer('simple', delimited(5, Buffer.from([0x0a, 20, 0x61]), delimited(2, 'INT32'))),
    INTERNAL,
    /length 20/,
  ),
  ...both('P6', 'a length of 2^64-1', () => Buffer.concat([tag(UNKNOWN, 2), HUGE_LENGTH]), INTERNAL, /length/),
  ...both('P7', 'a name as a varint is an unknown field', () => integer(1, 5), OK),
  grpcCase(
    'P7',
    'a shape as a fixed64 is an unknown field',
    () => {
      const shape = Buffer.concat([tag(3, 1), Buffer.alloc(8)]);
      return infer(
        'simple',
        tensor('INPUT0', 'INT32', [1, 16], shape),
        ...simpleInputs().slice(1),
        raw(Buffer.alloc(64)),
        raw(Buffer.alloc(64)),
      );
    },
    OK,
  ),
  ...both('P8', 'a million groups in groups', () => groups(1_000_000), INTERNAL, /nested deeper/),
  ...both(
    'P8',
    'a group ended by another field',
    () => Buffer.concat([tag(UNKNOWN, 3), tag(UNKNOWN + 1, 4)]),
    INTERNAL,
    /group/,
  ),
  ...both('P8', 'an end without a group', () => tag(UNKNOWN, 4), INTERNAL, /group/),
  ...both('P8', 'a group without an end', () => tag(UNKNOWN, 3), INTERNAL, /group/),
  ...both('P9', 'a million unknown fields', () => repeat(integer(UNKNOWN, 1), 3_000_000), OK),
  ...both(
    'P9',
    'four million unknown fields',
    () => repeat(integer(UNKNOWN, 1), 12_000_000),
    EXHAUSTED,
    /more than 1048576 fields/,
  ),
  grpcCase('P10', 'a name that is not UTF-8', () => infer(Buffer.from([0x61, 0xff, 0xfe])), INTERNAL, /UTF-8/),
  grpcCase('P11', 'a surrogate in CESU-8', () => infer(Buffer.from([0xed, 0xa0, 0x80])), INTERNAL, /UTF-8/),
  grpcCase('P11', 'an overlong NUL', () => infer(Buffer.from([0xc0, 0x80])), INTERNAL, /UTF-8/),
  grpcCase(
    'P11',
    'an input name that is not UTF-8',
    () => infer('simple', tensor(Buffer.from([0xc0, 0x80]), 'INT32', [1])),
    INTERNAL,
    /UTF-8/,
  ),
  grpcCase(
    'P11',
    'a parameter name that is not UTF-8',
    () => goodInfer(parameter(Buffer.from([0xff]), intValue(1))),
    INTERNAL,
    /UTF-8/,
  ),
  ...both('P12', 'a name twice: the last counts', () => delimited(1, 'simple'), OK),
  ...both('P12', 'a name twice, the last unknown', () => delimited(1, 'gone'), 5, /'gone'/),
];

const entries: readonly Case[] = [
  grpcCase('P13', 'a parameter without a value', () => goodInfer(delimited(4, delimited(1, 'a'))), OK),
  grpcCase('P13', 'a parameter without a name', () => goodInfer(delimited(4, delimited(2, intValue(1)))), OK),
  grpcCase(
    'P13',
    'a parameter twice',
    () => goodInfer(parameter('a', intValue(1)), parameter('a', textValue('b'))),
    OK,
  ),
  grpcCase('P13', 'an empty entry, inference.v1', () => goodInferV1(delimited(4)), OK, undefined, { path: INFER_V1 }),
  grpcCase(
    'P13',
    'an entry twice, inference.v1',
    () => goodInferV1(delimited(4, delimited(1, 'a')), delimited(4, delimited(1, 'a'))),
    OK,
    undefined,
    {
      path: INFER_V1,
    },
  ),
  ...['__proto__', 'constructor', 'hasOwnProperty', 'toString'].map((key) =>
    grpcCase('P14', `a parameter named ${key}`, () => goodInfer(parameter(key, textValue('x'))), OK),
  ),
  grpcCase(
    'P22',
    'packed and single integers in one field',
    () => typed('INT64', 3, delimited(3, varint(1)), integer(3, 2), delimited(3, varint(3))),
    OK,
  ),
  grpcCase(
    'P22',
    'packed and single dimensions in one shape',
    () => infer('id_fp32', tensor('INPUT0', 'FP32', [1], integer(3, 2)), raw(fp32(1, 2))),
    OK,
  ),
  grpcCase(
    'P23',
    'packed floats of 7 bytes',
    () => typed('FP32', 2, delimited(6, Buffer.alloc(7))),
    INTERNAL,
    /7 bytes, not a multiple of 4/,
  ),
  grpcCase('P24', 'a bool of 2^63', () => typed('BOOL', 1, delimited(1, varint(2n ** 63n))), OK),
  grpcCase('P24', 'a negative int32 in 10 bytes', () => typed('INT32', 1, delimited(2, varint(-5))), OK),
  grpcCase('P25', 'a parameter with an empty value', () => goodInfer(parameter('a', Buffer.alloc(0))), OK),
  grpcCase(
    'P25',
    'a parameter with two values',
    () => goodInfer(parameter('a', Buffer.concat([intValue(1), textValue('b')]))),
    OK,
  ),
];

/** Each unit over and over, up to 4 MB and up to just below the message limit (64 MiB). */
const SIZES = [
  ['4 MB', 4_000_000],
  ['64 MB', 64 * MIB - 1000],
] as const;

function flood(
  row: string,
  what: string,
  unit: () => Buffer,
  status: number | readonly number[],
  says: RegExp,
  v1?: () => Buffer,
): Case[] {
  return SIZES.flatMap(([label, bytes]) => {
    const id = label === '4 MB' ? row : `P26 (${row})`;
    const cases = [grpcCase(id, `${label} of ${what}`, () => infer('simple', repeat(unit(), bytes)), status, says)];
    if (v1 !== undefined) {
      const message = () => inferV1('simple', repeat(v1(), bytes));
      cases.push(grpcCase(id, `${label} of ${what}, inference.v1`, message, status, says, { path: INFER_V1 }));
    }
    return cases;
  });
}

/** One tensor that holds `bytes` of `unit` in a packed field of its contents; its shape says as many elements. */
function packedFlood(row: string, datatype: string, field: number, expected: (bytes: number) => number): Case[] {
  return SIZES.map(([label, bytes]) =>
    special(
      label === '4 MB' ? row : `P26 (${row})`,
      `${label} of ${datatype} elements of one byte each (gRPC)`,
      async (world) => {
        const message = typed(datatype, bytes, delimited(field, Buffer.alloc(bytes, 1)));
        const answer = await world.grpc(message);
        expectAnswer(answer, { status: expected(bytes) });
      },
    ),
  );
}

const floods: readonly Case[] = [
  ...flood(
    'P15',
    'empty inputs',
    () => delimited(5),
    INVALID,
    /more than 256 inputs/,
    () => delimited(3),
  ),
  ...flood('P16', 'empty outputs', () => delimited(6), INVALID, /more than 256 outputs/),
  ...flood('P17', 'empty raw entries', () => raw(Buffer.alloc(0)), INVALID, /more than 256 raw_input_contents/),
  // 4 MB would become 32 MB of tensor: more than is made of typed contents. Half of them is just what may be.
  ...packedFlood('P18', 'INT64', 3, () => EXHAUSTED),
  grpcCase(
    'P18',
    '2 MB of INT64 elements of one byte each',
    () => typed('INT64', 2 * MIB, delimited(3, Buffer.alloc(2 * MIB, 1))),
    OK,
  ),
  ...packedFlood('P19', 'BOOL', 1, (bytes) => (bytes < 4 * MIB ? OK : EXHAUSTED)),
  grpcCase(
    'P18',
    'integers one by one, not packed',
    () => typed('INT64', 2_000_000, repeat(integer(3, 1), 4_000_000)),
    [OK, EXHAUSTED],
  ),
  grpcCase(
    'P18',
    'more integers than the shape says',
    () => typed('INT64', 5, delimited(3, Buffer.alloc(4_000_000, 1))),
    INVALID,
    /Expected 40, got 32000000/,
  ),
  grpcCase('P18', 'two million empty strings', () => typed('BYTES', 2_000_000, repeat(delimited(8), 4_000_000)), [
    OK,
    INVALID,
    EXHAUSTED,
  ]),
  grpcCase(
    'P20',
    'four million dimensions, packed',
    () => infer('simple', tensor('A', 'INT32', [], packedShape(3, [1]), delimited(3, Buffer.alloc(4_000_000, 1)))),
    INVALID,
    /more than 16 dimensions/,
  ),
  grpcCase(
    'P20',
    'two million dimensions, one by one',
    () => infer('simple', tensor('A', 'INT32', [], repeat(integer(3, 1), 4_000_000))),
    INVALID,
    /more than 16 dimensions/,
  ),
  grpcCase(
    'P20',
    'four million dimensions, inference.v1',
    () => inferV1('simple', tensorV1('A', 'INT32', [], Buffer.alloc(0), delimited(2, Buffer.alloc(4_000_000, 1)))),
    INVALID,
    /more than 16 dimensions/,
    { path: INFER_V1 },
  ),
  ...flood(
    'P21',
    'parameters',
    () => parameter('a', intValue(1)),
    INVALID,
    /more than 128 parameters/,
    () => delimited(4, delimited(1, 'a')),
  ),
  grpcCase(
    'P21',
    '400,000 parameters of an input',
    () => infer('simple', tensor('A', 'INT32', [], repeat(parameter('a', intValue(1)), 4_000_000))),
    INVALID,
    /more than 128 parameters of an input/,
  ),
  grpcCase(
    'P21',
    '400,000 parameters of an output',
    () => goodInfer(delimited(6, delimited(1, 'OUTPUT0'), repeat(parameter('a', intValue(1), 2), 4_000_000))),
    INVALID,
    /more than 128 parameters of an output/,
  ),
];

/** Contents fields are one message by the format; many of them must not cost more. */
const spans = grpcCase(
  'P21',
  '2 million contents fields of an input',
  () => infer('simple', tensor('A', 'INT32', [], repeat(contents(), 4_000_000))),
  INVALID,
  /more than 256 contents/,
);

export const protobufCases: readonly Case[] = [...malformed, ...entries, ...floods, spans];
