/**
 * The printer of infer responses: an answer's JSON text, tensors flat and row-major as Triton writes them.
 *
 * Called by `rest/` for small responses and by the JSON worker for large ones. Integers are exact, floats have the shortest digits
 * that read back to the same value, NaN and the infinities are bare tokens. Little-endian machines only.
 */

import { isUtf8 } from 'node:buffer';
import { invalid, printable, type ServeError } from './errors.js';
import { type JsonWriter, NUMBER_BYTES } from './json-writer.js';
import type { MessagePool } from './message-pool.js';
import type { JsonInferResponse, JsonOutput } from './tensor-json.js';

/** Elements between two checks for room. */
const CHUNK = 1024;

/**
 * The response's JSON followed by `extra` bytes for the caller to fill. Throws INVALID_ARGUMENT when an output cannot be JSON
 * (FP16, BF16, BYTES that are not UTF-8). `writer` is used as scratch memory and left empty.
 */
export function printInferResponse(
  response: JsonInferResponse,
  writer: JsonWriter,
  extra = 0,
  memory?: MessagePool,
): Buffer<ArrayBuffer> {
  writer.at = 0;
  let text = response.id === '' ? '{' : `{"id":${quote(response.id)},`;
  text += `"model_name":${quote(response.modelName)},"model_version":${quote(response.modelVersion)},"outputs":[`;
  for (let i = 0; i < response.outputs.length; i++) {
    const output = response.outputs[i]!;
    const shape = output.shape.join(',');
    text += `${i > 0 ? ',' : ''}{"name":${quote(output.name)},"datatype":"${output.datatype}","shape":[${shape}],`;
    if (output.data === undefined) text += `"parameters":{"binary_data_size":${output.binaryDataSize}}}`;
    else {
      writer.text(`${text}"data":[`);
      printData(writer, { ...output, data: output.data });
      text = ']}';
    }
  }
  writer.text(`${text}]}`);
  return writer.take(extra, memory);
}

/** A JSON string; lone surrogates would not be UTF-8. */
export function quote(text: string): string {
  return JSON.stringify(text.toWellFormed());
}

/** An output that is printed as JSON. */
export type PrintedOutput = JsonOutput & { readonly data: Uint8Array };

/** The elements with commas between them. Throws INVALID_ARGUMENT for those that JSON can't carry. */
export function printData(writer: JsonWriter, output: PrintedOutput): void {
  const { datatype } = output;
  if (datatype === 'FP16' || datatype === 'BF16') {
    throw invalid(
      `sending ${datatype} data via JSON is not supported. Please use the binary data format for output ${printable(output.name)}`,
    );
  }
  if (datatype === 'BYTES') printStrings(writer, output);
  else if (datatype === 'FP32') printEach(writer, typed(output, Float32Array), (value) => writer.float32(value));
  else if (datatype === 'FP64') printEach(writer, typed(output, Float64Array), (value) => writer.float64(value));
  else if (datatype === 'INT64' || datatype === 'UINT64') {
    printLongs(writer, typed(output, Uint32Array), datatype === 'INT64');
  } else if (datatype === 'BOOL') printEach(writer, output.data, (value) => writer.word(value !== 0));
  else printEach(writer, typed(output, INTEGER_ARRAYS[datatype]), (value) => writer.integer(value));
}

const INTEGER_ARRAYS = {
  INT8: Int8Array,
  INT16: Int16Array,
  INT32: Int32Array,
  UINT8: Uint8Array,
  UINT16: Uint16Array,
  UINT32: Uint32Array,
} as const;

interface NumberArrayType {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): ArrayLike<number>;
}

/** The data as numbers; copied when it does not start where a typed array may. */
function typed(output: PrintedOutput, type: NumberArrayType): ArrayLike<number> {
  const { BYTES_PER_ELEMENT } = type;
  const data = output.data.byteOffset % BYTES_PER_ELEMENT === 0 ? output.data : output.data.slice();
  return new type(data.buffer, data.byteOffset, data.byteLength / BYTES_PER_ELEMENT);
}

function printEach(writer: JsonWriter, values: ArrayLike<number>, print: (value: number) => void): void {
  for (let i = 0; i < values.length; i++) {
    if (i % CHUNK === 0) writer.reserve(NUMBER_BYTES * CHUNK);
    if (i > 0) writer.byte(0x2c);
    print(values[i]!);
  }
}

function printLongs(writer: JsonWriter, words: ArrayLike<number>, signed: boolean): void {
  for (let i = 0; i < words.length; i += 2) {
    if (i % CHUNK === 0) writer.reserve(NUMBER_BYTES * CHUNK);
    if (i > 0) writer.byte(0x2c);
    writer.long(words[i]!, words[i + 1]!, signed);
  }
}

function printStrings(writer: JsonWriter, output: PrintedOutput): void {
  const data = output.data;
  for (let at = 0; at < data.length; ) {
    if (at + 4 > data.length) throw brokenStrings(output);
    const length = (data[at]! | (data[at + 1]! << 8) | (data[at + 2]! << 16) | (data[at + 3]! << 24)) >>> 0;
    const start = at + 4;
    if (start + length > data.length) throw brokenStrings(output);
    writer.reserve(6 * length + 3);
    if (at > 0) writer.byte(0x2c);
    printString(writer, output, start, start + length);
    at = start + length;
  }
}

function printString(writer: JsonWriter, output: PrintedOutput, start: number, stop: number): void {
  const data = output.data;
  let seen = 0;
  writer.byte(0x22);
  for (let at = start; at < stop; at++) {
    const byte = data[at]!;
    seen |= byte;
    if (byte < 0x20) writer.at += writer.buffer.write(`\\u00${byte < 16 ? '0' : ''}${byte.toString(16)}`, writer.at);
    else {
      if (byte === 0x22 || byte === 0x5c) writer.byte(0x5c);
      writer.byte(byte);
    }
  }
  writer.byte(0x22);
  // isUtf8 wants memory that no other thread can change, hence the copy.
  if (seen >= 0x80 && !isUtf8(Uint8Array.from(data.subarray(start, stop)))) {
    const name = printable(output.name);
    throw invalid(`output '${name}' holds bytes that are not valid UTF-8; ask for it with 'binary_data' set to true`);
  }
}

function brokenStrings(output: JsonOutput): ServeError {
  return invalid(`output '${printable(output.name)}' is no sequence of strings behind their lengths`);
}
