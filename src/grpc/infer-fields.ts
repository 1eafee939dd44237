/**
 * The parts that the inference requests share: names, shapes and parameter maps, each with its cap.
 *
 * Called by the request decoders. Caps are checked before anything is kept, so that a message of a few megabytes cannot become
 * millions of objects. Meaning (is there such an input, is this a priority) is the engine's and not looked at here.
 */
import { invalid, printable } from '../base/errors.js';
import { readInferParameterValue } from '../base/wire-parameter.js';
import { VARINT, WireReader } from '../base/wire-reader.js';
import type { Parameters } from '../engine/types.js';

/** Inputs, requested outputs and raw entries of one request, each. */
export const MAX_TENSORS = 256;
/** Parameters of a request, of an input and of an output, each. */
export const MAX_PARAMETERS = 128;
export const MAX_DIMS = 16;
/** Model and tensor names, versions, datatypes, parameter keys. */
export const MAX_NAME_BYTES = 256;

export type ParameterMap = Map<string, boolean | number | bigint | string>;

/** What most tensors carry; never written to. */
export const NO_PARAMETERS: Parameters = new Map();

const lenientUtf8 = new TextDecoder();

/** A string field that names something. `what` names it in the refusal of a long one, of which only the beginning is echoed. */
export function readName(reader: WireReader, what: string): string {
  const begin = reader.pos;
  const length = reader.length();
  if (length > MAX_NAME_BYTES) {
    const head = printable(lenientUtf8.decode(reader.bytes.subarray(reader.pos, reader.pos + MAX_NAME_BYTES)));
    throw invalid(`${what} is ${length} bytes long, at most ${MAX_NAME_BYTES} are allowed: '${head}'`);
  }
  reader.pos = begin;
  return reader.text();
}

/** The small contract's `model_version`: its own example asks for "1.0", which is this server's version 1. */
export function readVersionV1(reader: WireReader): string {
  return readName(reader, 'model version').replace(/^([1-9]\d*)\.0$/, '$1');
}

/** One occurrence of a `repeated int64 shape` field, packed or not, appended to `shape`. */
export function readShape(reader: WireReader, wireType: number, shape: number[]): void {
  if (wireType === VARINT) {
    appendDim(shape, reader.int64Number());
    return;
  }
  const outer = reader.enter();
  while (reader.pos < reader.limit) appendDim(shape, reader.int64Number());
  reader.leave(outer);
}

function appendDim(shape: number[], dim: number): void {
  if (shape.length === MAX_DIMS) throw invalid(`shape of a tensor has more than ${MAX_DIMS} dimensions`);
  shape.push(dim);
}

/**
 * The bytes from `start` to `end`, the value of a field of one of the request's inputs, as one BYTES element that is not copied: their
 * length is written over the four bytes in front of them. There is nothing there that is still needed: an input and a field in it
 * have two bytes of tag and length each at least, and what else may stand between belongs to the same input and has been read.
 */
export function elementInPlace(bytes: Buffer, start: number, end: number): Uint8Array {
  bytes.writeUInt32LE(end - start, start - 4);
  return bytes.subarray(start - 4, end);
}

export function tooMany(what: string, limit: number): Error {
  return invalid(`request has more than ${limit} ${what}`);
}

/**
 * One entry of a `map<string, InferParameter>`, set in `map`. The last of equal keys wins; a parameter with no value set is the
 * same as none.
 */
export function readInferParameter(reader: WireReader, map: ParameterMap): void {
  const outer = reader.enter();
  let key = '';
  let value: boolean | number | bigint | string | undefined;
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    if (tag === 10) key = readName(reader, 'parameter name');
    else if (tag === 18) value = readInferParameterValue(reader) ?? value;
    else reader.skip(tag);
  }
  reader.leave(outer);
  if (value === undefined) map.delete(key);
  else map.set(key, value);
}

/** The `id` of a ModelInferRequest that could not be decoded: what there is of it before the fault, else ''. */
export function readRequestId(bytes: Buffer): string {
  const reader = new WireReader(bytes, 'ModelInferRequest');
  let id = '';
  try {
    while (reader.pos < reader.limit) {
      const tag = reader.tag();
      if (tag === 26) id = reader.text();
      else reader.skip(tag);
    }
  } catch {
    // The fault itself has been told.
  }
  return id;
}

/** One entry of a `map<string, string>`, set in `map`; the last of equal keys wins, what is missing is ''. */
export function readStringParameter(reader: WireReader, map: ParameterMap): void {
  const outer = reader.enter();
  let key = '';
  let value = '';
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    if (tag === 10) key = readName(reader, 'parameter name');
    else if (tag === 18) value = reader.text();
    else reader.skip(tag);
  }
  reader.leave(outer);
  map.set(key, NUMERIC_PARAMETERS.has(key) && DIGITS.test(value) ? integer(value) : value);
}

/** The protocol's own parameters that are numbers; a map of strings has to spell them. */
const NUMERIC_PARAMETERS: ReadonlySet<string> = new Set(['timeout', 'priority', 'sequence_id']);
const DIGITS = /^-?\d{1,20}$/;

function integer(text: string): number | bigint {
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : BigInt(text);
}
