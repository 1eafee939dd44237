/**
 * Decodes `inference.v1.ModelInferRequest`: the small contract, whose tensors carry their bytes themselves.
 *
 * Called by model-infer.ts. Ownership, caps and errors as in infer-decode.ts.
 */
import { nowMs } from '../base/clock.js';
import type { DecodedInfer, DecodedInput } from './decoded-infer.js';
import {
  MAX_PARAMETERS,
  MAX_TENSORS,
  NO_PARAMETERS,
  type ParameterMap,
  readName,
  readShape,
  readStringParameter,
  tooMany,
} from './infer-fields.js';
import { WireReader } from './wire-reader.js';

/** Throws INVALID_ARGUMENT, RESOURCE_EXHAUSTED and WireError. */
export function decodeModelInferRequestV1(bytes: Buffer): DecodedInfer {
  const decodeStart = nowMs();
  const reader = new WireReader(bytes, 'ModelInferRequest');
  const inputs: DecodedInput[] = [];
  let modelName = '';
  let modelVersion = '';
  let parameters: ParameterMap | undefined;
  let parameterCount = 0;
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        modelName = readName(reader, 'model name');
        break;
      case 18:
        modelVersion = readName(reader, 'model version');
        break;
      case 26:
        if (inputs.length === MAX_TENSORS) throw tooMany('inputs', MAX_TENSORS);
        inputs.push(readTensor(reader));
        break;
      case 34:
        if (++parameterCount > MAX_PARAMETERS) throw tooMany('parameters', MAX_PARAMETERS);
        parameters ??= new Map();
        readStringParameter(reader, parameters);
        break;
      default:
        reader.skip(tag);
    }
  }
  return {
    modelName,
    modelVersion,
    id: '',
    inputs,
    outputs: [],
    parameters: parameters ?? NO_PARAMETERS,
    arm: 'grpc_raw',
    byteLength: bytes.length,
    decodeStart,
    decodeEnd: nowMs(),
  };
}

function readTensor(reader: WireReader): DecodedInput {
  const shape: number[] = [];
  let name = '';
  let datatype = '';
  let start = 0;
  let end = 0;
  const outer = reader.enter();
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    switch (tag) {
      case 10:
        name = readName(reader, 'input name');
        break;
      case 16:
      case 18:
        readShape(reader, tag & 7, shape);
        break;
      case 26:
        datatype = readName(reader, 'input datatype');
        break;
      case 34:
        end = reader.length();
        start = reader.pos;
        end += start;
        reader.pos = end;
        break;
      default:
        reader.skip(tag);
    }
  }
  reader.leave(outer);
  return { name, datatype, shape, data: reader.bytes.subarray(start, end), parameters: NO_PARAMETERS };
}
