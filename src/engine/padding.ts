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
import { elementCount } from './tensor-spec.js';

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

/** By model: axes of outputs that are seen not to be those of tokens, whatever their symbols, as `axisKey` has them. */
const otherAxes = new WeakMap<Model, Set<number>>();
/** More than the dimensions of a tensor. */
const MOST_AXES = 64;
const NO_AXES: readonly number[] = [];

/**
 * Which axes after the batch of output `position` are those of tokens: they have the symbol of a token tensor's axis, or one of their own
 * and always the length of the batch. Attentions have two. `dims` is what the output has behind the batch in one padded to `longest`.
 */
export function tokenAxes(model: Model, position: number, dims: readonly number[], longest: number): readonly number[] {
  const { onnxDims } = model.outputs[position]!;
  let axes = NO_AXES;
  for (let axis = 0; axis < onnxDims.length; axis++) {
    const symbol = onnxDims[axis]!;
    if (
      typeof symbol !== 'string' ||
      !isTokenAxis(model, position * MOST_AXES + axis, symbol, dims[axis] === longest)
    ) {
      continue;
    }
    axes = [...axes, axis];
  }
  return axes;
}

function isTokenAxis(model: Model, axisKey: number, symbol: string, fits: boolean): boolean {
  let others = otherAxes.get(model);
  if (!fits) {
    if (!others) otherAxes.set(model, (others = new Set()));
    others.add(axisKey);
    return false;
  }
  if (!others?.has(axisKey)) return true;
  return (
    symbol !== '' && model.inputs.some(({ onnxDims }, i) => model.padding[i] !== undefined && onnxDims[0] === symbol)
  );
}

/** An output of one entry without the padding of `axes`; `own` is its shape behind the batch, with the padding. */
export interface Cut {
  readonly data: Uint8Array;
  readonly own: readonly number[];
}

/** Cuts `bytes`, the rows of `entry`, at each of `axes`; a view where one row has one axis of tokens, which is its first. */
export function cutAxes(
  bytes: Uint8Array,
  entry: Entry,
  padding: Padding,
  { own, axes, datatype }: { own: readonly number[]; axes: readonly number[]; datatype: Datatype },
): Cut {
  const cut = [...own];
  let data = bytes;
  for (const axis of axes) {
    // What is before the axis are rows, and what is behind it is one token's.
    const part = { rows: entry.rows * elementCount(cut.slice(0, axis)), tokens: entry.tokens };
    const perToken = elementCount(cut.slice(axis + 1));
    data =
      datatype === 'BYTES'
        ? cutTokenStrings(data, part, padding, perToken)
        : cutTokens(data, part, padding, perToken * DATATYPES[datatype].byteSize);
    cut[axis] = entry.tokens;
  }
  return { data, own: cut };
}

type Part = Pick<Entry, 'rows' | 'tokens'>;

/** The part of an output per token that is an entry's own; a view where it has one row. `tokenBytes` is of one token; its rows are all of `bytes`. */
function cutTokens(
  bytes: Uint8Array,
  { rows, tokens }: Part,
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
function cutTokenStrings(
  bytes: Uint8Array,
  { rows, tokens }: Part,
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
