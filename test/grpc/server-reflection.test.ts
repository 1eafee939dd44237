import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { type ClientDuplexStream, credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { decodeFileDescriptors, messageNames } from './descriptors.js';
import { type FrontEnd, type Stub, startFrontEnd } from './front-end.js';

let front: FrontEnd;

beforeAll(async () => {
  front = await startFrontEnd();
});
afterAll(() => front.server.close());

const reflectionDir = join(dirname(createRequire(import.meta.url).resolve('@grpc/reflection')), '../proto');

interface ReflectionPackage {
  readonly grpc: { readonly reflection: Record<string, { ServerReflection: new (...args: unknown[]) => Stub }> };
}
interface Answer {
  readonly listServicesResponse: { readonly service: { readonly name: string }[] };
  readonly fileDescriptorResponse: { readonly fileDescriptorProto: Uint8Array[] };
  readonly errorResponse: { readonly errorCode: number };
}

function open(version: 'v1' | 'v1alpha') {
  const file = join(reflectionDir, `grpc/reflection/${version}/reflection.proto`);
  const { ServerReflection } = (loadPackageDefinition(loadSync(file)) as never as ReflectionPackage).grpc.reflection[
    version
  ]!;
  const stub = new ServerReflection(`127.0.0.1:${front.port}`, credentials.createInsecure());
  const stream = stub.ServerReflectionInfo!() as ClientDuplexStream<object, Answer>;
  const replies = stream[Symbol.asyncIterator]() as AsyncIterator<Answer>;
  return {
    async ask(request: object): Promise<Answer> {
      stream.write(request);
      return (await replies.next()).value;
    },
    close() {
      stream.end();
      stub.close();
    },
  };
}

test.each(['v1', 'v1alpha'] as const)('%s lists the services', async (version) => {
  const reflection = open(version);
  const { listServicesResponse } = await reflection.ask({ listServices: '*' });
  expect(listServicesResponse.service.map(({ name }) => name).sort()).toEqual([
    'grpc.health.v1.Health',
    'inference.GRPCInferenceService',
    'inference.v1.InferenceService',
  ]);
  reflection.close();
});

test.each(['v1', 'v1alpha'] as const)('%s gives every type that ModelInfer and ModelConfig need', async (version) => {
  const reflection = open(version);
  const { fileDescriptorResponse } = await reflection.ask({ fileContainingSymbol: 'inference.GRPCInferenceService' });
  const files = decodeFileDescriptors(fileDescriptorResponse.fileDescriptorProto);
  const names = messageNames(files);
  for (const name of [
    'inference.ModelInferRequest',
    'inference.ModelInferRequest.InferInputTensor',
    'inference.ModelInferRequest.ParametersEntry',
    'inference.InferTensorContents',
    'inference.ModelConfig',
    'inference.ModelStatistics',
  ]) {
    expect(names).toContain(name);
  }
  reflection.close();
});

test.each([
  'inference.ModelInferRequest',
  'inference.v1.TensorData',
  'inference.v1.Embedding',
  'grpc.health.v1.HealthCheckRequest',
])('%s is found by name', async (symbol) => {
  const reflection = open('v1');
  const { fileDescriptorResponse } = await reflection.ask({ fileContainingSymbol: symbol });
  expect(messageNames(decodeFileDescriptors(fileDescriptorResponse.fileDescriptorProto))).toContain(symbol);
  reflection.close();
});

test('an unknown symbol is an answer of its own, and the stream goes on', async () => {
  const reflection = open('v1');
  expect((await reflection.ask({ fileContainingSymbol: 'no.such.Thing' })).errorResponse).toMatchObject({
    errorCode: 5,
  });
  expect((await reflection.ask({ listServices: '' })).listServicesResponse.service).toHaveLength(3);
  reflection.close();
});
