/**
 * What both infer requests of `inference.v1` have in common: model, version, inputs and parameters under the same field numbers.
 *
 * Called by their decoders, which say how an input is read. Owns the caps on how many there may be.
 */

import type { WireReader } from '../base/wire-reader.js';
import type { DecodedInput } from './decoded-infer.js';
import {
  MAX_PARAMETERS,
  MAX_TENSORS,
  NO_PARAMETERS,
  type ParameterMap,
  readName,
  readStringParameter,
  readVersionV1,
  tooMany,
} from './infer-fields.js';

/** Reads the whole message. Throws INVALID_ARGUMENT, RESOURCE_EXHAUSTED, WireError and whatever `readInput` throws. */
export function readInferRequestV1(reader: WireReader, readInput: (reader: WireReader) => DecodedInput) {
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
        modelVersion = readVersionV1(reader);
        break;
      case 26:
        if (inputs.length === MAX_TENSORS) throw tooMany('inputs', MAX_TENSORS);
        inputs.push(readInput(reader));
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
  } as const;
}
