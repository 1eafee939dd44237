import { expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import { ClientError } from '../../src/client/client-error.js';
import { decodeInferResponse, decodeStreamResponse } from '../../src/client/grpc-decode.js';
import { isBytesData } from '../../src/client/tensor.js';
import type { TensorData } from '../../src/client/types.js';
import { emitInput, Random, randomText } from '../grpc/random-request.js';
import { ModelInferResponse } from '../grpc/reference-decode.js';
import { delimited } from '../grpc/wire.js';
import { ALL, FIELD, plainTensor, randomTensor, rawOf, TYPED } from './random-tensors.js';

/** BYTES elements come back as bytes; everything else as it was. */
function received(data: TensorData): unknown {
  return isBytesData(data) ? data.map((element) => Uint8Array.from(Buffer.from(element as string))) : data;
}

function message(fields: object): Buffer {
  return Buffer.from(ModelInferResponse.encode(ModelInferResponse.fromObject(fields)).finish());
}

test.each(['raw', 'typed'] as const)(
  'a thousand random answers that protobufjs wrote come out as they were: %s',
  (encoding) => {
    for (let seed = 0; seed < 1000; seed++) {
      const random = new Random(seed);
      const outputs = random.list(4, () => randomTensor(random, encoding === 'typed' ? TYPED : ALL));
      const [model, version, id] = [randomText(random), randomText(random), randomText(random)];
      const bytes = message({
        model_name: model,
        model_version: version,
        id,
        parameters: {
          final: { bool_param: true },
          count: { int64_param: '-5' },
          ratio: { double_param: 0.5 },
          big: { uint64_param: '18446744073709551615' },
        },
        outputs: outputs.map((output) => plainTensor(output, encoding === 'typed')),
        raw_output_contents: encoding === 'typed' ? [] : outputs.map(({ data }) => rawOf(data)),
      });
      // Odd addresses, as in a received message.
      const moved = Buffer.alloc(bytes.length + 8).fill(bytes, seed % 8, (seed % 8) + bytes.length);
      const answer = decodeInferResponse(moved.subarray(seed % 8, (seed % 8) + bytes.length));
      expect({ seed, ...answer }).toEqual({
        seed,
        model,
        version,
        id,
        parameters: { final: true, count: -5, ratio: 0.5, big: 2n ** 64n - 1n },
        outputs: outputs.map(({ name, datatype, shape, data }) => ({ name, datatype, shape, data: received(data) })),
      });
    }
  },
);

test('contents may come in any order, packed, unpacked and in pieces, with unknown fields between', () => {
  for (let seed = 0; seed < 1000; seed++) {
    const random = new Random(seed);
    const output = randomTensor(random, TYPED);
    const plain = plainTensor(output, true);
    if (Object.keys(plain.contents!).length === 0) continue;
    const bytes = delimited(5, emitInput(random, plain));
    expect({ seed, outputs: decodeInferResponse(bytes).outputs }).toEqual({
      seed,
      outputs: [{ name: output.name, datatype: output.datatype, shape: output.shape, data: received(output.data) }],
    });
  }
});

test('bytes that were damaged are read as something or refused as INTERNAL, never anything else', () => {
  let refused = 0;
  for (let seed = 0; seed < 2000; seed++) {
    const random = new Random(seed);
    const outputs = random.list(3, () => randomTensor(random, TYPED));
    const typed = random.below(2) === 0;
    const bytes = message({
      model_name: 'm',
      outputs: outputs.map((output) => plainTensor(output, typed)),
      raw_output_contents: typed ? [] : outputs.map(({ data }) => rawOf(data)),
    });
    const damaged = Buffer.from(
      bytes.subarray(0, random.below(4) === 0 ? random.below(bytes.length + 1) : bytes.length),
    );
    for (let flips = 1 + random.below(3); flips > 0 && damaged.length > 0; flips--)
      damaged[random.below(Math.min(60, damaged.length))] = random.below(256);
    try {
      decodeInferResponse(damaged);
    } catch (error) {
      refused++;
      expect(error).toBeInstanceOf(ClientError);
      expect(error).toMatchObject({ code: 'INTERNAL', local: false });
    }
  }
  expect(refused).toBeGreaterThan(200);
});

test('elements that lie at an aligned address are views on the message, and one packed run of floats as well', () => {
  const data = new Float32Array([1, 2, 3]);
  for (const typed of [false, true]) {
    const bytes = message({
      outputs: [plainTensor({ name: 'y', datatype: 'FP32', shape: [3], data }, typed)],
      raw_output_contents: typed ? [] : [rawOf(data)],
    });
    const views = Array.from({ length: 4 }, (_, shift) => {
      const memory = Buffer.from(new ArrayBuffer(bytes.length + 4));
      memory.fill(bytes, shift, shift + bytes.length);
      const [output] = decodeInferResponse(memory.subarray(shift, shift + bytes.length)).outputs;
      expect(output!.data).toEqual(data);
      return (output!.data as Float32Array).buffer === memory.buffer;
    });
    expect(views.filter(Boolean)).toHaveLength(1);
  }
});

const tensor = (datatype: string, shape: number[], contents?: object) => ({ name: 'y', datatype, shape, contents });

test.each<[object, string]>([
  [{ outputs: [tensor('FP31', [1])] }, "output 'y' has datatype 'FP31', which the protocol does not know"],
  [{ outputs: [tensor('FP32', [-1, -2])] }, "output 'y' has shape [-1,-2]"],
  [{ outputs: [tensor('FP32', [2])] }, "output 'y' has no data, its shape says [2]"],
  [
    { outputs: [tensor('FP32', [2])], raw_output_contents: [Buffer.alloc(4)] },
    "output 'y' has 4 bytes, FP32 of shape [2] takes 8",
  ],
  [{ raw_output_contents: [Buffer.alloc(4)] }, 'the answer has 1 raw_output_contents for 0 outputs'],
  [
    { outputs: [tensor('INT32', [2], { int_contents: [1] })] },
    "output 'y' of datatype INT32 has 1 elements, its shape says 2",
  ],
  [
    { outputs: [tensor('INT32', [1], { int_contents: [1, 2] })] },
    "output 'y' of datatype INT32 has more than 1 elements, its shape says 1",
  ],
  [
    { outputs: [tensor('FP32', [1], { int_contents: [1] })] },
    "output 'y' of datatype FP32 has contents in field 2, which is not its datatype's",
  ],
  [
    { outputs: [tensor('BYTES', [2], { bytes_contents: [Buffer.from('a')] })] },
    "output 'y' of datatype BYTES has 1 elements, its shape says 2",
  ],
  [
    { outputs: [tensor('FP16', [1], { uint_contents: [1] })] },
    "output 'y' of datatype FP16 has typed contents, which have no field for it",
  ],
  [
    { outputs: [tensor('INT8', [1e9, 1e9], { int_contents: [1] })] },
    "output 'y' of datatype INT8 has 3 bytes of contents, its shape says 1000000000000000000 elements",
  ],
])('an answer that a server cannot have meant is an INTERNAL error: %#', (fields, message_) => {
  expect(() => decodeInferResponse(message(fields))).toThrow(
    expect.objectContaining({ code: 'INTERNAL', message: message_ }),
  );
});

test('a message of a stream has an error, an answer, or both', () => {
  const answer = message({ model_name: 'm', id: '7' });
  expect(decodeStreamResponse(delimited(1, 'broken'))).toEqual({ error: 'broken', answer: undefined });
  expect(decodeStreamResponse(delimited(2, answer))).toMatchObject({ error: '', answer: { model: 'm', id: '7' } });
  expect(decodeStreamResponse(Buffer.concat([delimited(2, answer), delimited(1, 'broken')]))).toMatchObject({
    error: 'broken',
    answer: { id: '7' },
  });
});

test('an answer in a stream may come without a message around it, as MLServer sends it', () => {
  const outputs = [{ name: 'y', datatype: 'INT8', shape: [2] }];
  const bare = { model_name: 'm', model_version: 'v1', outputs, raw_output_contents: [Buffer.of(1, 2)] };
  const answer = { model: 'm', version: 'v1', outputs: [{ name: 'y', data: Int8Array.of(1, 2) }] };
  expect(decodeStreamResponse(message(bare))).toMatchObject({ error: '', answer });
  expect(decodeStreamResponse(message({ model_name: 'm', id: '7' }))).toMatchObject({ error: '', answer: { id: '7' } });
  expect(decodeStreamResponse(delimited(2, message(bare)))).toMatchObject({ error: '', answer });
});

test('every datatype but the two half floats has a field for typed contents', () => {
  expect(ALL.filter((datatype: Datatype) => !FIELD[datatype])).toEqual(['FP16', 'BF16']);
});
