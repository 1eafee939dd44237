/**
 * The `data` array of a tensor, flat or nested, from JSON text straight into the protocol's raw layout.
 *
 * Called by `tensor-json-parse.ts`. Memory is taken for the elements that the text can hold, never for what a shape claims alone.
 * Writes through typed arrays: little-endian machines only, as everything that ONNX Runtime runs on.
 */
import type { Datatype } from './datatype.js';
import { invalid, type ServeError } from './errors.js';
import { elementFailure, readFloat, readInteger, readLongInteger } from './json-number.js';
import type { JsonReader } from './json-reader.js';
import { elementCount } from './tensor-json.js';

/** Reads one element at the reader's position to position `index` of the tensor. */
interface Sink {
  element(reader: JsonReader, index: number): void;
  finish(): Uint8Array<ArrayBuffer>;
}

/**
 * The array at the reader's position as raw bytes. Flat, or nested exactly as `shape`; throws INVALID_ARGUMENT for anything else,
 * for an element that `datatype` cannot hold, and when the number of elements is another.
 */
export function readTensorData(
  reader: JsonReader,
  datatype: Datatype,
  shape: readonly number[],
): Uint8Array<ArrayBuffer> {
  const count = elementCount(shape);
  if (reader.peek() !== 0x5b) throw invalid("Unable to parse 'data': expected an array");
  // n elements take n bytes, n - 1 commas and two brackets at least.
  if (2 * count + 1 > reader.bytes.length - reader.at) throw shapeMismatch(shape);
  const sink = createSink(datatype, count, reader);
  reader.at++;
  if (reader.peek() === 0x5b) readNested(reader, sink, shape, 0, 0);
  else readRow(reader, sink, shape, 0, count);
  return sink.finish();
}

function shapeMismatch(shape: readonly number[]): ServeError {
  const text = shape.join(',');
  return invalid(`Unable to parse 'data': Shape does not match true shape of 'data' field, expected [${text}]`);
}

/** Behind the bracket of dimension `dim`: its sub-arrays, elements from `index` on; returns the index behind them. */
function readNested(reader: JsonReader, sink: Sink, shape: readonly number[], dim: number, index: number): number {
  const length = shape[dim] ?? -1;
  if (dim === shape.length - 1) {
    readRow(reader, sink, shape, index, length);
    return index + length;
  }
  for (let i = 0; i < length; i++) {
    if (i > 0) takeComma(reader, shape);
    if (reader.peek() !== 0x5b) throw shapeMismatch(shape);
    reader.at++;
    index = readNested(reader, sink, shape, dim + 1, index);
  }
  takeEnd(reader, shape);
  return index;
}

/** Behind a bracket: exactly `count` elements and the closing bracket. */
function readRow(reader: JsonReader, sink: Sink, shape: readonly number[], index: number, count: number): void {
  if (count < 0) throw shapeMismatch(shape);
  const bytes = reader.bytes;
  for (let i = 0; i < count; i++) {
    if (i > 0) {
      if (bytes[reader.at] === 0x2c) reader.at++;
      else takeComma(reader, shape);
    }
    const byte = reader.peek();
    if (byte === 0x5b || byte === 0x5d) throw shapeMismatch(shape);
    sink.element(reader, index + i);
  }
  takeEnd(reader, shape);
}

function takeComma(reader: JsonReader, shape: readonly number[]): void {
  const byte = reader.peek();
  if (byte === 0x5d) throw shapeMismatch(shape);
  if (byte !== 0x2c) throw reader.failure("expected ',' or ']'");
  reader.at++;
}

function takeEnd(reader: JsonReader, shape: readonly number[]): void {
  const byte = reader.peek();
  if (byte === 0x5d) {
    reader.at++;
    return;
  }
  // A comma, or a first element where none should be; other text is broken JSON.
  if (byte === 0x2c || byte === 0x5b || reader.bytes[reader.at - 1] === 0x5b) throw shapeMismatch(shape);
  throw reader.failure("expected ',' or ']'");
}

type Elements = Int8Array | Int16Array | Int32Array | Uint8Array | Uint16Array | Uint32Array;

function createSink(datatype: Datatype, count: number, reader: JsonReader): Sink {
  switch (datatype) {
    case 'FP32':
      return floatSink(new Float32Array(count));
    case 'FP64':
      return floatSink(new Float64Array(count));
    case 'INT8':
      return integerSink(new Int8Array(count), -(2 ** 7), 2 ** 7 - 1);
    case 'INT16':
      return integerSink(new Int16Array(count), -(2 ** 15), 2 ** 15 - 1);
    case 'INT32':
      return integerSink(new Int32Array(count), -(2 ** 31), 2 ** 31 - 1);
    case 'UINT8':
      return integerSink(new Uint8Array(count), 0, 2 ** 8 - 1);
    case 'UINT16':
      return integerSink(new Uint16Array(count), 0, 2 ** 16 - 1);
    case 'UINT32':
      return integerSink(new Uint32Array(count), 0, 2 ** 32 - 1);
    case 'INT64':
      return longSink(new Uint32Array(2 * count), true);
    case 'UINT64':
      return longSink(new Uint32Array(2 * count), false);
    case 'BOOL':
      return boolSink(new Uint8Array(count));
    case 'BYTES':
      return bytesSink(count, reader);
    case 'FP16':
    case 'BF16':
      throw invalid(`receiving ${datatype} data via JSON is not supported`);
  }
}

function floatSink(values: Float32Array<ArrayBuffer> | Float64Array<ArrayBuffer>): Sink {
  const single = values instanceof Float32Array;
  return {
    element(reader, index) {
      values[index] = readFloat(reader, single);
    },
    finish: () => new Uint8Array(values.buffer),
  };
}

function integerSink(values: Elements & { readonly buffer: ArrayBuffer }, min: number, max: number): Sink {
  return {
    element(reader, index) {
      values[index] = readInteger(reader, min, max);
    },
    finish: () => new Uint8Array(values.buffer),
  };
}

function longSink(words: Uint32Array<ArrayBuffer>, signed: boolean): Sink {
  return {
    element: (reader, index) => readLongInteger(reader, words, 2 * index, signed),
    finish: () => new Uint8Array(words.buffer),
  };
}

/** true and false; 1 and 0 as well, which Triton takes. */
function boolSink(values: Uint8Array<ArrayBuffer>): Sink {
  return {
    element(reader, index) {
      const start = reader.at;
      const byte = reader.bytes[start];
      if (byte === 0x74) {
        reader.word('true');
        values[index] = 1;
      } else if (byte === 0x66) reader.word('false');
      else if (byte === 0x30 || byte === 0x31) values[index] = readInteger(reader, 0, 1);
      else throw elementFailure(reader, start, 'not a BOOL, expected true or false');
    },
    finish: () => values,
  };
}

/** Strings as UTF-8, each behind its length. Grows with what is really there. */
function bytesSink(count: number, reader: JsonReader): Sink {
  const left = reader.bytes.length - reader.at;
  let data = new Uint8Array(Math.min(4 * count + left, 65_536));
  let used = 0;
  return {
    element(source) {
      const start = source.at;
      if (source.bytes[start] !== 0x22) throw elementFailure(source, start, 'not a string');
      source.scanString();
      const most = used + 4 + source.stringStop - source.stringStart;
      if (most > data.length) {
        const grown = new Uint8Array(Math.max(most, 2 * data.length));
        grown.set(data.subarray(0, used));
        data = grown;
      }
      const end = source.unescape(data, used + 4);
      const length = end - used - 4;
      data[used] = length;
      data[used + 1] = length >>> 8;
      data[used + 2] = length >>> 16;
      data[used + 3] = length >>> 24;
      used = end;
    },
    finish: () => (used === data.length ? data : data.slice(0, used)),
  };
}
