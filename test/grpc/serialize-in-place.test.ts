/**
 * Holds what infer-encode.ts relies on and grpc-js does not document: the server takes any object with `byteLength` and `copy` as a
 * serialized message, asks for both at once inside the handler's callback, and the bytes a deserializer sees are never reused.
 */
import grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { InferResponse } from '../../src/engine/types.js';
import type { DecodedInfer, DecodeFailure } from '../../src/grpc/decoded-infer.js';
import { deserializeModelInferRequest } from '../../src/grpc/infer-decode.js';
import { type EncodedResponse, encodeModelInferResponse } from '../../src/grpc/infer-encode.js';
import { ModelInferResponse } from './reference-decode.js';
import { delimited, input } from './wire.js';

const PATH = '/inference.GRPCInferenceService/ModelInfer';
const server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
const kept: Uint8Array[] = [];
let client: grpc.Client;

beforeAll(async () => {
  const handle = (
    call: { request: DecodedInfer | DecodeFailure },
    callback: (error: grpc.ServiceError | null, value?: EncodedResponse) => void,
  ) => {
    if (!call.request.ok) throw call.request.error;
    const { modelName, id, inputs } = call.request;
    kept.push(inputs[0]!.data);
    // As the engine does: outputs in shared memory that is taken back as soon as the callback returns.
    const slab = new Uint8Array(new SharedArrayBuffer(inputs[0]!.data.length));
    slab.set(inputs[0]!.data);
    const response: InferResponse = {
      modelName,
      modelVersion: '1',
      id,
      outputs: [{ name: 'Y', datatype: 'UINT8', shape: [slab.length], data: slab }],
    };
    callback(null, encodeModelInferResponse(response));
    slab.fill(0xdd);
  };
  server.register(
    PATH,
    handle as grpc.UntypedHandleCall as grpc.handleUnaryCall<unknown, unknown>,
    ((value: EncodedResponse) => value) as unknown as grpc.serialize<unknown>,
    deserializeModelInferRequest,
    'unary',
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
  });
});

afterAll(() => {
  client.close();
  server.forceShutdown();
});

function infer(bytes: Buffer): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      PATH,
      (request: Buffer) => request,
      (reply: Buffer) => ModelInferResponse.toObject(ModelInferResponse.decode(reply), { longs: Number }),
      bytes,
      (error, reply) => (error ? reject(error) : resolve(reply!)),
    );
  });
}

test.each([0, 1, 100, 2048, 70_000, 1_000_000])('%i bytes come back from lent memory', async (size) => {
  const data = Buffer.alloc(size, Buffer.from('0123456789abc'));
  const request = Buffer.concat([
    delimited(1, 'identity'),
    delimited(3, 'id'),
    input('X', 'UINT8'),
    delimited(7, data),
  ]);
  const reply = await infer(request);
  expect(reply).toMatchObject({
    model_name: 'identity',
    model_version: '1',
    id: 'id',
    outputs: [{ name: 'Y', datatype: 'UINT8', shape: [size] }],
  });
  expect((reply.raw_output_contents as Buffer[])[0]!.equals(data)).toBe(true);
});

test('views on received messages stay what they were while others come in', async () => {
  kept.length = 0;
  await Promise.all(
    Array.from({ length: 40 }, (_, value) =>
      infer(Buffer.concat([delimited(1, 'm'), input('X', 'UINT8'), delimited(7, Buffer.alloc(500, value))])),
    ),
  );
  expect(kept.map((view) => view[0]).sort((a, b) => a! - b!)).toEqual(Array.from({ length: 40 }, (_, value) => value));
  for (const view of kept) expect(view.every((byte) => byte === view[0])).toBe(true);
});
