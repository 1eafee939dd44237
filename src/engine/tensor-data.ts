/**
 * Checks the bytes of one input: as many as its shape says, BOOL elements 0 or 1, BYTES elements whole, UTF-8 and free of NULs.
 *
 * Called by validation, on the main thread, for bodies of up to the size limits: every check is one pass at about the speed of
 * memory, never a call per element. Every refusal is INVALID_ARGUMENT, in Triton's words where Triton has some.
 */
import { isUtf8 } from 'node:buffer';
import { DATATYPES } from '../base/datatype.js';
import { invalid, type ServeError } from '../base/errors.js';
import { bytesElementLength } from '../runtime/tensor.js';
import type { Model } from './model.js';
import { elementCount, type TensorSpec } from './tensor-spec.js';
import type { InferInput } from './types.js';

/**
 * String elements of one input. Each becomes a JavaScript string in the worker and again bytes afterwards, at some 200 ns and 40 bytes:
 * a body of 64 MB could hold sixteen million empty ones, which would keep a worker busy for 10 s.
 */
export const MAX_STRING_ELEMENTS = 1024 * 1024;

/** Throws INVALID_ARGUMENT naming the input, what was expected and what was found. */
export function checkTensorData(model: Model, spec: TensorSpec, { shape, data }: InferInput): void {
  const count = elementCount(shape);
  if (spec.datatype === 'BYTES') {
    checkStrings(`inference input '${spec.name}' for model '${model.name}'`, data, count);
    return;
  }
  const expected = count * DATATYPES[spec.datatype].byteSize;
  if (data.byteLength !== expected) {
    throw invalid(
      `input byte size mismatch for input '${spec.name}' for model '${model.name}'. Expected ${expected}, got ${data.byteLength}`,
    );
  }
  if (spec.datatype === 'BOOL' && !isBoolean(data)) {
    throw invalid(`input '${spec.name}' for model '${model.name}' has BOOL bytes other than 0 and 1`);
  }
}

/** Whether all bytes are 0 or 1. Four at a time: one by one takes ten times as long. */
function isBoolean(data: Uint8Array): boolean {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const words = data.byteLength & ~3;
  let bits = 0;
  for (let at = 0; at < words; at += 4) bits |= view.getUint32(at, true);
  for (let at = words; at < data.byteLength; at++) bits |= data[at]!;
  return (bits & 0xfefefefe) === 0;
}

function checkStrings(where: string, data: Uint8Array, expected: number): void {
  const text = new TextCheck(where, data);
  checkElements(where, data, expected, (start, end, index) => text.add(start, end, index));
  text.flush();
}

/**
 * Walks the BYTES elements in `data`, which must be `expected` whole ones; `visit` gets where each lies, from its length on to its end.
 * Throws INVALID_ARGUMENT that begins with `where`.
 */
export function checkElements(
  where: string,
  data: Uint8Array,
  expected: number,
  visit: (start: number, end: number, index: number) => void,
): void {
  if (expected > MAX_STRING_ELEMENTS) {
    throw invalid(`${expected} string elements for ${where}, at most ${MAX_STRING_ELEMENTS} are allowed`);
  }
  let at = 0;
  let count = 0;
  for (; at < data.byteLength; count++) {
    const left = data.byteLength - at;
    if (left < 4) {
      throw invalid(
        `incomplete string length indicator for ${where}, expecting 4 bytes but only ${left} bytes available. Please make sure the string length indicator is in one buffer.`,
      );
    }
    if (count === expected)
      throw invalid(`unexpected number of string elements ${count + 1} for ${where}, expecting ${expected}`);
    const length = bytesElementLength(data, at);
    if (length > left - 4) {
      throw invalid(
        `incomplete string data for ${where}, expecting string of length ${length} but only ${left - 4} bytes available`,
      );
    }
    visit(at, at + 4 + length, count);
    at += 4 + length;
  }
  if (count !== expected) throw invalid(`expected ${expected} string elements for ${where}, got ${count}`);
}

/** Longer elements are worth calls of their own. */
const LONG_BYTES = 1024;
const WINDOW_BYTES = 64 * 1024;
/** Scratch memory, used within one call and made by the first that needs it. */
let scratch: Buffer | undefined;
/** Takes the place of the four bytes of a length: nothing that could continue a character of the element before it. */
const SEPARATOR = 0x20202020;

/**
 * Whether elements are text that ONNX Runtime's string tensors can hold: other bytes than UTF-8 would come back changed, and a NUL
 * would end the string. Short elements are gathered in a window, their lengths blanked, and looked at together.
 */
class TextCheck {
  readonly #where: string;
  readonly #data: Uint8Array;
  /** The gathered elements: where they lie in the data, the first one's index, and where each one's length is, from the start. */
  #start = 0;
  #end = 0;
  #first = 0;
  readonly #lengthsAt: number[] = [];

  constructor(where: string, data: Uint8Array) {
    this.#where = where;
    this.#data = data;
  }

  /** Element `index` lies from `start` (its length) to `end`. */
  add(start: number, end: number, index: number): void {
    if (end - start > LONG_BYTES) {
      this.flush();
      this.#checkOne(start, end, index);
      return;
    }
    if (end - this.#start > WINDOW_BYTES) this.flush();
    if (this.#lengthsAt.length === 0) {
      this.#start = start;
      this.#first = index;
    }
    this.#lengthsAt.push(start - this.#start);
    this.#end = end;
  }

  /** Looks at what has been gathered. */
  flush(): void {
    const lengthsAt = this.#lengthsAt;
    const count = lengthsAt.length;
    if (count === 0) return;
    scratch ??= Buffer.allocUnsafeSlow(WINDOW_BYTES);
    const bytes = this.#end - this.#start;
    scratch.set(this.#data.subarray(this.#start, this.#end));
    for (let i = 0; i < count; i++) scratch.writeUInt32LE(SEPARATOR, lengthsAt[i]!);
    const gathered = scratch.subarray(0, bytes);
    if (!isUtf8(gathered) || gathered.includes(0)) {
      for (let i = 0; i < count; i++) {
        this.#checkOne(this.#start + lengthsAt[i]!, this.#start + (lengthsAt[i + 1] ?? bytes), this.#first + i);
      }
    }
    lengthsAt.length = 0;
  }

  #checkOne(start: number, end: number, index: number): void {
    const element = this.#data.subarray(start + 4, end);
    if (!isUtf8(element)) throw this.#failure(index, "is not valid UTF-8, which this model's string tensors require");
    if (element.includes(0)) throw this.#failure(index, "has a NUL byte, at which this model's string tensors end");
  }

  #failure(index: number, what: string): ServeError {
    return invalid(`string element ${index} of ${this.#where} ${what}`);
  }
}
