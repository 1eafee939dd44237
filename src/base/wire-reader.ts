/**
 * Reads the protobuf wire format from one received message: tags, varints, lengths, strings, unknown fields.
 *
 * Called by the decoders of the gRPC front end and of the client; one reader per message. It owns a position and a limit, never memory. It must not know a
 * message type, and must stay linear and bounded for any bytes: what the format forbids is a {@link WireError}, never a guess.
 */
import { ServeError } from './errors.js';

/** Bytes that are not a protobuf message. It is the sender's bug or attack; gRPC's libraries answer such with INTERNAL. */
export class WireError extends ServeError {
  constructor(message: string) {
    super('INTERNAL', message);
  }
}

/** Wire types of the format. */
export const VARINT = 0;
export const FIXED64 = 1;
export const DELIMITED = 2;
export const FIXED32 = 5;
const GROUP = 3;
const GROUP_END = 4;

/** Fields read from one message, skipped ones included: a million take some 20 ms, and no client sends as many. */
export const MAX_FIELDS = 1024 * 1024;
/** What a long or non-ASCII string counts for, by the time it takes. */
const FIELDS_PER_NATIVE_TEXT = 16;
/** Groups in groups in fields we skip; protobuf's own libraries stop at 100. */
const MAX_GROUP_DEPTH = 100;
/** Shorter strings are cheaper to build from character codes than through a call into native code. */
const SHORT_TEXT_BYTES = 24;

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

export class WireReader {
  readonly bytes: Buffer;
  /** Name of the message type, for messages of errors. */
  private readonly messageName: string;
  /** Next byte to read. */
  pos = 0;
  /** End of the (sub-)message being read. */
  limit: number;
  /** Result of {@link int64}: the low and high halves as signed 32-bit integers. */
  lo = 0;
  hi = 0;
  private fields = 0;

  constructor(bytes: Buffer, messageName: string) {
    this.bytes = bytes;
    this.limit = bytes.length;
    this.messageName = messageName;
  }

  malformed(what: string): WireError {
    return new WireError(`malformed ${this.messageName}: ${what} at byte ${this.pos}`);
  }

  /** Tag of the next field; the caller has seen that `pos < limit`. */
  tag(): number {
    if (++this.fields > MAX_FIELDS)
      throw new ServeError('RESOURCE_EXHAUSTED', `${this.messageName} has more than ${MAX_FIELDS} fields`);
    const first = this.bytes[this.pos]!;
    if (first >= 0x80) return this.longTag();
    if (first < 8) throw this.malformed('field number 0');
    this.pos++;
    return first;
  }

  private longTag(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      if (this.pos >= this.limit) throw this.malformed('truncated tag');
      const byte = this.bytes[this.pos++]!;
      if (shift === 28 && byte > 15) break;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        if (value >>> 3 === 0) throw this.malformed('field number 0');
        return value >>> 0;
      }
    }
    throw this.malformed('tag beyond 32 bits');
  }

  /** Length of a string, bytes, packed or sub-message field; what it announces is there. */
  length(): number {
    let value = 0;
    if (this.pos < this.limit && this.bytes[this.pos]! < 0x80) value = this.bytes[this.pos++]!;
    else value = this.longLength();
    if (value > this.limit - this.pos)
      throw this.malformed(`length ${value} where ${this.limit - this.pos} bytes are left`);
    return value;
  }

  private longLength(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      if (this.pos >= this.limit) throw this.malformed('truncated length');
      const byte = this.bytes[this.pos++]!;
      // The format's lengths are signed 32-bit integers.
      if (shift === 28 && byte > 7) break;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw this.malformed('length beyond 31 bits');
  }

  /** Enters a delimited field; returns the limit to give to {@link leave} at its end. */
  enter(): number {
    const outer = this.limit;
    const length = this.length();
    this.limit = this.pos + length;
    return outer;
  }

  leave(outer: number): void {
    this.limit = outer;
  }

  /** Low 32 bits of a varint of up to 64, signed: int32 and uint32 fields are read so. */
  int32(): number {
    if (this.pos < this.limit) {
      const first = this.bytes[this.pos]!;
      if (first < 0x80) {
        this.pos++;
        return first;
      }
    }
    this.int64();
    return this.lo;
  }

  /** A varint of up to 64 bits, into {@link lo} and {@link hi}. Bits beyond 64 are dropped, an eleventh byte is an error. */
  int64(): void {
    const { bytes, limit } = this;
    let pos = this.pos;
    let lo = 0;
    let hi = 0;
    for (let index = 0; index < 10; index++) {
      if (pos >= limit) {
        this.pos = pos;
        throw this.malformed('truncated varint');
      }
      const byte = bytes[pos++]!;
      const bits = byte & 0x7f;
      if (index < 4) lo |= bits << (index * 7);
      else if (index === 4) {
        lo |= bits << 28;
        hi = bits >>> 4;
      } else hi |= bits << (index * 7 - 32);
      if (byte < 0x80) {
        this.pos = pos;
        this.lo = lo;
        this.hi = hi;
        return;
      }
    }
    this.pos = pos;
    throw this.malformed('varint of more than 10 bytes');
  }

  /** An int64 as the nearest double. */
  int64Number(): number {
    if (this.pos < this.limit) {
      const first = this.bytes[this.pos]!;
      if (first < 0x80) {
        this.pos++;
        return first;
      }
    }
    this.int64();
    return this.hi * 0x1_0000_0000 + (this.lo >>> 0);
  }

  bool(): boolean {
    this.int64();
    return (this.lo | this.hi) !== 0;
  }

  double(): number {
    if (this.limit - this.pos < 8) throw this.malformed('truncated 64-bit field');
    const value = this.bytes.readDoubleLE(this.pos);
    this.pos += 8;
    return value;
  }

  /** A string field; anything but UTF-8 (surrogates and over-long forms included) is malformed. */
  text(): string {
    const length = this.length();
    const start = this.pos;
    this.pos = start + length;
    return this.textAt(start, this.pos);
  }

  private textAt(start: number, end: number): string {
    const { bytes } = this;
    if (end - start > SHORT_TEXT_BYTES) return this.utf8At(start, end);
    let text = '';
    let pos = start;
    for (; pos + 4 <= end; pos += 4) {
      const a = bytes[pos]!;
      const b = bytes[pos + 1]!;
      const c = bytes[pos + 2]!;
      const d = bytes[pos + 3]!;
      if ((a | b | c | d) >= 0x80) return this.utf8At(start, end);
      text += String.fromCharCode(a, b, c, d);
    }
    for (; pos < end; pos++) {
      const a = bytes[pos]!;
      if (a >= 0x80) return this.utf8At(start, end);
      text += String.fromCharCode(a);
    }
    return text;
  }

  private utf8At(start: number, end: number): string {
    // A call into native code: a message of millions of them must run into the bound as well.
    this.fields += FIELDS_PER_NATIVE_TEXT;
    try {
      return strictUtf8.decode(this.bytes.subarray(start, end));
    } catch {
      throw this.malformed('string that is not UTF-8');
    }
  }

  /** Passes over the value of a field that is not known here, or known with another wire type. */
  skip(tag: number): void {
    if ((tag & 7) === GROUP) this.skipGroup(tag >>> 3);
    else this.skipValue(tag & 7);
  }

  private skipValue(wireType: number): void {
    if (wireType === VARINT) this.int64();
    else if (wireType === FIXED64) this.skipBytes(8);
    else if (wireType === DELIMITED) this.skipBytes(this.length());
    else if (wireType === FIXED32) this.skipBytes(4);
    else throw this.malformed(wireType === GROUP_END ? 'end of a group that was not begun' : `wire type ${wireType}`);
  }

  private skipBytes(count: number): void {
    if (count > this.limit - this.pos) throw this.malformed('truncated field');
    this.pos += count;
  }

  private skipGroup(field: number): void {
    // Not recursive: the depth is the sender's choice.
    const open = [field];
    while (open.length > 0) {
      if (this.pos >= this.limit) throw this.malformed('group without end');
      const tag = this.tag();
      if ((tag & 7) === GROUP) {
        if (open.length === MAX_GROUP_DEPTH) throw this.malformed(`groups nested deeper than ${MAX_GROUP_DEPTH}`);
        open.push(tag >>> 3);
      } else if ((tag & 7) === GROUP_END) {
        if (open.pop() !== tag >>> 3) throw this.malformed('group ended by another field');
      } else this.skipValue(tag & 7);
    }
  }
}
