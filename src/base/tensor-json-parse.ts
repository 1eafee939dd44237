/**
 * The parser of infer requests in JSON: bytes to a `JsonInferRequest`.
 *
 * Called by `rest/` for small bodies and by the JSON worker for large ones. Checks caps before it takes memory, and takes memory
 * only for what is really in the text. Unknown members are checked and ignored; of duplicate members the last counts.
 */
import { invalid, printable } from './errors.js';
import { createJsonReader, type JsonReader } from './json-reader.js';
import { skipValue } from './json-skip.js';
import {
  assertJsonDatatype,
  JSON_LIMITS,
  type JsonInferRequest,
  type JsonInput,
  type JsonParameters,
  type JsonRequestedOutput,
} from './tensor-json.js';
import { readTensorData } from './tensor-json-data.js';

/** The infer request in `body`; throws INVALID_ARGUMENT for anything that is not one. */
export function parseInferRequest(body: Uint8Array): JsonInferRequest {
  const reader = createJsonReader(body);
  let id = '';
  let parameters: JsonParameters = new Map();
  let inputs: JsonInput[] = [];
  let outputs: JsonRequestedOutput[] = [];
  reader.readObject('the request', (key) => {
    if (key === 'id') id = reader.readString(JSON_LIMITS.idBytes, "'id'");
    else if (key === 'parameters') parameters = readParameters(reader);
    else if (key === 'inputs') inputs = readInputs(reader);
    else if (key === 'outputs') outputs = readOutputs(reader);
    else skipValue(reader, 1);
  });
  if (reader.peek() !== -1) throw reader.failure('text after the request');
  return { id, parameters, inputs, outputs };
}

function readInputs(reader: JsonReader): JsonInput[] {
  const inputs: JsonInput[] = [];
  reader.readArray("'inputs'", (index) => {
    if (index >= JSON_LIMITS.inputs) throw invalid(`more than ${JSON_LIMITS.inputs} inputs in the request`);
    inputs.push(readInput(reader));
  });
  return inputs;
}

function readInput(reader: JsonReader): JsonInput {
  let name: string | undefined;
  let datatype: string | undefined;
  let shape: number[] | undefined;
  let parameters: JsonParameters = new Map();
  let data: Uint8Array<ArrayBuffer> | undefined;
  /** Where `data` lies; it is read when datatype and shape are known, and again should a duplicate of those change them. */
  let dataAt = -1;
  const readData = (): Uint8Array<ArrayBuffer> => {
    assertJsonDatatype(datatype!, name ?? '');
    return readTensorData(reader, datatype!, shape!);
  };
  reader.readObject('an input', (key) => {
    if (key === 'name') name = reader.readString(JSON_LIMITS.nameBytes, 'input name');
    else if (key === 'datatype') {
      datatype = reader.readString(JSON_LIMITS.nameBytes, "'datatype'");
      data = undefined;
    } else if (key === 'shape') {
      shape = readShape(reader);
      data = undefined;
    } else if (key === 'parameters') parameters = readParameters(reader);
    else if (key === 'data') {
      reader.peek();
      dataAt = reader.at;
      if (datatype !== undefined && shape !== undefined) data = readData();
      else skipValue(reader, 3);
    } else skipValue(reader, 3);
  });
  if (name === undefined) throw invalid("input without 'name'");
  if (datatype === undefined) throw invalid("input without 'datatype'");
  if (shape === undefined) throw invalid("input without 'shape'");
  if (dataAt >= 0 && data === undefined) {
    const end = reader.at;
    reader.at = dataAt;
    data = readData();
    reader.at = end;
  }
  return { name, datatype, shape, parameters, data };
}

function readShape(reader: JsonReader): number[] {
  const shape: number[] = [];
  reader.readArray("'shape'", (index) => {
    if (index >= JSON_LIMITS.dims) throw invalid(`more than ${JSON_LIMITS.dims} dimensions in 'shape'`);
    const byte = reader.peek();
    const negative = byte === 0x2d;
    if (!negative && (byte < 0x30 || byte > 0x39)) throw notUnsigned();
    const { text, integer } = reader.readNumberText();
    const dim = Number(text);
    if (negative || !integer || dim > 2 ** 63) throw notUnsigned();
    shape.push(dim);
  });
  return shape;
}

function notUnsigned(): Error {
  return invalid("Unable to parse 'shape': attempt to access JSON non-unsigned-integer as unsigned-integer");
}

function readOutputs(reader: JsonReader): JsonRequestedOutput[] {
  const outputs: JsonRequestedOutput[] = [];
  reader.readArray("'outputs'", (index) => {
    if (index >= JSON_LIMITS.outputs) throw invalid(`more than ${JSON_LIMITS.outputs} outputs in the request`);
    let name: string | undefined;
    let parameters: JsonParameters = new Map();
    reader.readObject('an output', (key) => {
      if (key === 'name') name = reader.readString(JSON_LIMITS.nameBytes, 'output name');
      else if (key === 'parameters') parameters = readParameters(reader);
      else skipValue(reader, 3);
    });
    if (name === undefined) throw invalid("output without 'name'");
    outputs.push({ name, parameters });
  });
  return outputs;
}

/** The scalar members of the object at the reader's position. */
export function readParameters(reader: JsonReader): JsonParameters {
  const parameters: JsonParameters = new Map();
  let count = 0;
  reader.readObject("'parameters'", (key) => {
    if (++count > JSON_LIMITS.parameters) throw invalid(`more than ${JSON_LIMITS.parameters} parameters`);
    parameters.set(key, readParameter(reader, key));
  });
  return parameters;
}

/** The scalar at the reader's position, which is parameter `key`. */
export function readParameter(reader: JsonReader, key: string): boolean | number | bigint | string {
  const byte = reader.peek();
  if (byte === 0x22) return reader.readString(JSON_LIMITS.parameterBytes, `parameter '${printable(key)}'`);
  if (byte === 0x74) {
    reader.word('true');
    return true;
  }
  if (byte === 0x66) {
    reader.word('false');
    return false;
  }
  if (byte !== 0x2d && (byte < 0x30 || byte > 0x39)) throw parameterFailure(key);
  const { text, integer } = reader.readNumberText();
  const value = Number(text);
  if (!integer || Number.isSafeInteger(value)) {
    if (!Number.isFinite(value)) throw parameterFailure(key);
    return value;
  }
  const long = text.length > 21 ? undefined : BigInt(text);
  if (long === undefined || (BigInt.asIntN(64, long) !== long && BigInt.asUintN(64, long) !== long)) {
    throw invalid(`parameter '${printable(key)}' is out of range of a 64-bit integer`);
  }
  return long;
}

function parameterFailure(key: string): Error {
  return invalid(
    `parameter '${printable(key)}' has invalid type. It should be either 'int', 'bool', 'double' or 'string'.`,
  );
}
