/**
 * What to send to a model that nobody knows: inputs made from its metadata, grown to a size, or read from a file.
 *
 * Called by `command.ts`. Pure: the same metadata and size give the same bytes in every run. Metadata say neither what an integer means
 * nor how long a sequence may be, so what is made here may be refused; whoever calls says then that inputs can be given.
 */
import { DATATYPES } from '../base/datatype.js';
import { ServeError } from '../base/errors.js';
import { parseInferRequest } from '../base/tensor-json-parse.js';
import { elementCount, fromRaw, isDatatype } from '../client/tensor.js';
import type { InputTensor, ModelMetadata, TensorData, TensorMetadata } from '../client/types.js';
import { BenchError, UsageError } from './bench-error.js';
import type { Payload } from './load-types.js';
import { createRandom } from './statistics.js';

export interface PayloadOptions {
  readonly version?: string;
  /** KB of 1024 bytes that a request's tensors should come to, as near as whole dimensions allow and never above but for the least. */
  readonly sizesKb: readonly number[];
  /** Shapes in place of the metadata's, by input; -1 = grows. */
  readonly shapes?: ReadonlyMap<string, readonly number[]>;
}

/** Every word of BYTES has as many letters. */
const WORD_LETTERS = 6;
/** The raw layout puts a length before each element. */
const WORD_BYTES = 4 + WORD_LETTERS;
/** Larger requests than these no server takes by default. */
const MAX_ELEMENTS = 2 ** 28;

/**
 * One payload for each size, the smallest first; a single one with `payloadKb: null` where no dimension is free. Dimensions that are -1
 * grow: those after the first where there are any, as the first is a batch's, which is then 1. Throws BenchError naming what is odd.
 */
export function payloadsFromMetadata(metadata: ModelMetadata, options: PayloadOptions): Payload[] {
  const { sizesKb, shapes = new Map(), version } = options;
  const { name: model } = metadata;
  if (metadata.inputs.length === 0)
    throw new BenchError(`the metadata of model ${model} name no inputs; give them with --input`);
  for (const name of shapes.keys()) {
    if (metadata.inputs.some((input) => input.name === name)) continue;
    const known = metadata.inputs.map((input) => input.name).join(', ');
    throw new UsageError(`option --shape: model ${model} has no input '${name}', it has ${known}`);
  }
  const inputs = metadata.inputs.map((input) => ({ ...input, shape: shapes.get(input.name) ?? input.shape }));
  for (const input of inputs) checkInput(model, input);
  const growing = growingDims(inputs);
  const head = { model, ...(version !== undefined && { version }) };
  if (growing === undefined) {
    return [{ ...head, payloadKb: null, inputs: inputs.map((input) => filled(input, input.shape)) }];
  }
  return [...new Set(sizesKb)]
    .sort((a, b) => a - b)
    .map((kb) => {
      const units = unitsFor(inputs, growing, kb * 1024);
      return { ...head, payloadKb: kb, inputs: inputs.map((input) => filled(input, shapeOf(input, growing, units))) };
    });
}

/** One try at requests that a model takes. */
export interface Guess {
  readonly payloads: readonly Payload[];
  /** What is special about it, for the report; undefined of the first one, which has all inputs at all sizes. */
  readonly words: string | undefined;
}

/**
 * Requests that a model may take, the likeliest first. Metadata don't say that texts and pictures stand in for tensors (so the second one
 * leaves BYTES out), nor how large a batch may be (so the last ones are the least that the shapes allow).
 */
export function payloadGuesses(metadata: ModelMetadata, options: PayloadOptions): Guess[] {
  const { shapes = new Map() } = options;
  const numeric = metadata.inputs.filter(({ name, datatype }) => datatype !== 'BYTES' || shapes.has(name));
  const left = metadata.inputs.filter((input) => !numeric.includes(input)).map(({ name }) => name);
  const least = (inputs: ModelMetadata['inputs']): Payload[] =>
    payloadsFromMetadata({ ...metadata, inputs }, { ...options, sizesKb: [Number.MIN_VALUE] }).map((payload) => ({
      ...payload,
      payloadKb: null,
    }));
  const all: Guess = { payloads: payloadsFromMetadata(metadata, options), words: undefined };
  if (left.length === 0 || numeric.length === 0) {
    return [all, { payloads: least(metadata.inputs), words: 'of the smallest shapes' }];
  }
  const without = `without ${left.join(', ')}`;
  return [
    all,
    { payloads: payloadsFromMetadata({ ...metadata, inputs: numeric }, options), words: without },
    { payloads: least(metadata.inputs), words: 'of the smallest shapes' },
    { payloads: least(numeric), words: `of the smallest shapes, ${without}` },
  ];
}

/** The inputs of a REST infer request's JSON body; its other members are not sent. Throws UsageError saying what is wrong with it. */
export function payloadFromJson(body: Uint8Array, model: string, version?: string): Payload {
  try {
    const inputs = parseInferRequest(body).inputs.map(({ name, datatype, shape, data }): InputTensor => {
      if (!isDatatype(datatype)) throw new BenchError(`input '${name}' has datatype '${datatype}'`);
      if (data === undefined) throw new BenchError(`input '${name}' has no data`);
      return { name, datatype, shape, data: fromRaw(name, datatype, shape, data) };
    });
    if (inputs.length === 0) throw new BenchError("it has no 'inputs'");
    return { model, ...(version !== undefined && { version }), payloadKb: null, inputs };
  } catch (error) {
    if (!(error instanceof ServeError) && !(error instanceof BenchError)) throw error;
    throw new UsageError(`option --input: no infer request: ${error.message}`);
  }
}

function checkInput(model: string, { name, datatype, shape }: TensorMetadata): void {
  if (!isDatatype(datatype)) throw new BenchError(`input '${name}' of model ${model} has datatype '${datatype}'`);
  const sound = shape.every((dim) => Number.isSafeInteger(dim) && dim >= -1);
  if (!sound) throw new BenchError(`input '${name}' of model ${model} has shape [${shape.join(',')}]`);
}

type Growing = 'first' | 'others';

/** Which of the free dimensions grow; undefined where none is free. */
function growingDims(inputs: readonly TensorMetadata[]): Growing | undefined {
  if (inputs.some(({ shape }) => shape.indexOf(-1, 1) !== -1)) return 'others';
  return inputs.some(({ shape }) => shape[0] === -1) ? 'first' : undefined;
}

function grows(growing: Growing, dim: number, index: number): boolean {
  return dim === -1 && (growing === 'first') === (index === 0);
}

/** Bytes of an input whose growing dimensions multiply to `units`. */
function bytesOf({ datatype, shape }: TensorMetadata, growing: Growing, units: number): number {
  const elementBytes = DATATYPES[datatype].byteSize || WORD_BYTES;
  const fixed = shape.reduce((product, dim) => product * (dim === -1 ? 1 : dim), 1);
  return elementBytes * fixed * (shape.some((dim, index) => grows(growing, dim, index)) ? units : 1);
}

/** What the growing dimensions of each input should multiply to, so that all inputs together have `bytes`. */
function unitsFor(inputs: readonly TensorMetadata[], growing: Growing, bytes: number): number {
  const total = (units: number) => inputs.reduce((sum, input) => sum + bytesOf(input, growing, units), 0);
  const perUnit = total(1) - total(0);
  if (perUnit === 0) return 1;
  return Math.min(MAX_ELEMENTS, Math.max(1, Math.floor((bytes - total(0)) / perUnit)));
}

/** Several growing dimensions share as evenly as they can, so a picture is about as high as it is wide. */
function shapeOf({ shape }: TensorMetadata, growing: Growing, units: number): number[] {
  let places = shape.filter((dim, index) => grows(growing, dim, index)).length;
  let left = units;
  return shape.map((dim, index) => {
    if (dim !== -1) return dim;
    if (!grows(growing, dim, index)) return 1;
    // Rounded up a little first: a cube's root is a hair below the whole number.
    const size = Math.max(1, Math.floor(left ** (1 / places) + 1e-9));
    places--;
    left = Math.floor(left / size);
    return size;
  });
}

function filled({ name, datatype }: TensorMetadata, shape: readonly number[]): InputTensor {
  return { name, datatype, shape, data: plausible(datatype, elementCount(shape)) };
}

/** Numbers such as models take: fractions of [0, 1), whole numbers below 100, truth, words. */
function plausible(datatype: TensorMetadata['datatype'], count: number): TensorData {
  const random = createRandom(count);
  const whole = () => Math.floor(random() * 100);
  switch (datatype) {
    case 'BOOL':
      return Uint8Array.from({ length: count }, () => whole() & 1);
    case 'UINT8':
      return Uint8Array.from({ length: count }, whole);
    case 'UINT16':
      return Uint16Array.from({ length: count }, whole);
    case 'UINT32':
      return Uint32Array.from({ length: count }, whole);
    case 'UINT64':
      return BigUint64Array.from({ length: count }, () => BigInt(whole()));
    case 'INT8':
      return Int8Array.from({ length: count }, whole);
    case 'INT16':
      return Int16Array.from({ length: count }, whole);
    case 'INT32':
      return Int32Array.from({ length: count }, whole);
    case 'INT64':
      return BigInt64Array.from({ length: count }, () => BigInt(whole()));
    case 'FP16':
      // 0.5 to 1: exponent 14 of 15, ten bits of fraction.
      return Uint16Array.from({ length: count }, () => 0x3800 | Math.floor(random() * 1024));
    case 'BF16':
      // 0.5 to 1: exponent 126 of 127, seven bits of fraction.
      return Uint16Array.from({ length: count }, () => 0x3f00 | Math.floor(random() * 128));
    case 'FP32':
      return Float32Array.from({ length: count }, () => Math.floor(random() * 2 ** 24) / 2 ** 24);
    case 'FP64':
      return Float64Array.from({ length: count }, random);
    case 'BYTES':
      return Array.from({ length: count }, () => word(random));
    default:
      throw new TypeError(`no values for ${datatype satisfies never}`);
  }
}

function word(random: () => number): string {
  return Array.from({ length: WORD_LETTERS }, () => String.fromCharCode(97 + Math.floor(random() * 26))).join('');
}
