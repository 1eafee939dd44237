import { expect, test } from 'vitest';
import { ClientError } from '../../src/client/client-error.js';
import { encodeInferFrame, encodeInferRequest, measureInferRequest } from '../../src/client/grpc-encode.js';
import type { InferRequest, ParameterValue } from '../../src/client/types.js';
import { decodeModelInferRequest } from '../../src/grpc/infer-decode.js';
import { Random } from '../grpc/random-request.js';
import { ModelInferRequest } from '../grpc/reference-decode.js';
import { ALL, plainParameter, plainTensor, randomInfer, rawOf, TYPED } from './random-tensors.js';

/** The bytes that protobufjs makes of it. */
function reference(request: InferRequest, typed: boolean): Buffer {
  const map = (parameters: Readonly<Record<string, ParameterValue>>) =>
    Object.fromEntries(Object.entries(parameters).map(([key, value]) => [key, plainParameter(value)]));
  const message = ModelInferRequest.fromObject({
    model_name: request.model,
    ...(request.version ? { model_version: request.version } : {}),
    ...(request.id ? { id: request.id } : {}),
    parameters: map(request.parameters ?? {}),
    inputs: request.inputs.map((input) => plainTensor(input, typed)),
    outputs: (request.outputs ?? []).map((output) => {
      if (typeof output === 'string') return { name: output };
      const { name, classification } = output;
      return { name, ...(classification === undefined ? {} : { parameters: map({ classification }) }) };
    }),
    raw_input_contents: typed ? [] : request.inputs.map(({ data }) => rawOf(data)),
  });
  return Buffer.from(ModelInferRequest.encode(message).finish());
}

test.each(['raw', 'typed'] as const)(
  'a thousand random requests are the bytes that protobufjs writes: %s',
  (encoding) => {
    for (let seed = 0; seed < 1000; seed++) {
      const request = randomInfer(new Random(seed), encoding === 'typed' ? TYPED : ALL);
      const bytes = encodeInferRequest(request, encoding);
      const expected = reference(request, encoding === 'typed');
      if (!bytes.equals(expected))
        expect({ seed, bytes: bytes.toString('hex') }).toEqual({ seed, bytes: expected.toString('hex') });
    }
  },
);

test('the server reads from both encodings the tensors that were given', () => {
  for (let seed = 0; seed < 300; seed++) {
    const request = randomInfer(new Random(seed), TYPED);
    const raw = decodeModelInferRequest(encodeInferRequest(request, 'raw'));
    const typed = decodeModelInferRequest(encodeInferRequest(request, 'typed'));
    const data = request.inputs.map((input) => rawOf(input.data).toString('hex'));
    expect(raw.inputs.map((input) => Buffer.from(input.data).toString('hex'))).toEqual(data);
    expect(typed.inputs.map((input) => Buffer.from(input.data).toString('hex'))).toEqual(data);
  }
});

test('a frame is the message behind its flag and length', () => {
  const request = randomInfer(new Random(7), ALL);
  const message = encodeInferRequest(request, 'raw');
  const frame = encodeInferFrame(request, 'raw');
  expect(frame[0]).toBe(0);
  expect(frame.readUInt32BE(1)).toBe(message.length);
  expect(frame.subarray(5)).toEqual(message);
});

test('a measured message writes itself as often as it is asked, anywhere', () => {
  const request = randomInfer(new Random(11), ALL);
  const measured = measureInferRequest(request, 'raw');
  const target = Buffer.alloc(measured.byteLength + 9);
  expect(measured.copy(target, 9)).toBe(measured.byteLength);
  expect(target.subarray(9)).toEqual(measured.toBuffer());
  expect(measured.length).toBe(measured.byteLength);
});

test('a parameter with an empty name is one', () => {
  const bytes = encodeInferRequest({ model: 'm', inputs: [], parameters: { '': 'value' } }, 'raw');
  expect(decodeModelInferRequest(bytes).parameters).toEqual(new Map([['', 'value']]));
});

const input = { name: 'x', shape: [1], data: new Float32Array(1) };

test.each<[InferRequest, 'raw' | 'typed', string]>([
  [{ model: '', inputs: [] }, 'raw', 'the request names no model'],
  [{ model: 'm', version: 1 as never, inputs: [] }, 'raw', "version of model 'm' is a number, expected a string"],
  [{ model: 'm', id: 1 as never, inputs: [] }, 'raw', 'id of the request is a number, expected a string'],
  [{ model: 'm' } as never, 'raw', 'the request has no inputs, expected an array of tensors'],
  [{ model: 'm', inputs: [input], outputs: [''] }, 'raw', 'an output asked for has no name'],
  [
    { model: 'm', inputs: [{ ...input, datatype: 'FP16', data: new Uint16Array(1) }] },
    'typed',
    "input 'x' is FP16, which typed contents have no field for: use the encoding 'raw'",
  ],
  [{ model: 'm', inputs: [{ ...input, shape: [2] }] }, 'typed', "input 'x' has 1 element, its shape [2] says 2"],
  [
    { model: 'm', inputs: [], parameters: { big: 2n ** 64n } },
    'raw',
    "parameter 'big' is 18446744073709551616, beyond 64 bits",
  ],
  [
    { model: 'm', inputs: [], parameters: { list: [] as never } },
    'raw',
    "parameter 'list' of the request is object, expected a boolean, number, bigint or string",
  ],
])('what cannot be sent is refused here: %#', (request, encoding, message) => {
  const error = (() => {
    try {
      encodeInferRequest(request, encoding);
    } catch (thrown) {
      return thrown;
    }
  })();
  expect(error).toBeInstanceOf(ClientError);
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', local: true, message });
});
