import { describe, expect, test } from 'vitest';
import { DATATYPES, type Datatype } from '../../src/base/datatype.js';
import type { InferOutput, InferResponse } from '../../src/engine/types.js';
import {
  type EncodedResponse,
  encodeModelInferResponse,
  encodeModelInferResponseV1,
} from '../../src/grpc/infer-encode.js';
import { Random } from './random-request.js';
import { ModelInferResponse, ModelInferResponseV1 } from './reference-decode.js';

/** Bytes as the engine lends them: in shared memory, at no particular place. */
function lent(bytes: Uint8Array, at = 3): Uint8Array {
  const view = new Uint8Array(new SharedArrayBuffer(bytes.length + at), at);
  view.set(bytes);
  return view;
}

const TEXTS = ['', 'OUTPUT0', 'é', '日本語の名前', 'a name that is longer than thirty-two characters are', '\u{1f600}'];
const SHAPES = [
  [],
  [0],
  [1],
  [8, 16],
  [127, 128],
  [16383, 16384, 2097151, 2097152],
  [2 ** 31, 2 ** 32 + 5, 2 ** 53 - 1],
];
const SIZES = [0, 0, 1, 8, 127, 128, 255, 256, 257, 16383, 16384, 70_000];

function randomResponse(random: Random): InferResponse {
  return {
    modelName: random.pick(TEXTS),
    modelVersion: random.pick(['', '1', '9007199254740993']),
    id: random.pick([...TEXTS, '18446744073709551615']),
    outputs: random.list(4, (): InferOutput => {
      const bytes = Buffer.alloc(random.pick(SIZES), random.bytes(31));
      return {
        name: random.pick(TEXTS),
        datatype: random.pick(Object.keys(DATATYPES) as Datatype[]),
        shape: random.pick(SHAPES),
        data: random.below(4) === 0 ? bytes : lent(bytes, random.below(9)),
      };
    }),
  };
}

/** In a frame that holds other bytes before and after, which must stay. */
function framed(encoded: EncodedResponse): Buffer {
  const frame = Buffer.alloc(encoded.byteLength + 12, 0xee);
  expect(encoded.copy(frame, 5)).toBe(encoded.byteLength);
  expect(frame.subarray(0, 5).every((byte) => byte === 0xee)).toBe(true);
  expect(frame.subarray(5 + encoded.byteLength).every((byte) => byte === 0xee)).toBe(true);
  return frame.subarray(5, 5 + encoded.byteLength);
}

const tensors = (response: InferResponse) =>
  response.outputs.map(({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(String) }));
const hexes = (response: InferResponse) => response.outputs.map(({ data }) => Buffer.from(data).toString('hex'));

describe('inference.ModelInferResponse', () => {
  test('random responses are written byte for byte as protobufjs writes them', () => {
    for (let seed = 0; seed < 400; seed++) {
      const response = randomResponse(new Random(seed));
      const message = ModelInferResponse.fromObject({
        model_name: response.modelName,
        model_version: response.modelVersion,
        id: response.id,
        outputs: tensors(response),
        raw_output_contents: response.outputs.map(({ data }) => Buffer.from(data)),
      });
      const written = framed(encodeModelInferResponse(response));
      expect(written.equals(Buffer.from(ModelInferResponse.encode(message).finish())), `seed ${seed}`).toBe(true);
    }
  });

  test('each datatype comes back through protobufjs with its bytes', () => {
    for (const datatype of Object.keys(DATATYPES) as Datatype[]) {
      const response: InferResponse = {
        modelName: 'all types',
        modelVersion: '2',
        id: 'id',
        outputs: [{ name: 'Y', datatype, shape: [2, 4], data: lent(Buffer.from('0123456789abcdef'.repeat(4), 'hex')) }],
      };
      const decoded = ModelInferResponse.toObject(
        ModelInferResponse.decode(framed(encodeModelInferResponse(response))),
        {
          longs: String,
        },
      );
      expect(decoded).toMatchObject({
        model_name: 'all types',
        model_version: '2',
        id: 'id',
        outputs: tensors(response),
      });
      expect(decoded.raw_output_contents.map((bytes: Buffer) => bytes.toString('hex'))).toEqual(hexes(response));
    }
  });

  test('an output of no elements has an entry of no bytes', () => {
    const output: InferOutput = { name: 'Y', datatype: 'FP32', shape: [3, 0], data: new Uint8Array(0) };
    const response = { modelName: 'm', modelVersion: '1', id: '', outputs: [output, output] };
    const decoded = ModelInferResponse.decode(framed(encodeModelInferResponse(response)));
    expect(ModelInferResponse.toObject(decoded).raw_output_contents).toHaveLength(2);
  });

  test('bytes are read when they are copied, not when the response is made', () => {
    const data = lent(Buffer.alloc(300));
    const encoded = encodeModelInferResponse({
      modelName: 'm',
      modelVersion: '1',
      id: '',
      outputs: [{ name: 'Y', datatype: 'UINT8', shape: [300], data }],
    });
    data.fill(7);
    expect(
      encoded
        .toBuffer()
        .subarray(-300)
        .every((byte) => byte === 7),
    ).toBe(true);
  });
});

test('inference.v1.ModelInferResponse: random responses are written byte for byte as protobufjs writes them', () => {
  for (let seed = 0; seed < 400; seed++) {
    const response = randomResponse(new Random(seed));
    const message = ModelInferResponseV1.fromObject({
      model_name: response.modelName,
      model_version: response.modelVersion,
      outputs: tensors(response).map((tensor, index) => ({
        ...tensor,
        raw_contents: Buffer.from(response.outputs[index]!.data),
      })),
    });
    const encoded = encodeModelInferResponseV1(response);
    const expected = Buffer.from(ModelInferResponseV1.encode(message).finish());
    expect(framed(encoded).equals(expected), `seed ${seed}`).toBe(true);
    expect(encoded.toBuffer().equals(expected), `seed ${seed}`).toBe(true);
  }
});
