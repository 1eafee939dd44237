/** Section I of the catalogue over gRPC, second part: data, outputs, parameters, and what only a run finds out. */
import { expect } from 'vitest';
import { LIVE } from '../grpc/front-end.js';
import { type Case, EXHAUSTED, expectAnswer, grpcCase, INVALID, OK, special, UNIMPLEMENTED } from './case.js';
import {
  boolValue,
  contents,
  delimited,
  element,
  fp32,
  goodInfer,
  infer,
  inferV1,
  int32,
  int64,
  intValue,
  output,
  parameter,
  raw,
  simpleInputs,
  tensor,
  tensorV1,
  textValue,
  uintValue,
  varint,
} from './message.js';
import { INFER_V1 } from './world.js';

const SIXTEEN = Buffer.alloc(64);
const V1 = { path: INFER_V1 };

const simple = (...fields: Uint8Array[]): Buffer => infer('simple', ...fields);
/** Model `id_fp32`: FP32 [batch, n]. */
const floats = (shape: readonly (number | bigint)[], bytes: Uint8Array): Buffer =>
  infer('id_fp32', tensor('INPUT0', 'FP32', shape), raw(bytes));

const data: readonly Case[] = [
  grpcCase(
    'I27',
    'raw contents too short',
    () => floats([1, 2], Buffer.alloc(7)),
    INVALID,
    /'INPUT0' for model 'id_fp32'. Expected 8, got 7/,
  ),
  grpcCase(
    'I27',
    'raw contents too short, inference.v1',
    () => inferV1('id_fp32', tensorV1('INPUT0', 'FP32', [1, 2], Buffer.alloc(7))),
    INVALID,
    /Expected 8, got 7/,
    V1,
  ),
  grpcCase('I28', 'raw contents too long', () => floats([1, 2], Buffer.alloc(9)), INVALID, /Expected 8, got 9/),
  grpcCase('I29', 'fewer raw entries than inputs', () => simple(...simpleInputs(), raw(SIXTEEN)), INVALID, /'INPUT1'/),
  grpcCase(
    'I29',
    'more raw entries than inputs',
    () => goodInfer(raw(SIXTEEN)),
    INVALID,
    /expected 2 raw_input_contents entries.*got 3/,
  ),
  grpcCase(
    'I30',
    'raw and typed contents together',
    () =>
      simple(
        tensor('INPUT0', 'INT32', [1, 16], contents(delimited(2, SIXTEEN.subarray(0, 16)))),
        tensor('INPUT1', 'INT32', [1, 16]),
        raw(SIXTEEN),
        raw(SIXTEEN),
      ),
    INVALID,
    /'INPUT0'/,
  ),
  grpcCase('I31', 'raw entries without inputs', () => simple(raw(SIXTEEN)), INVALID),
  grpcCase(
    'I32',
    'typed contents of another datatype',
    () => infer('id_fp32', tensor('INPUT0', 'FP32', [1, 1], contents(delimited(2, varint(1))))),
    INVALID,
    /'INPUT0'.*'INT32', expected datatype 'FP32'/,
  ),
  grpcCase(
    'I33',
    'more typed elements than the shape says',
    () => infer('id_fp32', tensor('INPUT0', 'FP32', [1, 1], contents(delimited(6, fp32(1, 2))))),
    INVALID,
    /Expected 4, got 8/,
  ),
  grpcCase(
    'I33',
    'fewer typed elements than the shape says',
    () => infer('id_int64', tensor('INPUT0', 'INT64', [1, 2], contents(delimited(3, varint(1))))),
    INVALID,
    /Expected 16, got 8/,
  ),
  grpcCase(
    'I34',
    'two typed fields',
    () =>
      infer(
        'id_fp32',
        tensor('INPUT0', 'FP32', [1, 1], contents(delimited(6, fp32(1)), delimited(7, Buffer.alloc(8)))),
      ),
    INVALID,
    /'INPUT0'/,
  ),
  grpcCase('I34', 'no data at all', () => infer('id_fp32', tensor('INPUT0', 'FP32', [1, 1])), INVALID, /'INPUT0'/),
  grpcCase(
    'I34',
    'empty contents',
    () => infer('id_fp32', tensor('INPUT0', 'FP32', [1, 1], contents())),
    INVALID,
    /Expected 4, got 0/,
  ),
  grpcCase(
    'I34',
    'no data at all, inference.v1',
    () => inferV1('id_fp32', tensorV1('INPUT0', 'FP32', [1, 1], Buffer.alloc(0))),
    INVALID,
    /Expected 4, got 0/,
    V1,
  ),
  grpcCase(
    'I37',
    'FP16 in typed contents',
    () => infer('id_fp16', tensor('INPUT0', 'FP16', [1, 1], contents(delimited(6, fp32(1))))),
    INVALID,
    /'INPUT0'/,
  ),
  grpcCase(
    'I38',
    'a BOOL byte of 2',
    () => infer('id_bool', tensor('INPUT0', 'BOOL', [1, 3]), raw(Buffer.from([0, 1, 2]))),
    INVALID,
    /'INPUT0'.*BOOL/,
  ),
  grpcCase(
    'I38',
    'a BOOL byte of 255 behind 16 million good ones',
    () => {
      const bytes = Buffer.alloc(16_000_000, 1);
      bytes[bytes.length - 1] = 255;
      return infer('id_bool', tensor('INPUT0', 'BOOL', [1, bytes.length]), raw(bytes));
    },
    INVALID,
    /BOOL/,
  ),
];

/** Model `id_bytes`: BYTES [batch, n]. */
const texts = (count: number, bytes: Uint8Array): Buffer =>
  infer('id_bytes', tensor('INPUT0', 'BYTES', [1, count]), raw(bytes));

const strings: readonly Case[] = [
  grpcCase(
    'I39',
    'a string length past the end',
    () => texts(1, Buffer.from([5, 0, 0, 0, 0x61])),
    INVALID,
    /'INPUT0'.*string of length 5 but only 1/,
  ),
  grpcCase(
    'I39',
    'a string length past the end, inference.v1',
    () => inferV1('id_bytes', tensorV1('INPUT0', 'BYTES', [1, 1], Buffer.from([5, 0, 0, 0, 0x61]))),
    INVALID,
    /'INPUT0'.*length 5/,
    V1,
  ),
  grpcCase(
    'I40',
    'bytes behind the last string',
    () => texts(1, Buffer.concat([element('a'), element('b')])),
    INVALID,
    /'INPUT0'.*expecting 1/,
  ),
  grpcCase(
    'I41',
    'a string length of 2^32-1',
    () => texts(1, Buffer.from([255, 255, 255, 255, 0])),
    INVALID,
    /4294967295/,
  ),
  grpcCase(
    'I42',
    'fewer strings than the shape says',
    () => texts(2, element('a')),
    INVALID,
    /expected 2 string elements.*got 1/,
  ),
  grpcCase(
    'I42',
    'three bytes behind the last string',
    () => texts(1, Buffer.concat([element('a'), Buffer.alloc(3)])),
    INVALID,
    /incomplete string length indicator.*'INPUT0'/,
  ),
  grpcCase('I43', 'a string count that no message could hold', () => texts(2 ** 40, element('a')), INVALID, /'INPUT0'/),
  grpcCase(
    'I44',
    'a string that is not UTF-8',
    () => texts(1, element(Buffer.from([0xff, 0xfe]))),
    INVALID,
    /'INPUT0'.*UTF-8/,
  ),
  grpcCase(
    'I44',
    'a character cut by the end of its string',
    () => texts(2, Buffer.concat([element(Buffer.from([0xc3])), element(Buffer.from([0xa9]))])),
    INVALID,
    /UTF-8/,
  ),
  grpcCase('I44', '64 MB of empty strings', () => texts(16_000_000, Buffer.alloc(64_000_000)), [
    OK,
    INVALID,
    EXHAUSTED,
  ]),
  grpcCase(
    'I44',
    '32 MB of short strings that are not ASCII',
    () => {
      const one = element('é');
      return texts(5_000_000, Buffer.alloc(5_000_000 * one.length, one));
    },
    [OK, INVALID, EXHAUSTED],
  ),
  grpcCase(
    'I44',
    '64 MB of one string that is not ASCII',
    () => {
      const text = Buffer.alloc(60_000_000, 'é');
      return texts(1, element(text));
    },
    [OK, INVALID, EXHAUSTED],
  ),
];

const outputsAndParameters: readonly Case[] = [
  grpcCase('I46', 'an unknown output', () => goodInfer(output('GONE')), INVALID, /'GONE' for model 'simple'/),
  grpcCase(
    'I47',
    'an output twice',
    () => goodInfer(output('OUTPUT0'), output('OUTPUT0')),
    INVALID,
    /'OUTPUT0' already exists/,
  ),
  grpcCase(
    'I48',
    '100,000 outputs',
    () => goodInfer(Buffer.concat(Array.from({ length: 100_000 }, () => output('OUTPUT0')))),
    INVALID,
    /more than 256 outputs/,
  ),
  grpcCase(
    'I50',
    'an input in shared memory',
    () =>
      simple(
        tensor('INPUT0', 'INT32', [1, 16], parameter('shared_memory_region', textValue('r'))),
        tensor('INPUT1', 'INT32', [1, 16]),
        raw(SIXTEEN),
        raw(SIXTEEN),
      ),
    UNIMPLEMENTED,
    /'INPUT0'.*'shared_memory_region'/,
  ),
  grpcCase(
    'I50',
    'an output in shared memory',
    () => goodInfer(output('OUTPUT0', parameter('shared_memory_region', textValue('r'), 2))),
    UNIMPLEMENTED,
    /'OUTPUT0'/,
  ),
  ...[
    'SystemSharedMemoryRegister',
    'SystemSharedMemoryStatus',
    'CudaSharedMemoryRegister',
    'CudaSharedMemoryUnregister',
  ].map((rpc) =>
    grpcCase('I50', rpc, () => Buffer.alloc(0), UNIMPLEMENTED, /shared memory/i, {
      path: LIVE.replace('ServerLive', rpc),
    }),
  ),
  grpcCase(
    'I51',
    'a parameter with the reserved prefix',
    () => goodInfer(parameter('triton_x', intValue(1))),
    INVALID,
    /'triton_x'.*'triton_'/,
  ),
  grpcCase('I52', 'priority -1', () => goodInfer(parameter('priority', intValue(-1))), INVALID, /'priority'/),
  grpcCase(
    'I52',
    'priority 2^64-1',
    () => goodInfer(parameter('priority', uintValue(2n ** 64n - 1n))),
    INVALID,
    /'priority'/,
  ),
  grpcCase('I52', 'priority as text', () => goodInfer(parameter('priority', textValue('1'))), INVALID, /'priority'/),
  grpcCase('I52', 'timeout -1', () => goodInfer(parameter('timeout', intValue(-1))), INVALID, /'timeout'/),
  grpcCase('I52', 'timeout 2^63', () => goodInfer(parameter('timeout', uintValue(2n ** 63n))), INVALID, /'timeout'/),
  grpcCase('I52', 'timeout as a bool', () => goodInfer(parameter('timeout', boolValue(true))), INVALID, /'timeout'/),
  grpcCase(
    'I54',
    'sequence_id for a stateless model',
    () => goodInfer(parameter('sequence_id', intValue(7)), parameter('sequence_start', boolValue(true))),
    OK,
  ),
];

const runs: readonly Case[] = [
  special('I45', 'NaN, infinities, -0 and subnormals come back bit by bit (gRPC)', async (world) => {
    const bytes = Buffer.from(
      Uint32Array.of(0x7fc00001, 0xffc00000, 0x7f800001, 0x7f800000, 0xff800000, 0x80000000, 1, 0x807fffff).buffer,
    );
    const answer = await world.grpc(floats([1, 8], bytes));
    expectAnswer(answer, { status: OK });
    expect(answer.body.subarray(-32).toString('hex')).toBe(bytes.toString('hex'));
  }),
  grpcCase(
    'I55',
    'an index out of range',
    () => infer('gather', tensor('INPUT0', 'INT64', [1, 1]), raw(int64(10))),
    INVALID,
    /model 'gather'.*out of data bounds|indices/i,
  ),
  grpcCase(
    'I56',
    'the least INT32 divided by -1',
    () =>
      infer(
        'divide',
        tensor('INPUT0', 'INT32', [1, 4]),
        tensor('INPUT1', 'INT32', [1, 4]),
        raw(int32(1, 2, 3, -(2 ** 31))),
        raw(int32(1, 1, 1, -1)),
      ),
    INVALID,
    /'INPUT0'.*INT32/,
  ),
  grpcCase(
    'I56',
    'the least INT64 modulo -1',
    () =>
      infer(
        'modulo',
        tensor('INPUT0', 'INT64', [1, 4]),
        tensor('INPUT1', 'INT64', [1, 4]),
        raw(int64(1, 2, 3, -(2n ** 63n))),
        raw(int64(1, 1, 1, -1)),
      ),
    INVALID,
    /'INPUT0'.*INT64/,
  ),
  grpcCase(
    'I56',
    'a division by 0',
    () =>
      infer(
        'divide',
        tensor('INPUT0', 'INT32', [1, 4]),
        tensor('INPUT1', 'INT32', [1, 4]),
        raw(int32(1, 2, 3, 4)),
        raw(int32(1, 1, 1, 0)),
      ),
    INVALID,
    /division by zero/,
  ),
  grpcCase(
    'I57',
    'an output of 2^40 elements',
    () => infer('fill', tensor('INPUT0', 'INT64', [2]), raw(int64(2 ** 20, 2 ** 20))),
    EXHAUSTED,
    /model 'fill'.*memory/,
  ),
  grpcCase(
    'I58',
    'an output larger than what may be sent',
    () => infer('fill', tensor('INPUT0', 'INT64', [2]), raw(int64(75_000, 1000))),
    EXHAUSTED,
  ),
  special('I60', 'one poisoned request in a batch of 32 fails alone (gRPC)', async (world) => {
    const request = (index: number): Buffer => infer('gather', tensor('INPUT0', 'INT64', [1, 2]), raw(int64(index, 3)));
    const answers = await Promise.all(
      Array.from({ length: 32 }, (_, i) => world.grpc(request(i === 17 ? 99 : i % 10))),
    );
    for (const [i, answer] of answers.entries()) {
      expectAnswer(answer, { status: i === 17 ? INVALID : OK });
      if (i !== 17) expect(answer.body.subarray(-8)).toEqual(fp32(i % 10, 3));
    }
    // They did share a batch.
    const { execution_count, inference_count } = await world.statistics('gather');
    expect(execution_count).toBeLessThanOrEqual(inference_count);
  }),
];

export const grpcDataCases: readonly Case[] = [...data, ...strings, ...outputsAndParameters, ...runs];
