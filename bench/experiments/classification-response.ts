/**
 * How many bytes is one classification: the article's JSON, its protobuf message, and what this server answers by each protocol?
 *
 * One experiment of `run.ts`. Bodies alone, no headers and no framing. The last four are answers of the running server for one digit
 * with `classification: 1`: a tensor of one string "confidence:index:label".
 */
import type { ExperimentResult } from '../../src/bench/results.js';
import { bytesOf, grpcFrame, MODEL_INFER } from '../grpc-body.js';
import { http2Caller, restCaller, unframed } from './callers.js';
import type { ExperimentContext } from './experiment.js';
import { CLASSIFICATION, CLASSIFICATION_FIELDS, classificationType } from './payloads.js';

const MODEL = 'digits';

export async function classificationResponse({ lab }: ExperimentContext): Promise<ExperimentResult> {
  const figures: Record<string, number> = {
    json_indented_bytes: JSON.stringify(CLASSIFICATION, null, 2).length,
    json_bytes: JSON.stringify(CLASSIFICATION).length,
    protobuf_bytes: classificationType().encode(CLASSIFICATION_FIELDS).finish().length,
    ...(await answers(lab)),
  };
  return {
    name: 'classification_response',
    figures,
    method:
      "The article's JSON as it prints it and without its blanks, its ClassificationResponse from protobufjs, and the " +
      'answers of the running server to the same question (one class of one picture); bodies alone, no headers.',
  };
}

async function answers(lab: ExperimentContext['lab']): Promise<Record<string, number>> {
  const { grpcPort, httpPort } = await lab.plain();
  const pixels = Float32Array.from({ length: 64 }, (_, i) => i % 17);
  const input = { name: 'image', datatype: 'FP32', shape: [1, 64] };
  const json = (binary: boolean): Buffer => {
    const parameters = { classification: 1, ...(binary && { binary_data: true }) };
    const inputs = [{ ...input, data: [...pixels] }];
    return Buffer.from(JSON.stringify({ inputs, outputs: [{ name: 'probabilities', parameters }] }));
  };
  const frame = grpcFrame({
    modelName: MODEL,
    inputs: [input],
    outputs: [{ name: 'probabilities', parameters: { classification: { int64Param: 1 } } }],
    rawInputContents: [bytesOf(pixels)],
  });
  const grpc = http2Caller({ port: grpcPort });
  const rest = restCaller({ port: httpPort, connections: 1, keepAlive: true });
  try {
    const path = `/v2/models/${MODEL}/infer`;
    return {
      oip_json_bytes: (await rest.call(path, json(false))).body.length,
      oip_binary_bytes: (await rest.call(path, json(true))).body.length,
      oip_grpc_bytes: unframed((await grpc.call(MODEL_INFER, frame)).body).length,
    };
  } finally {
    grpc.close();
    rest.close();
  }
}
