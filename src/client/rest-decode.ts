/**
 * The body of an infer answer as tensors: JSON, or JSON with the tensors' bytes behind it (the binary tensor extension).
 *
 * Called by `rest-client.ts` and by the bench, which measures it. Binary outputs are views on the body where their addresses allow,
 * which `bodyMemory` arranges for the first of them. JSON is read byte by byte into typed arrays: exact for 64-bit integers, and in less
 * than half the time of JSON.parse. Must not know a connection.
 */
import { ServeError } from '../base/errors.js';
import { createJsonReader, type JsonReader } from '../base/json-reader.js';
import { skipValue } from '../base/json-skip.js';
import { readTensorData } from '../base/tensor-json-data.js';
import { readParameter } from '../base/tensor-json-parse.js';
import { createOutput, type DecodedAnswer, NO_PARAMETERS } from './answer.js';
import { ClientError } from './client-error.js';
import { fromRaw, isDatatype } from './tensor.js';
import type { OutputTensor, ParameterValue } from './types.js';

/** More than any answer has, so that a broken one can't ask for memory without end. */
const MAX_OUTPUTS = 4096;
const MAX_NAME_BYTES = 65_536;

type Parameters = Map<string, ParameterValue>;

/** Memory for a body of `bytes` whose first `headerLength` are JSON, so that the tensors behind it begin at a multiple of 8. */
export function bodyMemory(bytes: number, headerLength = 0): Buffer {
  const before = (8 - (headerLength % 8)) % 8 || 0;
  return Buffer.allocUnsafeSlow(before + bytes).subarray(before);
}

/**
 * The answer in `body`; `headerLength` is the number in its `inference-header-content-length`, undefined where all of it is JSON. Throws
 * INTERNAL for what is no answer, and for tensors that aren't what their datatype and shape say.
 */
export function decodeInferBody(body: Buffer, headerLength: number | undefined): DecodedAnswer {
  const jsonBytes = headerLength ?? body.length;
  if (!(jsonBytes <= body.length)) throw broken(`it has ${body.length} bytes, ${jsonBytes} of them should be JSON`);
  try {
    return readAnswer(createJsonReader(body.subarray(0, jsonBytes)), body.subarray(jsonBytes));
  } catch (error) {
    if (error instanceof ServeError) throw broken(error.message.replace('the request JSON buffer', 'its JSON'));
    throw error;
  }
}

function broken(why: string): ClientError {
  return new ClientError('INTERNAL', `the server's answer can't be read: ${why}`);
}

function readAnswer(reader: JsonReader, tail: Buffer): DecodedAnswer {
  let model = '';
  let version = '';
  let id = '';
  let parameters = NO_PARAMETERS;
  let outputs: OutputTensor[] | undefined;
  const tensors = new Tail(tail);
  reader.readObject('the answer', (key) => {
    if (key === 'model_name') model = readText(reader, key);
    else if (key === 'model_version') version = readText(reader, key);
    else if (key === 'id') id = readText(reader, key);
    else if (key === 'parameters') {
      const read = readScalars(reader);
      if (read.size > 0) parameters = Object.fromEntries(read);
    } else if (key === 'outputs') outputs = readOutputs(reader, tensors);
    else skipValue(reader, 1);
  });
  if (reader.peek() !== -1) throw reader.failure('text after the answer');
  if (outputs === undefined) throw broken("it has no 'outputs'");
  tensors.end();
  return { model, version, id, outputs, parameters };
}

/** The bytes behind the JSON, which outputs take in the order in which they are listed. */
class Tail {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(name: string, size: ParameterValue): Buffer {
    if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
      throw broken(`'binary_data_size' of output '${name}' is ${size}, expected a number of bytes`);
    }
    const left = this.#bytes.length - this.#at;
    if (size > left) throw broken(`output '${name}' should have ${size} bytes behind the JSON, ${left} are left`);
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  end(): void {
    const left = this.#bytes.length - this.#at;
    if (left > 0) throw broken(`${left} bytes behind its JSON belong to no output`);
  }
}

function readOutputs(reader: JsonReader, tail: Tail): OutputTensor[] {
  const outputs: OutputTensor[] = [];
  reader.readArray("'outputs'", (index) => {
    if (index >= MAX_OUTPUTS) throw broken(`it has more than ${MAX_OUTPUTS} outputs`);
    outputs.push(readOutput(reader, tail));
  });
  return outputs;
}

function readOutput(reader: JsonReader, tail: Tail): OutputTensor {
  let name = '';
  let datatype = '';
  let shape: number[] | undefined;
  let size: ParameterValue | undefined;
  /** Where `data` lies: what it means is known when datatype and shape are. */
  let dataAt = -1;
  let raw: Uint8Array | undefined;
  reader.readObject('an output', (key) => {
    if (key === 'name') name = readText(reader, key);
    else if (key === 'datatype') datatype = readText(reader, key);
    else if (key === 'shape') shape = readShape(reader);
    else if (key === 'parameters') size = readScalars(reader).get('binary_data_size');
    else if (key === 'data' && reader.peek() === OPEN_ARRAY) {
      dataAt = reader.at;
      if (datatype !== '' && shape !== undefined) raw = readData(reader, name, datatype, shape);
      else skipValue(reader, 3);
    } else skipValue(reader, 3);
  });
  if (name === '') throw broken("an output has no 'name'");
  if (!isDatatype(datatype)) throw broken(`output '${name}' has datatype '${datatype}'`);
  if (shape === undefined) throw broken(`output '${name}' has no 'shape'`);
  if (raw === undefined && size !== undefined) raw = tail.take(name, size);
  if (raw === undefined && dataAt >= 0) {
    const end = reader.at;
    reader.at = dataAt;
    raw = readData(reader, name, datatype, shape);
    reader.at = end;
  }
  if (raw === undefined) throw broken(`output '${name}' has no data`);
  return createOutput({ name, datatype, shape, data: fromRaw(name, datatype, shape, raw) });
}

const OPEN_ARRAY = 0x5b;
const QUOTE = 0x22;
const MINUS = 0x2d;

function readData(reader: JsonReader, name: string, datatype: string, shape: readonly number[]): Uint8Array {
  if (!isDatatype(datatype)) throw broken(`output '${name}' has datatype '${datatype}'`);
  if (datatype === 'FP16' || datatype === 'BF16') {
    throw broken(`output '${name}' is ${datatype} in JSON; use the binary encoding`);
  }
  return readTensorData(reader, datatype, shape);
}

function readShape(reader: JsonReader): number[] {
  const shape: number[] = [];
  reader.readArray("'shape'", (index) => {
    const dim = Number(reader.readNumberText().text);
    if (!Number.isSafeInteger(dim) || dim < 0 || index > 63) throw broken(`an output has a shape that is none`);
    shape.push(dim);
  });
  return shape;
}

/** A string; null, which some servers write for what they haven't got, is an empty one. */
function readText(reader: JsonReader, what: string): string {
  if (reader.peek() === QUOTE) return reader.readString(MAX_NAME_BYTES, `'${what}'`);
  skipValue(reader, 1);
  return '';
}

/** The scalar members of an object; lists, objects and null, which the protocol has not and some servers write, are passed over. */
function readScalars(reader: JsonReader): Parameters {
  const parameters: Parameters = new Map();
  if (reader.peek() !== OPEN_OBJECT) {
    skipValue(reader, 1);
    return parameters;
  }
  reader.readObject("'parameters'", (key) => {
    if (isScalar(reader.peek())) parameters.set(key, readParameter(reader, key));
    else skipValue(reader, 4);
  });
  return parameters;
}

const OPEN_OBJECT = 0x7b;

/** A string, true, false or a number. */
function isScalar(byte: number): boolean {
  return byte === QUOTE || byte === 0x74 || byte === 0x66 || byte === MINUS || (byte >= 0x30 && byte <= 0x39);
}
