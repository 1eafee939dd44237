/**
 * The grpc-js echo that people write: proto-loader with its usual options, everything else as it comes. It computes nothing.
 *
 * Started by `bench/floor.ts` as a process of its own, without flags; prints its port.
 */
import { join } from 'node:path';
import {
  type GrpcObject,
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

interface InferRequest {
  model_name: string;
  inputs: { shape: string[] }[];
  raw_input_contents: Buffer[];
}

const file = join(import.meta.dirname, '../../proto/open_inference_grpc.proto');
const protos = loadPackageDefinition(
  loadSync(file, { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true }),
);
const { GRPCInferenceService } = protos.inference as GrpcObject;
const server = new Server();
server.addService((GRPCInferenceService as ServiceClientConstructor).service, {
  ModelInfer({ request }: { request: InferRequest }, callback: (error: null, response: object) => void) {
    callback(null, {
      model_name: request.model_name,
      model_version: '1',
      outputs: [{ name: 'OUTPUT0', datatype: 'FP32', shape: request.inputs[0]!.shape }],
      raw_output_contents: request.raw_input_contents,
    });
  },
});
server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(`port ${port}`);
});
