/**
 * What gRPC's raw encoding costs for tensors of given sizes: this front end's own codec, timed on messages made for it.
 *
 * Called by the advice, once for each pair of sizes, when somebody asks. Owns nothing; must not touch a connection.
 */
import { probeMs, probeTensor } from '../base/codec-timing.js';
import { decodeModelInferRequest } from './infer-decode.js';
import { encodeModelInferResponse } from './infer-encode.js';
import { INFERENCE_SERVICE } from './inference-service.js';
import { loadProtos, methodOf } from './proto.js';

/** Milliseconds for decoding a request with `inputBytes` of tensor and for encoding a reply with `outputBytes`, medians. */
export function probeGrpcRaw(inputBytes: number, outputBytes: number): { decodeMs: number; encodeMs: number } {
  const { name, datatype, shape, data } = probeTensor(inputBytes);
  const output = probeTensor(outputBytes);
  const request = methodOf(loadProtos(), INFERENCE_SERVICE, 'ModelInfer').requestSerialize({
    model_name: 'probe',
    inputs: [{ name, datatype, shape }],
    raw_input_contents: [data],
  });
  const response = { modelName: 'probe', modelVersion: '1', id: '', outputs: [output] };
  const frame = Buffer.alloc(output.data.length + 1024);
  return {
    decodeMs: probeMs(inputBytes, () => decodeModelInferRequest(request)),
    encodeMs: probeMs(outputBytes, () => encodeModelInferResponse(response).copy(frame, 0)),
  };
}
