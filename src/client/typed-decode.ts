/**
 * Reads `InferTensorContents`: outputs of servers that answer with fields of numbers.
 *
 * Called by grpc-decode.ts. A tensor of floats is one packed run mostly, and then a view; all else is read number by number. Must stay
 * linear and bounded for any bytes.
 */
import { DATATYPES, type Datatype } from '../base/datatype.js';
import { DELIMITED, FIXED32, FIXED64, VARINT, type WireReader } from '../base/wire-reader.js';
import { ClientError } from './client-error.js';
import { elementCount, fromRaw, type NumericData, viewOf } from './tensor.js';
import { BYTES_FIELD, TYPED_FIELDS, words } from './typed-encode.js';
import type { TensorData } from './types.js';

/** An output whose contents are to be read. */
export interface TypedOutput {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
}

/**
 * Reads contents, whose fields lie between each pair of `spans`. Throws WireError, and INTERNAL where the elements are not as many as the
 * shape says or of another kind.
 */
export function readTyped(reader: WireReader, spans: readonly number[], output: TypedOutput): TensorData {
  const field = TYPED_FIELDS[output.datatype];
  if (field === undefined) throw broken(output, 'has typed contents, which have no field for it');
  if (field === BYTES_FIELD) return readElements(reader, spans, output);
  return readRun(reader, spans, { ...output, field }) ?? new NumberReader(reader, spans, output).read(field);
}

/** Floats whose contents are one packed run of all of them: the raw layout. Undefined where they are anything else. */
function readRun(
  reader: WireReader,
  spans: readonly number[],
  { name, datatype, shape, field }: TypedOutput & { readonly field: number },
): TensorData | undefined {
  if (field < 6 || spans.length !== 2 || spans[0] === spans[1]) return undefined;
  reader.pos = spans[0]!;
  reader.limit = spans[1]!;
  if (reader.tag() !== ((field << 3) | DELIMITED)) return undefined;
  const length = reader.length();
  if (reader.pos + length !== reader.limit || length !== elementCount(shape) * DATATYPES[datatype].byteSize)
    return undefined;
  return fromRaw(name, datatype, shape, reader.bytes.subarray(reader.pos, reader.limit));
}

function readElements(reader: WireReader, spans: readonly number[], output: TypedOutput): Uint8Array[] {
  const elements: Uint8Array[] = [];
  for (let span = 0; span < spans.length; span += 2) {
    reader.pos = spans[span]!;
    reader.limit = spans[span + 1]!;
    while (reader.pos < reader.limit) {
      const tag = reader.tag();
      if (tag !== ((BYTES_FIELD << 3) | DELIMITED)) {
        refuseOther(tag, output);
        reader.skip(tag);
        continue;
      }
      const length = reader.length();
      const { buffer, byteOffset } = reader.bytes;
      elements.push(new Uint8Array(buffer, byteOffset + reader.pos, length));
      reader.pos += length;
    }
  }
  const expected = elementCount(output.shape);
  if (elements.length !== expected) throw broken(output, `has ${elements.length} elements, its shape says ${expected}`);
  return elements;
}

function refuseOther(tag: number, output: TypedOutput): void {
  if (tag >>> 3 <= BYTES_FIELD) throw broken(output, `has contents in field ${tag >>> 3}, which is not its datatype's`);
}

function broken({ name, datatype }: TypedOutput, what: string): ClientError {
  return new ClientError('INTERNAL', `output '${name}' of datatype ${datatype} ${what}`);
}

const WIRE_TYPES = [-1, VARINT, VARINT, VARINT, VARINT, VARINT, FIXED32, FIXED64];

/** The numbers of one output. */
class NumberReader {
  readonly #reader: WireReader;
  readonly #spans: readonly number[];
  readonly #output: TypedOutput;
  readonly #count: number;
  readonly #data: NumericData;
  readonly #halves: Uint32Array;
  #index = 0;

  constructor(reader: WireReader, spans: readonly number[], output: TypedOutput) {
    this.#reader = reader;
    this.#spans = spans;
    this.#output = output;
    this.#count = elementCount(output.shape);
    let bytes = 0;
    for (let span = 0; span < spans.length; span += 2) bytes += spans[span + 1]! - spans[span]!;
    // Every element takes a byte at least: no memory is made for what can't be there.
    if (!(this.#count <= bytes))
      throw broken(output, `has ${bytes} bytes of contents, its shape says ${this.#count} elements`);
    const { byteSize } = DATATYPES[output.datatype];
    this.#data = viewOf(output.datatype, new ArrayBuffer(this.#count * byteSize), 0, this.#count);
    this.#halves = byteSize === 8 ? words(this.#data) : NO_HALVES;
  }

  read(field: number): TensorData {
    const reader = this.#reader;
    const spans = this.#spans;
    for (let span = 0; span < spans.length; span += 2) {
      reader.pos = spans[span]!;
      const limit = spans[span + 1]!;
      reader.limit = limit;
      while (reader.pos < limit) {
        const tag = reader.tag();
        if (tag === ((field << 3) | DELIMITED)) {
          reader.enter();
          while (reader.pos < reader.limit) this.#element(field);
          reader.leave(limit);
        } else if (tag === ((field << 3) | WIRE_TYPES[field]!)) this.#element(field);
        else {
          refuseOther(tag, this.#output);
          reader.skip(tag);
        }
      }
    }
    if (this.#index !== this.#count) throw this.#countError(this.#index);
    return this.#data;
  }

  #element(field: number): void {
    const reader = this.#reader;
    const index = this.#index++;
    if (index >= this.#count) throw this.#countError(`more than ${this.#count}`);
    if (field === 1) (this.#data as Uint8Array)[index] = reader.bool() ? 1 : 0;
    else if (field === 7) (this.#data as Float64Array)[index] = reader.double();
    else if (field === 6) (this.#data as Float32Array)[index] = this.#float();
    else if (this.#halves.length > 0) {
      reader.int64();
      this.#halves[2 * index] = reader.lo;
      this.#halves[2 * index + 1] = reader.hi;
    } else (this.#data as Int32Array)[index] = reader.int32();
  }

  #float(): number {
    const reader = this.#reader;
    if (reader.limit - reader.pos < 4) throw reader.malformed('truncated 32-bit field');
    const value = reader.bytes.readFloatLE(reader.pos);
    reader.pos += 4;
    return value;
  }

  #countError(actual: number | string): ClientError {
    return broken(this.#output, `has ${actual} elements, its shape says ${this.#count}`);
  }
}

const NO_HALVES = new Uint32Array(0);
