/**
 * Decodes `inference.v1.MultimodalInferRequest`: texts, pictures and embeddings by name, whose kind is known as soon as they are read.
 *
 * Called by model-infer.ts. Ownership, caps and errors as in infer-decode.ts, but for this: texts and pictures become BYTES elements
 * where they lie, so four bytes before each of them in the message are overwritten (see `elementInPlace`).
 */
import { isUtf8 } from 'node:buffer';
import { nowMs } from '../base/clock.js';
import { invalid, printable } from '../base/errors.js';
import { DELIMITED, FIXED32, WireReader } from '../base/wire-reader.js';
import type { DecodedInfer, DecodedInput } from './decoded-infer.js';
import { copyBytes } from './element-writer.js';
import { elementInPlace, MAX_TENSORS, NO_PARAMETERS, readName, tooMany } from './infer-fields.js';
import { readInferRequestV1 } from './infer-request-v1.js';

/** Throws INVALID_ARGUMENT, RESOURCE_EXHAUSTED and WireError. Writes to `bytes`. */
export function decodeMultimodalInferRequest(bytes: Buffer): DecodedInfer {
  const decodeStart = nowMs();
  const reader = new WireReader(bytes, 'MultimodalInferRequest');
  const embeddings = new Embeddings(reader);
  const request = readInferRequestV1(reader, () => readInput(reader, embeddings));
  return {
    ...request,
    byteLength: bytes.length + embeddings.allocated,
    note: '',
    decodeStart,
    decodeEnd: nowMs(),
  };
}

function readInput(reader: WireReader, embeddings: Embeddings): DecodedInput {
  let name = '';
  let content: 'text' | 'image' | 'embedding' | undefined;
  let contentCount = 0;
  let start = 0;
  let end = 0;
  let isText = true;
  const outer = reader.enter();
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    if (tag === 10) {
      name = readName(reader, 'input name');
      continue;
    }
    if (tag !== 18 && tag !== 26 && tag !== 34) {
      reader.skip(tag);
      continue;
    }
    if (++contentCount > MAX_TENSORS) throw tooMany('contents in an input', MAX_TENSORS);
    if (tag === 34) {
      // Of one oneof the last field counts; messages that follow each other are one.
      if (content !== 'embedding') embeddings.clear();
      content = 'embedding';
      embeddings.read();
      continue;
    }
    content = tag === 18 ? 'image' : 'text';
    end = reader.length();
    start = reader.pos;
    end += start;
    reader.pos = end;
    // What is no string is refused also where another field follows; the name to say it with may still come.
    if (tag === 26) isText &&= isUtf8(reader.bytes.subarray(start, end));
  }
  reader.leave(outer);
  if (!isText) throw invalid(`text of input '${printable(name)}' is not valid UTF-8`);
  if (content === undefined) {
    throw invalid(`input '${printable(name)}' has no content, expected one of image_bytes, text and embedding`);
  }
  const parameters = NO_PARAMETERS;
  if (content === 'embedding') {
    const data = embeddings.take();
    return { name, datatype: 'FP32', shape: [data.byteLength / 4], data, content, parameters };
  }
  const data = elementInPlace(reader.bytes, start, end);
  return { name, datatype: 'BYTES', shape: [1], data, content, parameters };
}

const VALUE = (1 << 3) | FIXED32;
const VALUES = (1 << 3) | DELIMITED;

/** The values of one input's embedding at a time: one packed run is a view on the message, pieces are put together in new memory. */
class Embeddings {
  /** Bytes of memory made for pieces so far. */
  allocated = 0;
  private readonly reader: WireReader;
  /** Start and end of each Embedding of this input. */
  private readonly spans: number[] = [];
  private byteLength = 0;
  private runs = 0;
  private runStart = 0;

  constructor(reader: WireReader) {
    this.reader = reader;
  }

  clear(): void {
    this.spans.length = 0;
    this.byteLength = 0;
    this.runs = 0;
  }

  /** Reads one Embedding, of which the tag has been read. */
  read(): void {
    const { reader } = this;
    const outer = reader.enter();
    this.spans.push(reader.pos, reader.limit);
    while (reader.pos < reader.limit) {
      const length = this.runLength(reader.tag());
      if (length === 0) continue;
      this.runs++;
      this.runStart = reader.pos;
      this.byteLength += length;
      reader.pos += length;
    }
    reader.leave(outer);
  }

  /** All values of this input, little-endian. */
  take(): Uint8Array {
    const { reader, spans, byteLength, runStart } = this;
    if (this.runs <= 1) return reader.bytes.subarray(runStart, runStart + byteLength);
    const { pos, limit } = reader;
    const data = Buffer.allocUnsafeSlow(byteLength);
    this.allocated += byteLength;
    let at = 0;
    for (let span = 0; span < spans.length; span += 2) {
      reader.pos = spans[span]!;
      reader.limit = spans[span + 1]!;
      while (reader.pos < reader.limit) {
        const length = this.runLength(reader.tag());
        copyBytes(reader, reader.pos + length, data, at);
        at += length;
        reader.pos += length;
      }
    }
    reader.pos = pos;
    reader.limit = limit;
    return data;
  }

  /** Bytes of values that follow the tag; other fields are passed over and count none. */
  private runLength(tag: number): number {
    const { reader } = this;
    if (tag === VALUES) {
      const length = reader.length();
      if (length % 4 !== 0) throw reader.malformed(`packed FP32 of ${length} bytes, not a multiple of 4,`);
      return length;
    }
    if (tag !== VALUE) reader.skip(tag);
    else if (reader.limit - reader.pos < 4) throw reader.malformed('truncated 32-bit field');
    else return 4;
    return 0;
  }
}
