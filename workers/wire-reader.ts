/**
 * Walks protobuf bytes field by field without decoding what nobody asks for: a tensor of 100 MB costs as much as one of 4 bytes.
 *
 * Called by `onnx-graph.ts`. Borrows the bytes it is given: what `bytes()` returns is a view on them. Must not know ONNX.
 */
import { ServeError } from '#src/base/errors';

export const VARINT = 0;
export const FIXED64 = 1;
export const LENGTH_DELIMITED = 2;
export const FIXED32 = 5;

/** The error for bytes that are no ONNX model; `reason` is a clause that has 'it' for the file. */
export function badModel(reason: string): ServeError {
  return new ServeError('INVALID_ARGUMENT', `model file is not a valid ONNX model: ${reason}`);
}

/** A cursor over one message. `next()` steps to a field; then exactly one of the reading methods or `skip()` is called. */
export class WireReader {
  /** Number of the field that the cursor stands on. */
  field = 0;
  wireType = 0;
  /** The two halves of the last varint, each 0 to 2^32 - 1. */
  low = 0;
  high = 0;
  private readonly buffer: Buffer;
  private position: number;
  private readonly end: number;

  constructor(buffer: Buffer, start = 0, end = buffer.length) {
    this.buffer = buffer;
    this.position = start;
    this.end = end;
  }

  /** Steps to the next field; false at the end of the message. */
  next(): boolean {
    if (this.position === this.end) return false;
    this.readVarint();
    if (this.high !== 0) throw badModel('it has a field number out of range');
    this.field = this.low >>> 3;
    this.wireType = this.low & 7;
    if (this.field === 0) throw badModel('it has a field number out of range');
    return true;
  }

  /** Whether bytes are left; for packed values, which have no fields. */
  get done(): boolean {
    return this.position === this.end;
  }

  /** Where the cursor stands in the bytes it was made with: before `next()`, the start of a field. */
  get offset(): number {
    return this.position;
  }

  skip(): void {
    if (this.wireType === VARINT) this.readVarint();
    else if (this.wireType === LENGTH_DELIMITED) this.range();
    else if (this.wireType === FIXED64) this.advance(8);
    else if (this.wireType === FIXED32) this.advance(4);
    else throw badModel(`it has wire type ${this.wireType}`);
  }

  /** A signed 64-bit varint as the nearest double; {@link low} and {@link high} hold it exactly. */
  int(): number {
    this.expect(VARINT);
    return this.readVarint();
  }

  string(): string {
    const start = this.range();
    return this.buffer.toString('utf8', start, this.position);
  }

  /** A view on the content; lives as long as the model's bytes. */
  bytes(): Buffer {
    const start = this.range();
    return this.buffer.subarray(start, this.position);
  }

  /** A reader over the message that is the content of this field. */
  message(): WireReader {
    const start = this.range();
    return new WireReader(this.buffer, start, this.position);
  }

  readVarint(): number {
    let low = 0;
    let high = 0;
    for (let shift = 0; ; shift += 7) {
      if (this.position === this.end) throw badModel('it ends inside a field');
      const byte = this.buffer[this.position++]!;
      const bits = byte & 0x7f;
      if (shift < 28) low |= bits << shift;
      else if (shift === 28) {
        low |= bits << 28;
        high = bits >>> 4;
      } else if (shift < 64) high |= bits << (shift - 32);
      else throw badModel('it has a number longer than 64 bits');
      if (byte < 0x80) break;
    }
    this.low = low >>> 0;
    this.high = high >>> 0;
    return (high | 0) * 4_294_967_296 + this.low;
  }

  /** Moves behind a length-delimited field; returns where its content starts. */
  private range(): number {
    this.expect(LENGTH_DELIMITED);
    const length = this.readVarint();
    const start = this.position;
    this.advance(length);
    return start;
  }

  private advance(count: number): void {
    if (count < 0 || count > this.end - this.position) throw badModel('it ends inside a field');
    this.position += count;
  }

  private expect(wireType: number): void {
    if (this.wireType !== wireType)
      throw badModel(`field ${this.field} has wire type ${this.wireType}, expected ${wireType}`);
  }
}
