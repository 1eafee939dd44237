/**
 * The body of Triton's generate extension: members named like the model's inputs are tensors, the others parameters. Where the model
 * generates text, parameters may be lists and objects too (`stop`, `logit_bias`), which go on as JSON, as `sampling_parameters` does where
 * it is an object and no text of one; and null is as good as absent.
 *
 * Called by `generate-route.ts`. Reads values straight into the protocol's raw layout, so integers are exact over their whole range.
 */
import { invalid, printable, ServeError } from '../base/errors.js';
import { createJsonReader, JsonReader } from '../base/json-reader.js';
import { skipValue } from '../base/json-skip.js';
import { assertJsonDatatype, JSON_LIMITS, type JsonParameters } from '../base/tensor-json.js';
import { readTensorData } from '../base/tensor-json-data.js';
import { readParameter, readParameters } from '../base/tensor-json-parse.js';
import type { InferInput, TensorMetadata } from '../engine/types.js';

/** What a body says of an InferRequest. */
export interface GenerateBody {
  readonly id: string;
  readonly inputs: readonly InferInput[];
  readonly parameters: JsonParameters;
}

const OPEN_ARRAY = 0x5b;
const OPEN_OBJECT = 0x7b;
const NULL = 0x6e;

/** What the members are for. */
export interface GenerateTarget {
  readonly inputs: readonly TensorMetadata[];
  readonly generatesText: boolean;
}

/** Throws INVALID_ARGUMENT for what is no such object. Of duplicate members the last counts. */
export function parseGenerateBody(body: Uint8Array, { inputs: known, generatesText }: GenerateTarget): GenerateBody {
  const reader = createJsonReader(body);
  let id = '';
  const inputs = new Map<string, InferInput>();
  const parameters: JsonParameters = new Map();
  const readMember = (key: string): void => {
    if (generatesText && reader.peek() === NULL) reader.word('null');
    else parameters.set(key, generatesText ? readAny(reader, key) : readScalar(reader, key));
    checkCount(parameters);
  };
  reader.readObject('the request', (key) => {
    const input = known.find(({ name }) => name === key);
    if (generatesText && key === 'sampling_parameters' && reader.peek() === OPEN_OBJECT) {
      inputs.set(key, textInput(key, readAny(reader, key) as string));
    } else if (input !== undefined && !(generatesText && reader.peek() === NULL)) {
      inputs.set(key, readInput(reader, input));
    } else if (key === 'id') id = reader.readString(JSON_LIMITS.idBytes, "'id'");
    else if (key !== 'parameters') readMember(key);
    else if (generatesText) reader.readObject("'parameters'", readMember);
    else for (const [name, value] of readParameters(reader)) parameters.set(name, value);
    checkCount(parameters);
  });
  if (reader.peek() !== -1) throw reader.failure('text after the request');
  for (const key of parameters.keys()) {
    if (!key.startsWith('triton_')) continue;
    throw invalid("parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.");
  }
  return { id, inputs: [...inputs.values()], parameters };
}

function checkCount({ size }: JsonParameters): void {
  if (size > JSON_LIMITS.parameters) throw invalid(`more than ${JSON_LIMITS.parameters} parameters`);
}

function readScalar(reader: JsonReader, key: string): boolean | number | bigint | string {
  const byte = reader.peek();
  if (byte !== OPEN_ARRAY && byte !== OPEN_OBJECT) return readParameter(reader, key);
  throw invalid(
    `parameter '${printable(key)}' has invalid type. It should be either 'int', 'bool', or 'string'. The model has no input of that name.`,
  );
}

/** As {@link readScalar}, but an array or an object as its JSON. */
function readAny(reader: JsonReader, key: string): boolean | number | bigint | string {
  const byte = reader.peek();
  if (byte !== OPEN_ARRAY && byte !== OPEN_OBJECT) return readParameter(reader, key);
  const start = reader.at;
  skipValue(reader, 2);
  const length = reader.at - start;
  if (length > JSON_LIMITS.parameterBytes) {
    const most = JSON_LIMITS.parameterBytes;
    throw invalid(`parameter '${printable(key)}' has ${length} bytes of JSON, at most ${most} are taken`);
  }
  return Buffer.from(reader.bytes.subarray(start, reader.at)).toString('utf8');
}

/** A tensor of one text. */
function textInput(name: string, text: string): InferInput {
  const bytes = Buffer.from(text);
  const data = Buffer.allocUnsafe(4 + bytes.length);
  data.writeUInt32LE(bytes.length);
  data.set(bytes, 4);
  return { name, datatype: 'BYTES', shape: [1], data };
}

/** A scalar, or an array of them, as the tensor that the model wants. */
function readInput(reader: JsonReader, { name, datatype, shape }: TensorMetadata): InferInput {
  assertJsonDatatype(datatype, name);
  const start = reader.peek() === OPEN_ARRAY ? reader.at : -1;
  if (start < 0) return { name, datatype, shape: shapeFor(shape, 1, name), data: readOne(reader, name, datatype) };
  let count = 0;
  reader.readArray(`input '${name}'`, () => {
    if (reader.peek() === OPEN_ARRAY || reader.peek() === OPEN_OBJECT) throw notFlat(name);
    skipValue(reader, 2);
    count++;
  });
  const end = reader.at;
  reader.at = start;
  const data = named(name, () => readTensorData(reader, datatype, [count]));
  reader.at = end;
  return { name, datatype, shape: shapeFor(shape, count, name), data };
}

/** The scalar at the reader's position as an array of one. */
function readOne(reader: JsonReader, name: string, datatype: TensorMetadata['datatype']): Uint8Array {
  if (reader.peek() === OPEN_OBJECT) throw notFlat(name);
  const start = reader.at;
  skipValue(reader, 1);
  const text = reader.bytes.subarray(start, reader.at);
  const array = new JsonReader(Buffer.concat([Buffer.from('['), text, Buffer.from(']')]));
  return named(name, () => readTensorData(array, datatype, [1]));
}

/** The tensors of other requests are all called 'data'; here the member is what the caller knows. */
function named<Data>(name: string, read: () => Data): Data {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ServeError)) throw error;
    throw new ServeError(error.code, error.message.replace(/^Unable to parse 'data' at byte \d+/, `input '${name}'`));
  }
}

/** The innermost variable dimension takes what the fixed ones leave, other variable ones are 1. */
function shapeFor(shape: readonly number[], count: number, name: string): number[] {
  let left = count;
  for (const dim of shape) if (dim > 0) left /= dim;
  const innermost = shape.lastIndexOf(-1);
  const isWhole = Number.isInteger(left) && !shape.includes(0);
  if (!isWhole || (innermost < 0 && left !== 1)) {
    throw invalid(
      `The schema can not convert input '${name}' to tensor with proper shape: ${count} elements do not fill [${shape.join(',')}]`,
    );
  }
  return shape.map((dim, index) => (dim >= 0 ? dim : index === innermost ? left : 1));
}

function notFlat(name: string): ServeError {
  return invalid(`input '${name}' must be a scalar or an array of scalars`);
}
