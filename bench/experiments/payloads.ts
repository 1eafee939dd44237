/**
 * The messages that experiments send: prepared requests for the lab's models, and the article's own messages.
 *
 * Used by the experiments. Protobuf goes through protobufjs, the stock library, and the .proto files.
 */
import { join } from 'node:path';
import protobuf from 'protobufjs';
import { bytesOf, floats, grpcFrame, MODEL_INFER } from '../grpc-body.js';

/** A request by each protocol. */
export interface Asked {
  readonly grpcPath: string;
  readonly frame: Buffer;
  readonly restPath: string;
  readonly json: Buffer;
  readonly binary: Buffer;
  readonly binaryHeaders: Readonly<Record<string, string>>;
}

/** INPUT0 of `identity`: so many FP32 numbers. */
export function identityRequest(count: number): Asked {
  return request('identity', 'INPUT0', [1, count], floats(count));
}

/** `compute` and `slow` take 16 numbers. */
export function computeRequest(model: 'compute' | 'slow'): Asked {
  return request(model, 'INPUT0', [1, 16], floats(16));
}

export function request(model: string, name: string, shape: readonly number[], data: Float32Array): Asked {
  const tensor = { name, datatype: 'FP32', shape };
  const bytes = bytesOf(data);
  let json: Buffer | undefined;
  const head = Buffer.from(
    JSON.stringify({
      inputs: [{ ...tensor, parameters: { binary_data_size: bytes.length } }],
      parameters: { binary_data_output: true },
    }),
  );
  return {
    grpcPath: MODEL_INFER,
    frame: grpcFrame({ modelName: model, inputs: [tensor], rawInputContents: [bytes] }),
    restPath: `/v2/models/${model}/infer`,
    // Printed when it is asked for: a large tensor's takes seconds.
    get json() {
      return (json ??= Buffer.from(JSON.stringify({ inputs: [{ ...tensor, data: shortest(data) }] })));
    },
    binary: Buffer.concat([head, bytes]),
    binaryHeaders: {
      'content-type': 'application/octet-stream',
      'inference-header-content-length': String(head.length),
    },
  };
}

/** Each FP32 number as the double with the fewest digits that is still the same FP32 number: what a tuned printer writes. */
export function shortest(data: Float32Array): number[] {
  return Array.from(data, (value) => {
    for (let digits = 6; digits < 9; digits++) {
      const short = Number(value.toPrecision(digits));
      if (Math.fround(short) === value) return short;
    }
    return Number(value.toPrecision(9));
  });
}

/** The article's classification of one picture, as its JSON has it. */
export const CLASSIFICATION = {
  predictions: [{ class_id: 145, confidence: 0.9847, class_name: 'golden_retriever' }],
  inference_time_ms: 42.3,
} as const;

/** The article's ClassificationResponse. */
export function classificationType(): protobuf.Type {
  const prediction = new protobuf.Type('Prediction')
    .add(new protobuf.Field('classId', 1, 'int32'))
    .add(new protobuf.Field('confidence', 2, 'float'))
    .add(new protobuf.Field('className', 3, 'string'));
  const response = new protobuf.Type('ClassificationResponse')
    .add(new protobuf.Field('predictions', 1, 'Prediction', 'repeated'))
    .add(new protobuf.Field('inferenceTimeMs', 2, 'float'));
  const root = new protobuf.Root();
  root.define('article').add(prediction).add(response);
  return response;
}

/** CLASSIFICATION by the names that protobufjs has for its fields. */
export const CLASSIFICATION_FIELDS = {
  predictions: CLASSIFICATION.predictions.map(({ class_id, confidence, class_name }) => ({
    classId: class_id,
    confidence,
    className: class_name,
  })),
  inferenceTimeMs: CLASSIFICATION.inference_time_ms,
};

export function protoType(file: string, name: string): protobuf.Type {
  return protobuf.loadSync(join(import.meta.dirname, '../../proto', file)).lookupType(name);
}
