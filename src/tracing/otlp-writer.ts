/**
 * Writes OTLP's protobuf into one buffer that grows: messages within messages, and the few kinds of fields that spans have.
 *
 * Used by `otlp-request.ts`. OpenTelemetry's own spans and serializer cost 30 us for the eight spans of a request, this and what is
 * around it 9: at a request of some 90 us that is why the SDK is not used. The length of a message takes four bytes whatever it is,
 * which every reader of protobuf takes, so that nothing is measured before it is written. Must not know what a span is.
 */
import type { SpanId, TraceId } from './trace-context.js';

/** Bytes of a message's length: seven bits each, enough for 256 MiB. */
const LENGTH_BYTES = 4;
/** Longer texts are left to native code. */
const SHORT_TEXT = 40;
/** A tag and a number never take more. */
const FIELD_BYTES = 24;

export class OtlpWriter {
  #bytes = Buffer.allocUnsafeSlow(64 * 1024);
  #at = 0;

  /** Starts anew. */
  clear(): void {
    this.#at = 0;
  }

  /** A copy of what was written. */
  copy(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#at));
  }

  /** Begins a message in `field`; hand what it returns to `close`. */
  open(field: number): number {
    this.#room(FIELD_BYTES);
    this.#varint((field << 3) | 2);
    this.#at += LENGTH_BYTES;
    return this.#at;
  }

  close(start: number): void {
    const bytes = this.#bytes;
    let rest = this.#at - start;
    for (let at = start - LENGTH_BYTES; at < start - 1; at++, rest >>>= 7) bytes[at] = (rest & 0x7f) | 0x80;
    bytes[start - 1] = rest & 0x7f;
  }

  text(field: number, text: string): void {
    this.#room(FIELD_BYTES + 3 * text.length);
    this.#varint((field << 3) | 2);
    const bytes = this.#bytes;
    if (text.length <= SHORT_TEXT) {
      const start = this.#at + 1;
      let index = 0;
      for (; index < text.length; index++) {
        const code = text.charCodeAt(index);
        if (code >= 0x80) break;
        bytes[start + index] = code;
      }
      if (index === text.length) {
        bytes[this.#at] = index;
        this.#at = start + index;
        return;
      }
    }
    this.#varint(Buffer.byteLength(text));
    this.#at += bytes.write(text, this.#at, 'utf8');
  }

  traceId(field: number, [a, b, c, d]: TraceId): void {
    this.#id(field, 16);
    this.#word(a);
    this.#word(b);
    this.#word(c);
    this.#word(d);
  }

  spanId(field: number, [a, b]: SpanId): void {
    this.#id(field, 8);
    this.#word(a);
    this.#word(b);
  }

  /** A `fixed64`, given as two halves. */
  fixed64(field: number, high: number, low: number): void {
    this.#room(FIELD_BYTES);
    this.#varint((field << 3) | 1);
    this.#littleEndian(low);
    this.#littleEndian(high);
  }

  fixed32(field: number, value: number): void {
    this.#room(FIELD_BYTES);
    this.#varint((field << 3) | 5);
    this.#littleEndian(value);
  }

  /** A whole number that is not negative. */
  number(field: number, value: number): void {
    this.#room(FIELD_BYTES);
    this.#varint(field << 3);
    this.#varint(value);
  }

  #id(field: number, length: number): void {
    this.#room(FIELD_BYTES);
    this.#varint((field << 3) | 2);
    this.#bytes[this.#at++] = length;
  }

  #word(value: number): void {
    const bytes = this.#bytes;
    bytes[this.#at++] = value >>> 24;
    bytes[this.#at++] = value >>> 16;
    bytes[this.#at++] = value >>> 8;
    bytes[this.#at++] = value;
  }

  #littleEndian(value: number): void {
    const bytes = this.#bytes;
    bytes[this.#at++] = value;
    bytes[this.#at++] = value >>> 8;
    bytes[this.#at++] = value >>> 16;
    bytes[this.#at++] = value >>> 24;
  }

  #varint(value: number): void {
    const bytes = this.#bytes;
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes[this.#at++] = (rest % 0x80) | 0x80;
    bytes[this.#at++] = rest;
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(2 * this.#bytes.length + bytes);
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }
}
