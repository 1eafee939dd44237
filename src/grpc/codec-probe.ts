/**
 * What gRPC's raw encoding costs for tensors of given sizes: this front end's own codec, timed on messages made for it.
 *
 * Called by the advice, once for each size, when somebody asks. Owns nothing; must not touch a connection, nor hold the main thread for
 * longer than a few milliseconds.
 */
import { probeMs, probeTensor } from '../base/codec-timing.js';
import { varintBytes, WireWriter } from '../base/wire-writer.js';
import { decodeModelInferRequest } from './infer-decode.js';
import { encodeModelInferResponse } from './infer-encode.js';

const MODEL = 'probe';
/** Tags of `ModelInferRequest` and of its `InferInputTensor`. */
const MODEL_NAME = 0x0a;
const INPUTS = 0x2a;
const RAW_INPUT_CONTENTS = 0x3a;
const NAME = 0x0a;
const DATATYPE = 0x12;
const SHAPE = 0x1a;

export const grpcRawProbe = {
  /** Milliseconds for decoding a request with `inputBytes` of tensor, median. */
  decodeMs(inputBytes: number): number {
    const request = requestOf(probeTensor(inputBytes));
    return probeMs(inputBytes, () => decodeModelInferRequest(request));
  },

  /** Milliseconds for encoding a reply with `outputBytes` of tensor, median. */
  encodeMs(outputBytes: number): number {
    const output = probeTensor(outputBytes);
    const response = { modelName: MODEL, modelVersion: '1', id: '', outputs: [output] };
    const frame = Buffer.alloc(output.data.length + 1024);
    return probeMs(outputBytes, () => encodeModelInferResponse(response).copy(frame, 0));
  },
};

function requestOf({ name, datatype, shape, data }: ReturnType<typeof probeTensor>): Buffer {
  const field = (length: number) => 1 + varintBytes(length) + length;
  const shapeBytes = shape.reduce((sum, dim) => sum + varintBytes(dim), 0);
  const inputBytes = field(name.length) + field(datatype.length) + field(shapeBytes);
  const size = field(MODEL.length) + field(inputBytes) + field(data.length);
  const message = Buffer.alloc(size);
  const writer = new WireWriter(message, 0);
  writer.text(MODEL_NAME, MODEL);
  writer.head(INPUTS, inputBytes);
  writer.text(NAME, name);
  writer.text(DATATYPE, datatype);
  writer.shape(SHAPE, shape, shapeBytes);
  writer.head(RAW_INPUT_CONTENTS, data.length);
  writer.bytes(data);
  writer.finish(0, size);
  return message;
}
