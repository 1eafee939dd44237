/**
 * Decodes `inference.v1.ModelInferRequest`: the small contract, whose tensors carry their bytes themselves.
 *
 * Called by model-infer.ts. Ownership, caps and errors as in infer-decode.ts, but for this: a tensor without a shape whose datatype is
 * BYTES or missing is one UTF-8 string, which becomes a BYTES element where it lies (see `elementInPlace`).
 */
import { nowMs } from '../base/clock.js';
import { printable } from '../base/errors.js';
import { WireReader } from '../base/wire-reader.js';
import type { DecodedInfer, DecodedInput } from './decoded-infer.js';
import { elementInPlace, NO_PARAMETERS, readName, readShape } from './infer-fields.js';
import { readInferRequestV1 } from './infer-request-v1.js';

/** Throws INVALID_ARGUMENT, RESOURCE_EXHAUSTED and WireError. Writes to `bytes`. */
export function decodeModelInferRequestV1(bytes: Buffer): DecodedInfer {
  const decodeStart = nowMs();
  const reader = new WireReader(bytes, 'ModelInferRequest');
  const request = readInferRequestV1(reader, readTensor);
  const text = request.inputs.find(({ content }) => content === 'text');
  return {
    ...request,
    byteLength: bytes.length,
    note: text === undefined ? '' : noteOf(text),
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
  const parameters = NO_PARAMETERS;
  if (shape.length > 0 || (datatype !== '' && datatype !== 'BYTES')) {
    return { name, datatype, shape, data: reader.bytes.subarray(start, end), parameters };
  }
  // An empty string is not on the wire.
  const data = start === 0 ? EMPTY_ELEMENT : elementInPlace(reader.bytes, start, end);
  return { name, datatype: 'BYTES', shape: ONE, data, content: 'text', parameters };
}

/** Never written to. */
const EMPTY_ELEMENT = new Uint8Array(4);
const ONE: readonly number[] = [1];

/** For whoever forgot to say what the bytes are. */
function noteOf({ name }: DecodedInput): string {
  return `Input '${printable(name)}' came without datatype and shape, so it was taken as one UTF-8 string; a tensor needs both`;
}
