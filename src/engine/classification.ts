/**
 * Triton's classification extension: the likeliest classes of an output in place of its tensor, as strings "value:index:label".
 *
 *   FP32 [2,4]  0.1 0.7 0.0 0.2 | ...   --2 classes-->   BYTES [2,2]  "0.700000:1:cat" "0.200000:3:dog" | ...
 *
 * Called by `answers.ts` while the output is lent, and by `validate.ts` for what can be ranked at all. It keeps nothing and never
 * writes to the output. It runs on the main thread, so it must stay linear in the elements and bounded in the strings.
 */
import { DATATYPES, type Datatype } from '../base/datatype.js';
import { invalid } from '../base/errors.js';
import { type ElementArray, elementView } from '../runtime/tensor.js';
import { elementCount } from './tensor-spec.js';
import type { InferOutput } from './types.js';

/**
 * Strings that one output may become, and no client reads as many. Sorted, printed and encoded, each costs one or two microseconds of the
 * main thread: so many some 20 ms, four times as many 90 to 400, which everybody else's replies would wait for.
 */
export const MAX_CLASS_STRINGS = 16_384;

/** Room for candidates beside the best ones: the larger, the more seldom they are sorted out. */
const SPARE_CANDIDATES = 64;

export interface Classification {
  /** Classes asked for, at least 1; more than there are gives all. */
  readonly classes: number;
  /** The first dimension is the batch, and each row of it is ranked by itself. */
  readonly batching: boolean;
  /** Class names by index; where one is missing or empty the string ends with the index. */
  readonly labels: readonly string[] | undefined;
  /** For the refusal. */
  readonly modelName: string;
}

/** Whether elements of `datatype` have an order and a spelling. (ONNX Runtime has no BF16 tensors here, see DATATYPES.) */
export function isRankable(datatype: Datatype): boolean {
  return datatype !== 'BYTES' && datatype !== 'BOOL' && datatype !== 'BF16';
}

/**
 * The output's classes from the largest value down, the lower index first among equals and NaN last. The shape is [batch, classes], or
 * [classes] where the model does not batch. The result is memory of its own. Throws INVALID_ARGUMENT beyond {@link MAX_CLASS_STRINGS}.
 */
export function classify(output: InferOutput, { classes, batching, labels, modelName }: Classification): InferOutput {
  const { name, datatype, shape, data } = output;
  const rows = batching ? shape[0]! : 1;
  const perRow = elementCount(batching ? shape.slice(1) : shape);
  const count = Math.min(classes, perRow);
  if (rows * count > MAX_CLASS_STRINGS) {
    throw invalid(
      `classification output tensor too large: output '${name}' of model '${modelName}' would become ${rows * count} strings, at most ${MAX_CLASS_STRINGS} are given. Ask for fewer classes`,
    );
  }
  const elements = aligned(datatype, data);
  const print = datatype === 'FP16' || datatype === 'FP32' || datatype === 'FP64' ? printFloat : String;
  const candidates = new Uint32Array(Math.min(perRow, count + Math.max(count, SPARE_CANDIDATES)));
  const scratch = new Float64Array(isComparable(elements) ? 0 : perRow);
  const texts: string[] = [];
  for (let row = 0; row < rows; row++) {
    const values = comparable(elements.subarray(row * perRow, (row + 1) * perRow), datatype, scratch);
    for (const index of best(values, count, candidates)) {
      const label = labels?.[index];
      texts.push(`${print(values[index] as number)}:${index}${label ? `:${label}` : ''}`);
    }
  }
  return { name, datatype: 'BYTES', shape: batching ? [rows, count] : [count], data: encodeStrings(texts) };
}

/** The elements as a typed array; copied where they don't start as one may, which a row of a lease always does. */
function aligned(datatype: Datatype, data: Uint8Array): ElementArray {
  const { buffer, byteOffset, byteLength } =
    data.byteOffset % DATATYPES[datatype].byteSize === 0 ? data : new Uint8Array(data);
  return elementView(buffer, datatype, byteOffset, byteLength);
}

/**
 * What `<` compares exactly. Small integers and FP16 are brought to doubles first: the loops below get slow when they see more than
 * four kinds of arrays.
 */
type Comparable = Float32Array | Float64Array | BigInt64Array | BigUint64Array;

/** A view of the row, or `scratch` filled with it. */
function comparable(row: ElementArray, datatype: Datatype, scratch: Float64Array): Comparable {
  if (isComparable(row)) return row;
  if (datatype === 'FP16') for (let i = 0; i < row.length; i++) scratch[i] = halfToNumber(row[i]!);
  else scratch.set(row);
  return scratch;
}

function isComparable(elements: ElementArray): elements is Comparable {
  return (
    elements instanceof Float32Array ||
    elements instanceof Float64Array ||
    elements instanceof BigInt64Array ||
    elements instanceof BigUint64Array
  );
}

/** What one unit of the fraction is worth, by exponent. */
const HALF_UNITS = Array.from({ length: 31 }, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));

function halfToNumber(bits: number): number {
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  let value: number;
  if (exponent === 31) value = fraction === 0 ? Number.POSITIVE_INFINITY : Number.NaN;
  else value = (exponent === 0 ? fraction : 1024 + fraction) * HALF_UNITS[exponent]!;
  return bits & 0x8000 ? -value : value;
}

/** Indices of the best `count` values, in order: a view on `candidates`, good until the next call. */
function best(values: Comparable, count: number, candidates: Uint32Array): Uint32Array {
  let filled = 0;
  // The worst of the best so far; what comes later and is not larger can't get in. Nothing compares with NaN: at first all get in.
  let floor: number | bigint = Number.NaN;
  for (let index = 0; index < values.length; index++) {
    const value = values[index]!;
    if (value <= floor || Number.isNaN(value)) continue;
    if (filled === candidates.length) {
      moveBestForward(values, candidates, filled, count);
      filled = count;
      floor = least(values, candidates, count);
      if (value <= floor) continue;
    }
    candidates[filled++] = index;
  }
  if (filled > count) moveBestForward(values, candidates, filled, count);
  const found = Math.min(filled, count);
  candidates.subarray(0, found).sort((a, b) => (isBetter(values, a, b) ? -1 : 1));
  filled = found;
  for (let index = 0; filled < count; index++) if (Number.isNaN(values[index])) candidates[filled++] = index;
  return candidates.subarray(0, count);
}

/** A total order of the indices: no two are equal. */
function isBetter(values: Comparable, a: number, b: number): boolean {
  const left = values[a]!;
  const right = values[b]!;
  return left > right || (left === right && a < b);
}

/**
 * Brings the best `count` of the first `length` indices to the front, in any order (quickselect). The pivot is drawn by chance, since
 * an order that makes every fixed choice quadratic could be sent on purpose.
 */
function moveBestForward(values: Comparable, indices: Uint32Array, length: number, count: number): void {
  let left = 0;
  let right = length - 1;
  while (left < right) {
    const pivot = indices[left + Math.floor(Math.random() * (right - left + 1))]!;
    let low = left;
    let high = right;
    while (low <= high) {
      while (isBetter(values, indices[low]!, pivot)) low++;
      while (isBetter(values, pivot, indices[high]!)) high--;
      if (low > high) break;
      const moved = indices[low]!;
      indices[low++] = indices[high]!;
      indices[high--] = moved;
    }
    if (count <= high) right = high;
    else if (count > low) left = low;
    else return;
  }
}

function least(values: Comparable, indices: Uint32Array, count: number): number | bigint {
  let result = values[indices[0]!]!;
  for (let i = 1; i < count; i++) if (values[indices[i]!]! < result) result = values[indices[i]!]!;
  return result;
}

/** As C's "%f" writes it, which is what Triton's strings have: six decimals, ties to the even digit, never an exponent. */
function printFloat(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Math.abs(value) >= 1e21) return `${BigInt(value)}.000000`;
  if (Object.is(value, -0)) return '-0.000000';
  // Halfway between two millionths lie only odd multiples of 1/128: there toFixed always rounds away from zero.
  if (Number.isInteger(value * 128) && !Number.isInteger(value * 64)) {
    const exact = value.toFixed(7);
    if (Number(exact.at(-2)) % 2 === 0) return exact.slice(0, -1);
  }
  return value.toFixed(6);
}

/** BYTES elements in the raw layout. */
function encodeStrings(texts: readonly string[]): Uint8Array {
  let size = 0;
  for (const text of texts) size += 4 + Buffer.byteLength(text);
  const bytes = Buffer.allocUnsafeSlow(size);
  let at = 0;
  for (const text of texts) {
    const length = bytes.write(text, at + 4);
    bytes.writeUInt32LE(length, at);
    at += 4 + length;
  }
  return bytes;
}
