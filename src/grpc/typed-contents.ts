/**
 * Turns typed tensor contents (`InferTensorContents`) into the raw layout that the engine takes.
 *
 * Called by the decoder of `inference.ModelInferRequest` when a tensor's datatype is known, with the places in the message where its
 * contents lie. Two passes: the first counts and refuses, the second writes into memory of exactly the right size. Contents that
 * are one packed run of floats already are the raw layout and are not copied at all.
 */
import { invalid, printable, ServeError } from '../base/errors.js';
import { DELIMITED, FIXED32, FIXED64, VARINT, type WireReader } from '../base/wire-reader.js';
import { copyBytes, countVarints, ElementWriter } from './element-writer.js';

/**
 * Varint bytes of typed contents in one request. They are read one by one on the main thread, at some 4 ns each, and can grow
 * eightfold; raw contents have neither cost nor limit. It is the message limit that gRPC's libraries have by default.
 */
export const MAX_VARINT_BYTES = 4 * 1024 * 1024;
/**
 * Memory that the numbers of one request may need: a byte of the message can be eight of a tensor. Packed floats need none, and
 * strings little more than the message. Its pages are new: to write 16 MB takes 15 ms and more.
 */
export const MAX_MADE_BYTES = 16 * 1024 * 1024;
/** From here on contents must be as many as the shape says before memory is made for them. */
const CHECKED_BYTES = 1024 * 1024;

const FIELDS = 8;
const BYTES_FIELD = 8;
/** Datatype that each field of InferTensorContents stands for, and the wire type of one element outside a packed run. */
const FIELD_DATATYPE = ['', 'BOOL', 'INT32', 'INT64', 'UINT32', 'UINT64', 'FP32', 'FP64', 'BYTES'];
const FIELD_WIRE_TYPE = [-1, VARINT, VARINT, VARINT, VARINT, VARINT, FIXED32, FIXED64, DELIMITED];

/** Where each datatype is to be found, and its element size in the raw layout. FP16 and BF16 have no field. */
const TYPED: ReadonlyMap<string, { readonly field: number; readonly byteSize: number }> = new Map([
  ['BOOL', { field: 1, byteSize: 1 }],
  ['INT8', { field: 2, byteSize: 1 }],
  ['INT16', { field: 2, byteSize: 2 }],
  ['INT32', { field: 2, byteSize: 4 }],
  ['INT64', { field: 3, byteSize: 8 }],
  ['UINT8', { field: 4, byteSize: 1 }],
  ['UINT16', { field: 4, byteSize: 2 }],
  ['UINT32', { field: 4, byteSize: 4 }],
  ['UINT64', { field: 5, byteSize: 8 }],
  ['FP32', { field: 6, byteSize: 4 }],
  ['FP64', { field: 7, byteSize: 8 }],
  ['BYTES', { field: 8, byteSize: 0 }],
]);

/** The tensor that contents belong to, as far as errors name it. */
export interface TypedTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

/** Decodes the typed contents of one request's inputs, one call per input. */
export class TypedContents {
  /** Bytes of memory made for them so far. */
  allocated = 0;
  private readonly reader: WireReader;
  private readonly modelName: string;
  private varintBytes = 0;
  /** Elements found in each field, by field number. */
  private readonly counts = new Array<number>(FIELDS + 1).fill(0);
  /** Of all `bytes_contents` elements together. */
  private elementBytes = 0;
  private runs = 0;
  private runStart = 0;
  private runEnd = 0;

  constructor(reader: WireReader, modelName: string) {
    this.reader = reader;
    this.modelName = modelName;
  }

  /**
   * `spans` holds start and end of every `contents` field of this tensor, which count as one message. Returns the raw layout: a view
   * on the message, or new memory. Throws Triton's INVALID_ARGUMENT texts, WireError, RESOURCE_EXHAUSTED.
   */
  toRaw(tensor: TypedTensor, spans: readonly number[]): Uint8Array {
    this.count(spans);
    const found = this.fieldOf(tensor);
    if (found === 0) return new Uint8Array(0);
    // A packed run of floats alone is the raw layout already.
    if (this.runs === 1 && (found === 6 || found === 7)) return this.reader.bytes.subarray(this.runStart, this.runEnd);
    return found === BYTES_FIELD ? this.writeBytes(spans) : this.writeNumbers(spans, tensor, found);
  }

  private count(spans: readonly number[]): void {
    const { reader, counts } = this;
    counts.fill(0);
    this.elementBytes = 0;
    this.runs = 0;
    for (let span = 0; span < spans.length; span += 2) {
      reader.pos = spans[span]!;
      reader.limit = spans[span + 1]!;
      while (reader.pos < reader.limit) {
        const tag = reader.tag();
        const field = tag >>> 3;
        const wireType = tag & 7;
        if (field > FIELDS) reader.skip(tag);
        else if (wireType === FIELD_WIRE_TYPE[field]) this.countElement(tag, field);
        else if (wireType === DELIMITED) this.countRun(field);
        else reader.skip(tag);
      }
    }
  }

  private countElement(tag: number, field: number): void {
    const { reader, counts } = this;
    counts[field]!++;
    if (field === BYTES_FIELD) {
      const length = reader.length();
      this.elementBytes += length;
      reader.pos += length;
    } else {
      // Not a packed run: never a view.
      this.runs += 2;
      reader.skip(tag);
    }
  }

  private countRun(field: number): void {
    const { reader, counts } = this;
    const length = reader.length();
    const start = reader.pos;
    const end = start + length;
    if (length === 0) return;
    if (field >= 6) {
      const byteSize = field === 6 ? 4 : 8;
      if (length % byteSize !== 0)
        throw reader.malformed(`packed ${FIELD_DATATYPE[field]} of ${length} bytes, not a multiple of ${byteSize},`);
      counts[field]! += length / byteSize;
    } else {
      this.varintBytes += length;
      if (this.varintBytes > MAX_VARINT_BYTES) {
        throw new ServeError(
          'RESOURCE_EXHAUSTED',
          `typed contents of request for model '${printable(this.modelName)}' hold more than ${MAX_VARINT_BYTES} bytes of integers, use raw_input_contents`,
        );
      }
      if (reader.bytes[end - 1]! >= 0x80) throw reader.malformed('packed integers ending inside a varint');
      counts[field]! += countVarints(reader.bytes, start, end);
    }
    this.runs++;
    this.runStart = start;
    this.runEnd = end;
    reader.pos = end;
  }

  /** The one field that has elements, 0 for none; anything else is refused in the order and the words of Triton. */
  private fieldOf(tensor: TypedTensor): number {
    const expected = TYPED.get(tensor.datatype)?.field ?? 0;
    let found = 0;
    for (let field = 1; field <= FIELDS; field++) {
      if (this.counts[field] === 0) continue;
      const where = `unexpected explicit tensor data for input tensor '${printable(tensor.name)}' for model '${printable(this.modelName)}'`;
      if (found !== 0) throw invalid(`${where}, binary data was already supplied.`);
      if (field !== expected) {
        const datatype = tensor.datatype === '' ? '<invalid>' : printable(tensor.datatype);
        throw invalid(`${where} of type '${FIELD_DATATYPE[field]}', expected datatype '${datatype}'`);
      }
      found = field;
    }
    return found;
  }

  private writeBytes(spans: readonly number[]): Uint8Array {
    const { reader } = this;
    const size = this.elementBytes + 4 * this.counts[BYTES_FIELD]!;
    const raw = Buffer.allocUnsafeSlow(size);
    this.allocated += size;
    let offset = 0;
    for (let span = 0; span < spans.length; span += 2) {
      reader.pos = spans[span]!;
      reader.limit = spans[span + 1]!;
      while (reader.pos < reader.limit) {
        const tag = reader.tag();
        if (tag !== ((BYTES_FIELD << 3) | DELIMITED)) {
          reader.skip(tag);
          continue;
        }
        const length = reader.length();
        raw.writeUInt32LE(length, offset);
        copyBytes(reader, reader.pos + length, raw, offset + 4);
        offset += 4 + length;
        reader.pos += length;
      }
    }
    return raw;
  }

  /** A wrong count costs a sender one byte per element and would cost us eight. Sizes below that are the engine's to compare. */
  private checkSize(tensor: TypedTensor, size: number, byteSize: number): void {
    let expected = byteSize;
    for (const dim of tensor.shape) expected *= dim;
    if (expected === size) return;
    throw invalid(
      `input byte size mismatch for input '${printable(tensor.name)}' for model '${printable(this.modelName)}'. Expected ${expected}, got ${size}`,
    );
  }

  private writeNumbers(spans: readonly number[], tensor: TypedTensor, field: number): Uint8Array {
    const { reader } = this;
    const { byteSize } = TYPED.get(tensor.datatype)!;
    const size = this.counts[field]! * byteSize;
    if (size > CHECKED_BYTES) this.checkSize(tensor, size, byteSize);
    this.allocated += size;
    if (this.allocated > MAX_MADE_BYTES) {
      throw new ServeError(
        'RESOURCE_EXHAUSTED',
        `typed contents of request for model '${printable(this.modelName)}' take more than ${MAX_MADE_BYTES} bytes as tensors, use raw_input_contents`,
      );
    }
    const raw = Buffer.allocUnsafeSlow(size);
    const elements = new ElementWriter(reader, raw, { field, byteSize });
    for (let span = 0; span < spans.length; span += 2) {
      reader.pos = spans[span]!;
      const limit = spans[span + 1]!;
      reader.limit = limit;
      while (reader.pos < limit) {
        const tag = reader.tag();
        const wireType = tag & 7;
        if (tag >>> 3 === field && wireType === DELIMITED) {
          reader.enter();
          elements.write(reader.limit);
          reader.limit = limit;
        } else if (tag >>> 3 === field && wireType === FIELD_WIRE_TYPE[field])
          elements.write(reader.pos + (field >= 6 ? byteSize : 1));
        else reader.skip(tag);
      }
    }
    return raw;
  }
}
