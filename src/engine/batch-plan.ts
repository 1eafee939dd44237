/**
 * Where each tensor of a batch lies in its slab, and the run message that says so. Pure arithmetic.
 *
 * Called by the scheduler. For fixed-size datatypes a plan depends on rows and shapes alone, so it is worked out once and kept.
 */
import { DATATYPES } from '../base/datatype.js';
import { aligned } from '../runtime/slab-pool.js';
import { elementCount, type TensorSpec } from './tensor-spec.js';

/** One output to fetch. */
export interface PlannedOutput {
  /** The model's output position. */
  readonly position: number;
  /** Byte offset in the slab; -1 = the worker keeps it itself and sends it. */
  readonly offset: number;
  readonly byteLength: number;
  /** The session's dimensions with the batch dimension; empty and meaningless when offset is -1. */
  readonly dims: readonly number[];
}

export interface BatchPlan {
  readonly rows: number;
  /** Length of the token tensors of a batch of texts, which is that of the longest; 0 for all others. */
  readonly longest: number;
  readonly totalBytes: number;
  /** Byte offset by input position; -1 = absent. */
  readonly inputOffsets: readonly number[];
  readonly outputs: readonly PlannedOutput[];
  /** The run message (runtime/messages.ts) with 0 for batch and slab. */
  readonly message: readonly number[];
}

export interface PlanRequest {
  readonly session: number;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly batching: boolean;
  readonly rows: number;
  readonly longest: number;
  /** The session's dimensions by input position, padded, without the batch dimension; undefined = absent. */
  readonly dims: readonly (readonly number[] | undefined)[];
  /** Bytes of each BYTES input over all rows, by input position. */
  readonly bytesLengths: readonly number[];
  /** Output positions to fetch. */
  readonly wanted: readonly number[];
  /** Preallocate nothing: the model's symbols have been seen to lie. */
  readonly unpredictable: boolean;
}

export function planBatch(request: PlanRequest): BatchPlan {
  const { inputs, outputs, batching, rows, dims } = request;
  const lead = batching ? [rows] : [];
  const message = [0, request.session, 0, 0];
  const inputOffsets: number[] = [];
  const symbols = new Map<string, number>();
  let offset = 0;
  for (const [position, spec] of inputs.entries()) {
    const own = dims[position];
    if (own === undefined) {
      inputOffsets.push(-1);
      continue;
    }
    for (const [axis, symbol] of spec.onnxDims.entries()) {
      if (typeof symbol === 'string' && symbol !== '') symbols.set(symbol, own[axis]!);
    }
    const full = [...lead, ...own];
    const byteLength =
      spec.datatype === 'BYTES'
        ? request.bytesLengths[position]!
        : elementCount(full) * DATATYPES[spec.datatype].byteSize;
    inputOffsets.push(offset);
    message.push(spec.index, offset, byteLength, full.length, ...full);
    message[3]!++;
    offset += aligned(byteLength);
  }
  message.push(request.wanted.length);
  const planned: PlannedOutput[] = [];
  for (const position of request.wanted) {
    const spec = outputs[position]!;
    const own = request.unpredictable ? undefined : resolveDims(spec, symbols);
    const full = own && [...lead, ...own];
    const byteLength = full ? elementCount(full) * DATATYPES[spec.datatype].byteSize : 0;
    // ONNX Runtime takes no preallocated tensor of zero bytes worth speaking of; and a BYTES result's size is never known before.
    if (full && byteLength > 0) {
      planned.push({ position, offset, byteLength, dims: full });
      message.push(spec.index, offset, byteLength, full.length, ...full);
      offset += aligned(byteLength);
    } else {
      planned.push({ position, offset: -1, byteLength: 0, dims: [] });
      message.push(spec.index, -1, 0, 0);
    }
  }
  return { rows, longest: request.longest, totalBytes: offset, inputOffsets, outputs: planned, message };
}

/** An output's dimensions from the symbols that the inputs bound, or undefined where one is not known before the run. */
function resolveDims(spec: TensorSpec, symbols: ReadonlyMap<string, number>): number[] | undefined {
  const dims: number[] = [];
  for (const dim of spec.onnxDims) {
    const value = typeof dim === 'number' ? dim : symbols.get(dim);
    if (value === undefined || value < 0) return undefined;
    dims.push(value);
  }
  return dims;
}
