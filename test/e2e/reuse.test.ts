/** Memory that is used again never shows in another's answer: many sizes at once, both protocols, callers that leave. */

import { join } from 'node:path';
import { credentials, type GrpcObject, loadPackageDefinition, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const repository = temporaryDirectory();
writeModel(repository, 'identity', {
  config: 'max_batch_size: 16\ndynamic_batching { }',
  versions: { 1: identityModel('FP32', ['n']) },
});

let server: TestServer;
beforeAll(async () => {
  server = await startServer({ repository });
});
afterAll(() => server.stop());

/** A binary REST request of `count` elements that are all `value`. */
function binaryRequest(count: number, value: number): RequestInit {
  const data = new Float32Array(count).fill(value);
  const head = Buffer.from(
    JSON.stringify({
      inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, count], parameters: { binary_data_size: 4 * count } }],
      outputs: [{ name: 'OUTPUT0', parameters: { binary_data: true } }],
    }),
  );
  return {
    method: 'POST',
    headers: { 'inference-header-content-length': String(head.length) },
    body: Buffer.concat([head, new Uint8Array(data.buffer)]),
  };
}

async function roundTrip(count: number, value: number, signal?: AbortSignal): Promise<void> {
  const request = { ...binaryRequest(count, value), ...(signal && { signal }) };
  const reply = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/identity/infer`, request);
  const bytes = Buffer.from(await reply.arrayBuffer());
  expect(reply.status).toBe(200);
  const tensor = bytes.subarray(Number(reply.headers.get('inference-header-content-length')));
  expect(tensor.byteLength).toBe(4 * count);
  const first = tensor.readFloatLE(0);
  expect(first).toBe(value);
  // All elements are the first one: compared with itself, shifted by one.
  expect(Buffer.compare(tensor.subarray(4), tensor.subarray(0, -4))).toBe(0);
}

interface InferCall {
  cancel(): void;
}
interface InferReply {
  raw_output_contents: Buffer[];
}
interface InferClient {
  ModelInfer(request: object, done: (error: ServiceError | null, reply?: InferReply) => void): InferCall;
  close(): void;
}

function grpcClient(): InferClient {
  const file = join(import.meta.dirname, '../../proto/open_inference_grpc.proto');
  const { inference } = loadPackageDefinition(loadSync(file, { keepCase: true })) as unknown as {
    inference: GrpcObject & {
      GRPCInferenceService: new (target: string, from: object, options: object) => InferClient;
    };
  };
  return new inference.GRPCInferenceService(`127.0.0.1:${server.grpcPort}`, credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
  });
}

/** Sends `count` elements that are all `value`; gives up where `leave` says so. */
function callAndCompare(client: InferClient, count: number, value: number, leave: boolean): Promise<void> {
  const data = Buffer.from(new Float32Array(count).fill(value).buffer);
  const request = {
    model_name: 'identity',
    inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, count] }],
    raw_input_contents: [data],
  };
  return new Promise((resolve, reject) => {
    const call = client.ModelInfer(request, (error, reply) => {
      if (error) {
        if (leave && error.code === 1) resolve();
        else reject(error);
      } else if (Buffer.compare(reply!.raw_output_contents[0]!, data) === 0) resolve();
      else reject(new Error(`the answer of ${count} times ${value} holds other bytes`));
    });
    if (leave) setTimeout(() => call.cancel(), value % 5);
  });
}

/** Runs `ask` 600 times from 12 callers with sizes that differ and repeat; a fifth is given up. */
async function manyCallers(ask: (count: number, value: number, leave: boolean) => Promise<void>): Promise<void> {
  let seed = 11;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next < 600) {
      const value = ++next;
      await ask(1 + random(4) ** 3 * 5000 + random(9000), value, random(5) === 0);
    }
  };
  await Promise.all(Array.from({ length: 12 }, caller));
}

test('binary REST requests of mixed sizes, a fifth of them given up, keep their bytes apart', () =>
  manyCallers(async (count, value, leave) => {
    if (!leave) return roundTrip(count, value);
    const leaving = new AbortController();
    const gone = roundTrip(count, value, leaving.signal).catch((error: Error) => expect(error.name).toBe('AbortError'));
    setImmediate(() => leaving.abort());
    await gone;
  }));

test('gRPC calls of mixed sizes, a fifth of them given up, keep their bytes apart', async () => {
  const client = grpcClient();
  await manyCallers((count, value, leave) => callAndCompare(client, count, value, leave));
  client.close();
});
