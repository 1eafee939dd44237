/**
 * Prepared gRPC bodies: a ModelInferRequest with its frame head, and a look into the reply.
 *
 * Used by the benches. Goes through protobufjs and the .proto file, not through the server's own codec: two that agree by a shared
 * mistake would not be noticed.
 */
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { BenchError } from './result.js';

export const MODEL_INFER = '/inference.GRPCInferenceService/ModelInfer';

export interface TensorBody {
  readonly model: string;
  /** Name of the FP32 input; INPUT0 when not given. */
  readonly input?: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

const HEAD_BYTES = 5;

let types: { request: protobuf.Type; response: protobuf.Type } | undefined;

function load(): { request: protobuf.Type; response: protobuf.Type } {
  if (!types) {
    const root = protobuf.loadSync(join(import.meta.dirname, '../proto/open_inference_grpc.proto'));
    types = {
      request: root.lookupType('inference.ModelInferRequest'),
      response: root.lookupType('inference.ModelInferResponse'),
    };
  }
  return types;
}

/** A request with one input in raw contents as it goes over the wire: flag, length, message. */
export function grpcBody({ model, input = 'INPUT0', shape, data }: TensorBody): Buffer {
  return grpcFrame({
    modelName: model,
    inputs: [{ name: input, datatype: 'FP32', shape }],
    rawInputContents: [bytesOf(data)],
  });
}

/** A ModelInferRequest with its fields in camelCase, in its frame. */
export function grpcFrame(fields: object): Buffer {
  const message = load().request.encode(fields).finish();
  const frame = Buffer.alloc(HEAD_BYTES + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, HEAD_BYTES);
  return frame;
}

/** The bytes of the first output in a framed ModelInferResponse. */
export function outputBytes(frame: Buffer): Uint8Array {
  if (frame[0] !== 0 || frame.readUInt32BE(1) !== frame.length - HEAD_BYTES) {
    throw new BenchError(`a reply of ${frame.length} bytes is not one uncompressed gRPC message`);
  }
  const message = load().response.decode(frame.subarray(HEAD_BYTES)) as unknown as { rawOutputContents: Uint8Array[] };
  const [first] = message.rawOutputContents;
  if (!first) throw new BenchError('a reply holds no output');
  return first;
}

export function bytesOf(data: Float32Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** Numbers that differ from each other, the same in every run. */
export function floats(count: number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(i) * 3);
}
