/**
 * Writes the elements of typed contents down in the raw layout; the loops that typed contents spend their time in.
 *
 * Called by typed-contents.ts only, which has counted the elements and made memory of the right size.
 */
import type { WireReader } from '../base/wire-reader.js';

/** Writes the elements of one tensor's one typed field, run by run, into the memory made for them. */
export class ElementWriter {
  private readonly reader: WireReader;
  private readonly raw: Buffer;
  private readonly halves: Uint16Array;
  private readonly words: Uint32Array;
  private readonly field: number;
  private readonly byteSize: number;
  private index = 0;

  constructor(reader: WireReader, raw: Buffer, element: { readonly field: number; readonly byteSize: number }) {
    this.reader = reader;
    this.raw = raw;
    this.halves = new Uint16Array(raw.buffer, raw.byteOffset, raw.length >>> 1);
    this.words = new Uint32Array(raw.buffer, raw.byteOffset, raw.length >>> 2);
    this.field = element.field;
    this.byteSize = element.byteSize;
  }

  /** Takes the elements that begin before `end`: a packed run, or the one element that is not packed. */
  write(end: number): void {
    const { reader, byteSize } = this;
    if (this.field >= 6) this.writeFloats(end);
    else if (this.field === 1) this.index = writeBools(reader, end, this.raw, this.index);
    else if (byteSize === 1) this.index = writeIntegers(reader, end, this.raw, this.index);
    else if (byteSize === 2) this.index = writeIntegers(reader, end, this.halves, this.index);
    else if (byteSize === 4) this.index = writeIntegers(reader, end, this.words, this.index);
    else this.index = writeLongs(reader, end, this.words, this.index);
  }

  private writeFloats(end: number): void {
    const { reader, byteSize } = this;
    copyBytes(reader, end, this.raw, this.index * byteSize);
    this.index += (end - reader.pos) / byteSize;
    reader.pos = end;
  }
}

/** Varints between `start` and `end`; the byte before `end` must be the last of one. */
export function countVarints(bytes: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let pos = start; pos < end; pos++) count += (bytes[pos]! >>> 7) ^ 1;
  return count;
}

/** Writes `reader.pos` up to `end` as 0 and 1; returns the index after the last. */
function writeBools(reader: WireReader, end: number, out: Uint8Array, index: number): number {
  const { bytes } = reader;
  while (reader.pos < end) {
    const first = bytes[reader.pos]!;
    if (first < 0x80) {
      out[index++] = first === 0 ? 0 : 1;
      reader.pos++;
    } else out[index++] = reader.bool() ? 1 : 0;
  }
  return index;
}

/** As {@link writeBools}, the low bits of each integer, as many as an element of `out` has. */
function writeIntegers(
  reader: WireReader,
  end: number,
  out: Uint8Array | Uint16Array | Uint32Array,
  index: number,
): number {
  const { bytes } = reader;
  let pos = reader.pos;
  while (pos < end) {
    const first = bytes[pos]!;
    if (first < 0x80) {
      out[index++] = first;
      pos++;
    } else {
      reader.pos = pos;
      reader.int64();
      out[index++] = reader.lo;
      pos = reader.pos;
    }
  }
  reader.pos = pos;
  return index;
}

/** As {@link writeBools}, 64-bit integers; `out` takes the low and the high half of each (the hosts we run on are little-endian). */
function writeLongs(reader: WireReader, end: number, out: Uint32Array, index: number): number {
  const { bytes } = reader;
  let pos = reader.pos;
  while (pos < end) {
    const first = bytes[pos]!;
    if (first < 0x80) {
      out[index * 2] = first;
      out[index * 2 + 1] = 0;
      pos++;
    } else {
      reader.pos = pos;
      reader.int64();
      out[index * 2] = reader.lo;
      out[index * 2 + 1] = reader.hi;
      pos = reader.pos;
    }
    index++;
  }
  reader.pos = pos;
  return index;
}

/** Copies from the reader's place up to `end`; the call into native code is worth it from some 16 bytes on. */
export function copyBytes(reader: WireReader, end: number, target: Buffer, offset: number): void {
  const { bytes, pos } = reader;
  if (end - pos > 16) bytes.copy(target, offset, pos, end);
  else for (let from = pos, to = offset; from < end; from++, to++) target[to] = bytes[from]!;
}
