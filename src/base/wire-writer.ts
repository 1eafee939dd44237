/**
 * Writes the protobuf wire format into memory that the caller has sized exactly.
 *
 * Called by the encoders of the gRPC front end and of the client. It allocates nothing and checks nothing but the end result: a wrong size is our own bug.
 */
import assert from 'node:assert';
import { copyBytes } from './copy-bytes.js';

/** Longer strings are left to native code. */
const SHORT_TEXT = 32;
/** Bytes of a varint of a non-negative integer below 2^31. */
export function varintBytes(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  return value < 0x1000_0000 ? 4 : 5;
}

/** Bytes of a varint of a non-negative safe integer; a dimension, say. */
export function int64Bytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes++;
  return bytes;
}

/** Bytes of `text` in UTF-8. */
export function textBytes(text: string): number {
  if (text.length > SHORT_TEXT) return Buffer.byteLength(text);
  for (let index = 0; index < text.length; index++) if (text.charCodeAt(index) >= 0x80) return Buffer.byteLength(text);
  return text.length;
}

export class WireWriter {
  private readonly target: Buffer;
  private pos: number;

  constructor(target: Buffer, offset: number) {
    this.target = target;
    this.pos = offset;
  }

  /** Tag (of one byte) and length of a delimited field. */
  head(tag: number, length: number): void {
    this.target[this.pos++] = tag;
    this.varint(length);
  }

  /** A string field, left out when empty. */
  text(tag: number, text: string): void {
    if (text === '') return;
    const { target } = this;
    const length = textBytes(text);
    this.head(tag, length);
    if (length === text.length && length <= SHORT_TEXT) {
      for (let index = 0; index < length; index++) target[this.pos++] = text.charCodeAt(index);
    } else this.pos += target.write(text, this.pos, length, 'utf8');
  }

  /** A packed `repeated int64` field of non-negative dimensions, left out when there are none. */
  shape(tag: number, shape: readonly number[], length: number): void {
    if (length === 0) return;
    this.head(tag, length);
    for (const dim of shape) this.varint(dim);
  }

  private varint(value: number): void {
    const { target } = this;
    let rest = value;
    for (; rest >= 0x8000_0000; rest = Math.floor(rest / 0x80)) target[this.pos++] = (rest % 0x80) | 0x80;
    for (; rest >= 0x80; rest >>>= 7) target[this.pos++] = (rest & 0x7f) | 0x80;
    target[this.pos++] = rest;
  }

  /** The value of a bytes field. */
  bytes(data: Uint8Array): void {
    this.pos = copyBytes(this.target, data, this.pos);
  }

  /** Leaves `length` bytes to the caller, who writes them at the place returned. */
  place(length: number): number {
    const at = this.pos;
    this.pos += length;
    return at;
  }

  /** Bytes written since `offset`, which must be `expected`. */
  finish(offset: number, expected: number): number {
    assert.equal(this.pos - offset, expected, 'encoded size differs from the size computed');
    return expected;
  }
}
