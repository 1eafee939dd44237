/**
 * What one input or output of a model must be: the client's view (config) beside ONNX Runtime's (session), and the way between them.
 *
 * Called by validation, planning and the scheduler.
 */
import type { Datatype } from '../base/datatype.js';

/** One input or output: the client's view (config) beside ONNX Runtime's (session). */
export interface TensorSpec {
  readonly name: string;
  readonly datatype: Datatype;
  /** As clients send or get it, without the batch dimension; -1 = variable. */
  readonly dims: readonly number[];
  /** What the session takes or gives in place of `dims`, where the config reshapes; -1 = the next variable one of `dims`. */
  readonly reshape: readonly number[] | undefined;
  /** As the ONNX file declares it, without the batch dimension; strings are symbols ('' = no name). */
  readonly onnxDims: readonly (number | string)[];
  /** Position in the session's inputs or outputs. */
  readonly index: number;
  readonly optional: boolean;
}

/** `dims` of the client as the session takes them: the reshape of the config with its variable dimensions filled in order. */
export function sessionDims(spec: TensorSpec, dims: readonly number[]): readonly number[] {
  return spec.reshape ? fill(spec.reshape, variableDims(spec.dims, dims)) : dims;
}

/** `dims` of the session as the client gets them; the reverse of {@link sessionDims}. */
export function clientDims(spec: TensorSpec, dims: readonly number[]): readonly number[] {
  return spec.reshape ? fill(spec.dims, variableDims(spec.reshape, dims)) : dims;
}

function variableDims(pattern: readonly number[], dims: readonly number[]): number[] {
  return dims.filter((_, axis) => pattern[axis] === -1);
}

function fill(pattern: readonly number[], values: readonly number[]): number[] {
  let next = 0;
  return pattern.map((dim) => (dim === -1 ? (values[next++] ?? 1) : dim));
}

/** Number of elements of a shape; 1 for a scalar. */
export function elementCount(dims: readonly number[]): number {
  let count = 1;
  for (const dim of dims) count *= dim;
  return count;
}
