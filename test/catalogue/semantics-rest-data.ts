/** Section I of the catalogue in the forms that REST has, second part: data, outputs, parameters, and what only a run finds out. */
import { expect } from 'vitest';
import { type Case, expectAnswer, restCase, special } from './case.js';
import { binary, binaryInput, one } from './json-request.js';
import { element, fp32, goodJson, int32, int64 } from './message.js';
import type { RestOptions } from './world.js';

const BAD = 400;

const data: readonly Case[] = [
  restCase('I27', 'data too short', 'id_fp32', () => one({ data: [1] }), BAD, /expected \[1,2\]/),
  binary(
    'I27',
    'bytes too short',
    'id_fp32',
    binaryInput(7),
    Buffer.alloc(7),
    BAD,
    /'INPUT0' for model 'id_fp32'. Expected 8, got 7/,
  ),
  restCase('I28', 'data too long', 'id_fp32', () => one({ data: [1, 2, 3] }), BAD, /expected \[1,2\]/),
  binary('I28', 'bytes too long', 'id_fp32', binaryInput(9), Buffer.alloc(9), BAD, /Expected 8, got 9/),
  binary(
    'I29',
    'fewer bytes behind the JSON than it says',
    'id_fp32',
    binaryInput(8),
    Buffer.alloc(7),
    BAD,
    /'INPUT0'.*1 additional bytes/,
  ),
  binary(
    'I29',
    'more bytes behind the JSON than it says',
    'id_fp32',
    binaryInput(8),
    Buffer.alloc(9),
    BAD,
    /unexpected additional input data/,
  ),
  binary(
    'I30',
    'bytes and data',
    'id_fp32',
    one({ parameters: { binary_data_size: 8 } }),
    Buffer.alloc(8),
    BAD,
    /'data'.*'binary_data_size'.*'INPUT0'/,
  ),
  binary('I31', 'bytes without inputs', 'id_fp32', { inputs: [] }, Buffer.alloc(8), BAD),
  restCase(
    'I34',
    'no data at all',
    'id_fp32',
    () => one({ data: undefined }),
    BAD,
    /no field is set for input 'INPUT0'/,
  ),
  restCase('I34', 'empty data', 'id_fp32', () => one({ data: [] }), BAD, /expected \[1,2\]/),
  restCase('I34', 'data null', 'id_fp32', () => one({ data: null }), BAD, /'data'/),
  restCase('I37', 'FP16 in JSON', 'id_fp16', () => one({ datatype: 'FP16' }), BAD, /FP16.*INPUT0/),
  binary(
    'I38',
    'a BOOL byte of 2',
    'id_bool',
    binaryInput(2, { datatype: 'BOOL' }),
    Buffer.from([1, 2]),
    BAD,
    /'INPUT0'.*BOOL/,
  ),
  binary(
    'I39',
    'a string length past the end',
    'id_bytes',
    binaryInput(5, { datatype: 'BYTES', shape: [1, 1] }),
    Buffer.from([5, 0, 0, 0, 97]),
    BAD,
    /'INPUT0'.*length 5/,
  ),
  binary(
    'I40',
    'bytes behind the last string',
    'id_bytes',
    binaryInput(10, { datatype: 'BYTES', shape: [1, 1] }),
    Buffer.concat([element('a'), element('b')]),
    BAD,
    /expecting 1/,
  ),
  binary(
    'I41',
    'a string length of 2^32-1',
    'id_bytes',
    binaryInput(5, { datatype: 'BYTES', shape: [1, 1] }),
    Buffer.from([255, 255, 255, 255, 0]),
    BAD,
    /4294967295/,
  ),
  binary(
    'I42',
    'fewer strings than the shape says',
    'id_bytes',
    binaryInput(5, { datatype: 'BYTES' }),
    element('a'),
    BAD,
    /expected 2 string elements.*got 1/,
  ),
  binary(
    'I44',
    'a string that is not UTF-8',
    'id_bytes',
    binaryInput(6, { datatype: 'BYTES', shape: [1, 1] }),
    element(Buffer.from([255, 254])),
    BAD,
    /UTF-8/,
  ),
  restCase(
    'I44',
    'JSON that is not UTF-8',
    'id_bytes',
    () => Buffer.concat([Buffer.from('{"id":"'), Buffer.from([255]), Buffer.from('"}')]),
    BAD,
    /UTF-8/,
  ),
];

const rest: readonly Case[] = [
  restCase(
    'I46',
    'an unknown output',
    'simple',
    () => goodJson({ outputs: [{ name: 'GONE' }] }),
    BAD,
    /'GONE' for model 'simple'/,
  ),
  restCase(
    'I47',
    'an output twice',
    'simple',
    () => goodJson({ outputs: [{ name: 'OUTPUT0' }, { name: 'OUTPUT0' }] }),
    BAD,
    /'OUTPUT0' already exists/,
  ),
  restCase(
    'I48',
    '100,000 outputs',
    'simple',
    () => goodJson({ outputs: new Array(100_000).fill({ name: 'OUTPUT0' }) }),
    BAD,
    /more than 256 outputs/,
  ),
  restCase(
    'I48',
    '100,000 inputs',
    'simple',
    () => ({ inputs: new Array(100_000).fill({ name: 'A', datatype: 'FP32', shape: [1], data: [1] }) }),
    BAD,
    /more than 256 inputs/,
  ),
  restCase(
    'I49',
    '100,000 parameters',
    'simple',
    () => goodJson({ parameters: Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`p${i}`, 1])) }),
    BAD,
    /more than 128 parameters/,
  ),
  restCase(
    'I50',
    'an input in shared memory',
    'id_fp32',
    () => one({ data: undefined, parameters: { shared_memory_region: 'r' } }),
    501,
    /shared memory/,
  ),
  restCase(
    'I50',
    'an output in shared memory',
    'simple',
    () => goodJson({ outputs: [{ name: 'OUTPUT0', parameters: { shared_memory_region: 'r' } }] }),
    501,
    /shared memory/,
  ),
  ...['systemsharedmemory', 'cudasharedmemory'].flatMap((kind) => [
    restCase('I50', `${kind} status`, `/v2/${kind}/status`, undefined, 501, /shared memory/),
    restCase(
      'I50',
      `${kind} register`,
      `/v2/${kind}/region/r/register`,
      () => ({ key: '/x', offset: 0, byte_size: 8 }),
      501,
      /shared memory/,
    ),
    restCase('I50', `${kind} unregister`, `/v2/${kind}/unregister`, () => ({}), 501, /shared memory/),
  ]),
  restCase(
    'I51',
    'a parameter with the reserved prefix',
    'simple',
    () => goodJson({ parameters: { triton_x: 1 } }),
    BAD,
    /'triton_'/,
  ),
  ...[-1, 1.5, '"1"', true, '18446744073709551615', '99999999999999999999'].flatMap((value) =>
    ['priority', 'timeout'].map((name) =>
      restCase(
        'I52',
        `${name} ${value}`,
        'simple',
        () => `${JSON.stringify(goodJson()).slice(0, -1)},"parameters":{"${name}":${value}}}`,
        BAD,
        new RegExp(name),
      ),
    ),
  ),
  restCase(
    'I53',
    'a parameter that is an object',
    'simple',
    () => goodJson({ parameters: { a: {} } }),
    BAD,
    /parameter 'a'/,
  ),
  restCase(
    'I53',
    'a parameter that is null',
    'simple',
    () => goodJson({ parameters: { a: null } }),
    BAD,
    /parameter 'a'/,
  ),
  restCase(
    'I53',
    'parameters named __proto__ and constructor',
    'simple',
    () => `${JSON.stringify(goodJson()).slice(0, -1)},"parameters":{"__proto__":1,"constructor":2}}`,
    200,
  ),
  restCase(
    'I54',
    'sequence_id for a stateless model',
    'simple',
    () => goodJson({ parameters: { sequence_id: 7, sequence_start: true } }),
    200,
  ),
];

const longData = (values: readonly (number | bigint)[]): string =>
  `{"inputs":[{"name":"INPUT0","datatype":"INT64","shape":[1,${values.length}],"data":[${values.join()}]}]}`;
const pair = (datatype: string, a: readonly (number | bigint)[], b: readonly (number | bigint)[]): string => {
  const input = (name: string, values: readonly (number | bigint)[]): string =>
    `{"name":"${name}","datatype":"${datatype}","shape":[1,4],"data":[${values.join()}]}`;
  return `{"inputs":[${input('INPUT0', a)},${input('INPUT1', b)}]}`;
};
const binaryOptions = (json: object): RestOptions => ({
  headers: { 'inference-header-content-length': String(JSON.stringify(json).length) },
});

const runs: readonly Case[] = [
  special('I45', 'NaN, infinities, -0 and subnormals come back bit by bit (REST, binary)', async (world) => {
    const bytes = Buffer.from(
      Uint32Array.of(0x7fc00001, 0xffc00000, 0x7f800001, 0x7f800000, 0xff800000, 0x80000000, 1, 0x807fffff).buffer,
    );
    const json = { ...binaryInput(32, { shape: [1, 8] }), parameters: { binary_data_output: true } };
    const answer = await world.rest(
      'id_fp32',
      Buffer.concat([Buffer.from(JSON.stringify(json)), bytes]),
      binaryOptions(json),
    );
    expectAnswer(answer, { status: 200 });
    expect(answer.body.subarray(-32).toString('hex')).toBe(bytes.toString('hex'));
  }),
  restCase('I55', 'an index out of range', 'gather', () => longData([10]), BAD, /model 'gather'.*idx=10/),
  restCase(
    'I56',
    'the least INT32 divided by -1',
    'divide',
    () => pair('INT32', [1, 2, 3, -(2 ** 31)], [1, 1, 1, -1]),
    BAD,
    /'INPUT0'.*INT32/,
  ),
  restCase(
    'I56',
    'the least INT64 modulo -1',
    'modulo',
    () => pair('INT64', [1, 2, 3, -(2n ** 63n)], [1, 1, 1, -1]),
    BAD,
    /'INPUT0'.*INT64/,
  ),
  restCase(
    'I56',
    'a division by 0',
    'divide',
    () => pair('INT32', [1, 2, 3, 4], [1, 1, 1, 0]),
    BAD,
    /division by zero/,
  ),
  binary(
    'I56',
    'the least INT32 divided by -1',
    'divide',
    {
      inputs: ['INPUT0', 'INPUT1'].map((name) => ({
        name,
        datatype: 'INT32',
        shape: [1, 4],
        parameters: { binary_data_size: 16 },
      })),
    },
    Buffer.concat([int32(-(2 ** 31), 1, 1, 1), int32(-1, 1, 1, 1)]),
    BAD,
    /'INPUT0'.*INT32/,
  ),
  restCase(
    'I57',
    'an output of 2^40 elements',
    'fill',
    () => '{"inputs":[{"name":"INPUT0","datatype":"INT64","shape":[2],"data":[1048576,1048576]}]}',
    429,
    /memory/,
  ),
  restCase(
    'I58',
    'an output larger than what may be sent',
    'fill',
    () => '{"inputs":[{"name":"INPUT0","datatype":"INT64","shape":[2],"data":[75000,1000]}]}',
    429,
  ),
  special('I60', 'one poisoned request in a batch of 32 fails alone (REST)', async (world) => {
    const answers = await Promise.all(
      Array.from({ length: 32 }, (_, i) => world.rest('gather', longData([i === 17 ? 99 : i % 10, 3]))),
    );
    for (const [i, answer] of answers.entries()) {
      expectAnswer(answer, { status: i === 17 ? BAD : 200 });
      if (i !== 17) expect(JSON.parse(answer.body.toString()).outputs[0].data).toEqual([i % 10, 3]);
    }
  }),
  binary(
    'I60',
    'a good request',
    'gather',
    { inputs: [{ name: 'INPUT0', datatype: 'INT64', shape: [1, 1], parameters: { binary_data_size: 8 } }] },
    int64(3),
    200,
  ),
  binary('I60', 'a good request', 'id_fp32', binaryInput(8), fp32(1, 2), 200),
];

export const restDataCases: readonly Case[] = [...data, ...rest, ...runs];
