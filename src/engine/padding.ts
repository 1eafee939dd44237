/**
 * Texts of different lengths in one batch: token tensors padded to the longest on their way in, outputs per token cut back on the way out.
 *
 *   right   | a a a . . |      left   | . . a a a |      each row as long as the longest; '.' is the model's own padding
 *           | b b b b b |             | b b b b b |
 *
 * Called by batch.ts for entries made from text that are shorter than their batch. Owns what it learns of a model's outputs. Must not
 * allocate per row.
 */
import { copyBytes } from '../base/copy-bytes.js';
import { DATATYPES, type Datatype } from '../base/datatype.js';
import { skipBytesElements } from '../runtime/tensor.js';
import type { Entry } from './entry.js';
import type { Model } from './model.js';

/** How the token tensors of one batch are padded. */
export interface Padding {
  /** Tokens in each row. */
  readonly longest: number;
  /** Real tokens at the end of a row, not at its start. */
  readonly left: boolean;
}

/** The padding of a batch of `entries`, or undefined where all have one length or none was made from text. */
export function paddingOf(model: Model, entries: readonly Entry[], longest: number): Padding | undefined {
  if (entries.every(({ tokens }) => tokens === longest) || !model.padding.some(isDefined)) return undefined;
  return { longest, left: model.processor.text?.paddingSide === 'left' };
}

const isDefined = (value: number | undefined): boolean => value !== undefined;

/** Session dimensions of an input of the batch: its token axis is as long as the longest. */
export function paddedDims(dims: readonly number[], longest: number): readonly number[] {
  return [longest, ...dims.slice(1)];
}

/** What one token tensor is padded with: the bytes of an element, or a number where each of them is that. */
export interface PadElement {
  readonly byteSize: number;
  readonly fill: Buffer | number;
}

export function padElement(datatype: Datatype, value: number): PadElement {
  const { byteSize } = DATATYPES[datatype];
  if (value === 0) return { byteSize, fill: 0 };
  const fill = Buffer.alloc(byteSize);
  if (datatype === 'INT64') fill.writeBigInt64LE(BigInt(value));
  else fill.writeInt32LE(value);
  return { byteSize, fill };
}

/** Writes the rows of `entry` at `at`, each padded with `pad`; returns where they end. */
export function copyPadded(
  target: Buffer,
  source: Uint8Array,
  at: number,
  { rows, tokens }: Entry,
  { longest, left }: Padding,
  pad: PadElement,
): number {
  const own = tokens * pad.byteSize;
  const stride = longest * pad.byteSize;
  const shift = left ? stride - own : 0;
  if (rows === 1) {
    copyBytes(target, source, at + shift);
    target.fill(pad.fill, left ? at : at + own, left ? at + shift : at + stride);
    return at + stride;
  }
  copyBytes(target, source, at);
  // From the last row on: none is overwritten before it has moved.
  for (let row = rows - 1; row >= 0; row--) {
    const start = at + row * stride;
    const from = at + row * own;
    if (start + shift !== from) target.copyWithin(start + shift, from, from + own);
    target.fill(pad.fill, left ? start : start + own, left ? start + shift : start + stride);
  }
  return at + rows * stride;
}

/** Outputs by model whose first axis is seen not to be that of tokens, whatever its symbol. */
const otherAxes = new WeakMap<Model, Set<number>>();

/**
 * Whether the first axis after the batch of output `position` is that of tokens: it has the symbol of a token tensor's axis, or one of
 * its own and always the length of the batch. `size` is what it is in a batch padded to `longest`.
 */
export function isTokenAxis(model: Model, position: number, size: number | undefined, longest: number): boolean {
  const symbol = model.outputs[position]!.onnxDims[0];
  if (typeof symbol !== 'string') return false;
  let others = otherAxes.get(model);
  if (size !== longest) {
    if (!others) otherAxes.set(model, (others = new Set()));
    others.add(position);
    return false;
  }
  if (!others?.has(position)) return true;
  return (
    symbol !== '' && model.inputs.some(({ onnxDims }, i) => model.padding[i] !== undefined && onnxDims[0] === symbol)
  );
}

/** The part of an output per token that is `entry`'s own; a view where it has one row. `tokenBytes` is of one token; its rows are all of `bytes`. */
export function cutTokens(
  bytes: Uint8Array,
  { rows, tokens }: Entry,
  { longest, left }: Padding,
  tokenBytes: number,
): Uint8Array {
  const own = tokens * tokenBytes;
  const stride = longest * tokenBytes;
  const shift = left ? stride - own : 0;
  if (rows === 1) return bytes.subarray(shift, shift + own);
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const target = Buffer.allocUnsafe(rows * own);
  for (let row = 0; row < rows; row++) {
    const from = row * stride + shift;
    source.copy(target, row * own, from, from + own);
  }
  return target;
}

/** As {@link cutTokens} for BYTES, `perToken` elements to a token. */
export function cutTokenStrings(
  bytes: Uint8Array,
  { rows, tokens }: Entry,
  { longest, left }: Padding,
  perToken: number,
): Uint8Array {
  const before = left ? (longest - tokens) * perToken : 0;
  const after = (longest - tokens) * perToken - before;
  const parts: Uint8Array[] = [];
  let at = 0;
  for (let row = 0; row < rows; row++) {
    const from = skipBytesElements(bytes, at, before);
    const to = skipBytesElements(bytes, from, tokens * perToken);
    parts.push(bytes.subarray(from, to));
    at = skipBytesElements(bytes, to, after);
  }
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts);
}
