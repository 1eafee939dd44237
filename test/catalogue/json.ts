/** Section R of the catalogue: JSON. NaN and Infinity are read and written, as Triton's clients and Python's JSON do. */
import { expect } from 'vitest';
import { type Case, expectAnswer, restCase, special } from './case.js';
import { goodJson } from './message.js';

const BAD = 400;
const MIB = 1024 * 1024;
const GOOD = JSON.stringify(goodJson());
const INFER = '/v2/models/simple/infer';

/** A request of `datatype` [1,n] whose elements are this JSON text. */
const elements = (datatype: string, text: string, count = 1): string =>
  `{"inputs":[{"name":"INPUT0","datatype":"${datatype}","shape":[1,${count}],"data":[${text}]}]}`;

const json: readonly Case[] = [
  restCase('R6', 'an empty body', INFER, () => '', BAD, /JSON/, { method: 'POST' }),
  ...['[]', 'null', '"x"', '1', 'true'].map((body) =>
    restCase('R7', `the body ${body}`, INFER, () => body, BAD, /an object for the request/),
  ),
  ...[
    '{',
    '{"inputs":}',
    '{"inputs":[}',
    "{'inputs':[]}",
    '{"inputs":[]',
    '{"inputs":[]}}',
    '{"inputs":[]}x',
    '{"a"}',
    '{,}',
    '{"id":"\n"}',
    '{"id":"\\x"}',
    '{"id":"\\u12"}',
    '\0',
  ].map((body) => restCase('R8', `broken JSON ${JSON.stringify(body)}`, INFER, () => body, BAD, /JSON/)),
  restCase(
    'R9',
    'a byte order mark',
    INFER,
    () => Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), Buffer.from(GOOD)]),
    BAD,
    /JSON/,
  ),
  ...[
    '.5',
    '01',
    '1.',
    '+1',
    '1e',
    '0x10',
    '-',
    '--1',
    'nan',
    'Inf',
    '-NaN',
    '1_000',
    '1,',
    ',1',
    '1 2',
    '/* */1',
    '1//',
  ].map((text) =>
    special('R10', `the number ${text} (REST)`, async (world) => {
      const answer = await world.rest('id_fp32', elements('FP32', text));
      expectAnswer(answer, { status: BAD, echo: '/*' });
    }),
  ),
  special('R10', 'NaN and infinities are read and written (REST)', async (world) => {
    const answer = await world.rest('id_fp32', elements('FP32', 'NaN,Infinity,-Infinity', 3));
    expectAnswer(answer, { status: 200 });
    expect(answer.body.toString()).toContain('[NaN,Infinity,-Infinity]');
  }),
];

/** Long integers that a double cannot hold, or that are out of range. */
const exact = (datatype: string, text: string): Case =>
  special('R12', `${datatype} ${text} comes back exactly (REST)`, async (world) => {
    const answer = await world.rest(`id_${datatype.toLowerCase()}`, elements(datatype, text));
    expectAnswer(answer, { status: 200 });
    expect(answer.body.toString()).toContain(`"data":[${text}]`);
  });

const refusedElement = (datatype: string, text: string, row = 'R13'): Case =>
  restCase(
    row,
    `${datatype} ${text}`,
    `id_${datatype.toLowerCase()}`,
    () => elements(datatype, text),
    BAD,
    /data|element|range|string|surrogate/i,
  );

const numbers: readonly Case[] = [
  exact('INT64', '9007199254740993'),
  exact('INT64', '9223372036854775807'),
  exact('INT64', '-9223372036854775808'),
  exact('UINT64', '18446744073709551615'),
  refusedElement('INT64', '9223372036854775808', 'R12'),
  refusedElement('UINT64', '18446744073709551616', 'R12'),
  refusedElement('UINT64', '-1', 'R12'),
  refusedElement('INT32', '1.5'),
  refusedElement('INT32', '"3"'),
  refusedElement('INT32', 'true'),
  refusedElement('INT32', 'null'),
  refusedElement('INT32', '[]'),
  refusedElement('INT32', '{}'),
  refusedElement('INT32', '2147483648'),
  refusedElement('INT8', '300'),
  refusedElement('UINT8', '-1'),
  refusedElement('UINT8', 'NaN'),
  refusedElement('BOOL', '2'),
  refusedElement('BOOL', '"true"'),
  refusedElement('BYTES', '1'),
  refusedElement('BYTES', 'true'),
  refusedElement('FP32', '"1.0"'),
  refusedElement('FP32', '1e39'),
  refusedElement('FP64', '1e400'),
  refusedElement('BYTES', '"\\ud800"', 'R14'),
  refusedElement('BYTES', '"\\udc00\\ud800"', 'R14'),
  restCase('R14', 'a lone surrogate in a name', 'simple', () => `{"inputs":[{"name":"\\ud800"}]}`, BAD, /surrogate/),
];

const deep = (row: string, what: string, body: () => string | Uint8Array): Case =>
  restCase(row, what, INFER, body, BAD, /deeper|depth|data|JSON|shape/i);
const nested = (depth: number): string => `{"inputs":[],"x":${'['.repeat(depth)}${']'.repeat(depth)}}`;

const large: readonly Case[] = [
  deep('R16', 'depth 101 in a member nobody asked for', () => nested(101)),
  deep('R16', 'depth 250,000', () => nested(250_000)),
  deep('R16', '8 million brackets', () => nested(8 * MIB)),
  deep('R16', '8 million brackets as data', () => elements('FP32', '['.repeat(8 * MIB))),
  deep('R16', '8 million objects in objects', () => `{"x":${'{"a":'.repeat(2 * MIB)}`),
  restCase(
    'R17',
    '48 MB of empty arrays in a member nobody asked for',
    INFER,
    () => `{"inputs":[],"x":[${'[],'.repeat(16_000_000)}[]]}`,
    BAD,
    /expected 2 inputs/,
  ),
  restCase(
    'R17',
    '48 MB of empty arrays as data',
    'id_fp32',
    () => elements('FP32', `${'[],'.repeat(16_000_000)}[]`, 16_000_001),
    BAD,
    /'data'/,
  ),
  restCase(
    'R17',
    '48 MB of empty objects as inputs',
    'id_fp32',
    () => `{"inputs":[${'{},'.repeat(16_000_000)}{}]}`,
    BAD,
    /input without 'name'/,
  ),
  restCase(
    'R17',
    '62 MB of text for 124 MB of floats',
    'id_fp32',
    () => elements('FP32', `${'1,'.repeat(31_000_000)}1`, 31_000_001),
    413,
    /tensors of the request take 124000004 bytes/,
  ),
  restCase(
    'R17',
    '62 MB of strings',
    'id_bytes',
    () => elements('BYTES', `${'"",'.repeat(20_000_000)}""`, 20_000_001),
    413,
    /tensors of the request take 80000004 bytes/,
  ),
  restCase('R17', '30 MB of string', 'id_bytes', () => elements('BYTES', `"${'\\u00e9'.repeat(5_000_000)}"`), 200),
  restCase(
    'R17',
    '62 MB of white space',
    'simple',
    () => Buffer.concat([Buffer.alloc(62 * MIB, 0x20), Buffer.from(GOOD)]),
    200,
  ),
  restCase(
    'R17',
    '60 MB of members',
    'simple',
    () => `{${'"inputs":[],'.repeat(5_000_000)}"x":1}`,
    BAD,
    /expected 2 inputs/,
  ),
  restCase(
    'R17',
    '48 MB of member names that look like indexes',
    'simple',
    () => `{"inputs":[],"x":{${Array.from({ length: 3_000_000 }, (_, i) => `"${i}":0,`).join('')}"a":0}}`,
    BAD,
    /expected 2 inputs/,
  ),
  restCase('R17', 'a number of a million digits', 'id_fp32', () => elements('FP32', '1'.repeat(1_000_000)), BAD),
  restCase(
    'R17',
    'a body above the limit',
    INFER,
    () => Buffer.alloc(64 * MIB + 1, 0x20),
    413,
    /exceeds the maximum allowed input size/,
  ),
];

const nesting: readonly Case[] = [
  ...['[1,2],[3]', '[1,2],3', '3,[1,2]', '[[1],[2]],[[3],[4]]', '[1,2]', '[1,2],[3,4],[5,6]', '1,2,3', '1,2,3,4,5'].map(
    (text) =>
      restCase(
        'R18',
        `the data [${text}] for shape [2,2]`,
        'id_fp32',
        () => `{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[2,2],"data":[${text}]}]}`,
        BAD,
        /expected \[2,2\]/,
      ),
  ),
  ...['[1,2],[3,4]', '1,2,3,4'].map((text) =>
    restCase(
      'R18',
      `the data [${text}] for shape [2,2]`,
      'id_fp32',
      () => `{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[2,2],"data":[${text}]}]}`,
      200,
    ),
  ),
];

export const jsonCases: readonly Case[] = [...json, ...numbers, ...large, ...nesting];
