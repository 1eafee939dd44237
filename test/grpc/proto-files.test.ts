import { fileURLToPath } from 'node:url';
import protoLoader from '@grpc/proto-loader';
import { expect, test } from 'vitest';

const protos = fileURLToPath(new URL('../../proto', import.meta.url));
const options = { keepCase: true, longs: Number, enums: String, includeDirs: [protos] };

function methods(service: unknown): string[] {
  return Object.values(service as protoLoader.ServiceDefinition).map(
    ({ path, requestStream, responseStream }) =>
      `${requestStream ? 'stream ' : ''}${path}${responseStream ? ' stream' : ''}`,
  );
}

test('GRPCInferenceService has every RPC of the open protocol and of Triton', () => {
  const open = protoLoader.loadSync('open_inference_grpc.proto', options);
  expect(methods(open['inference.GRPCInferenceService'])).toEqual([
    ...['ServerLive', 'ServerReady', 'ModelReady', 'ServerMetadata', 'ModelMetadata', 'ModelInfer'].map(
      (name) => `/inference.GRPCInferenceService/${name}`,
    ),
    'stream /inference.GRPCInferenceService/ModelStreamInfer stream',
    ...['ModelConfig', 'ModelStatistics', 'RepositoryIndex', 'RepositoryModelLoad', 'RepositoryModelUnload']
      .concat(['SystemSharedMemoryStatus', 'SystemSharedMemoryRegister', 'SystemSharedMemoryUnregister'])
      .concat(['CudaSharedMemoryStatus', 'CudaSharedMemoryRegister', 'CudaSharedMemoryUnregister'])
      .concat(['TraceSetting', 'LogSettings'])
      .map((name) => `/inference.GRPCInferenceService/${name}`),
  ]);
});

test('inference.v1 has its four RPCs', () => {
  const v1 = protoLoader.loadSync('inference_service.proto', options);
  expect(methods(v1['inference.v1.InferenceService'])).toEqual([
    '/inference.v1.InferenceService/ModelInfer',
    '/inference.v1.InferenceService/MultimodalInfer',
    '/inference.v1.InferenceService/StreamingModelInfer stream',
    '/inference.v1.InferenceService/ServerMetadata',
  ]);
});

test('messages travel with the names and numbers of the protocol', () => {
  const open = protoLoader.loadSync('open_inference_grpc.proto', options);
  const { ModelMetadata, ModelConfig } = open['inference.GRPCInferenceService'] as protoLoader.ServiceDefinition;
  const metadata = { name: 'm', versions: ['1'], platform: 'p', properties: { a: 'b' } };
  expect(ModelMetadata!.responseSerialize(metadata).toString('hex')).toBe('0a016d1201311a01703206' + '0a0161120162');
  const config = { config: { max_batch_size: 8, input: [{ data_type: 'TYPE_FP32', dims: [-1] }] } };
  expect(ModelConfig!.responseDeserialize(ModelConfig!.responseSerialize(config))).toMatchObject(config);
});
