/**
 * Token ids that a client made itself, as the tensors that a text model takes. Pure.
 *
 * Called by contents.ts; texts become the same tensors in a preprocess worker.
 */
import { invalid } from '../base/errors.js';
import type { TokenRole } from '../runtime/preprocess-messages.js';
import type { Model } from './model.js';
import type { InferInput } from './types.js';

/** What both integer types hold; how many ids the model knows, only it can say. */
const MAX_ID = 2 ** 31 - 1;

/** One row of ids (`input.data` INT64, [n]) with all that goes with it. Throws INVALID_ARGUMENT. */
export function tokenTensors(model: Model, input: InferInput): InferInput[] {
  const text = model.processor.text!;
  const count = input.shape[0]!;
  if (count === 0) throw invalid(`at least one token id is needed for model '${model.name}', got none`);
  if (count > text.maxTokens) {
    throw invalid(`${count} token ids for model '${model.name}', which takes at most ${text.maxTokens}`);
  }
  const length = text.fixedTokens ?? count;
  const ids = idsOf(input, count, model.name);
  return text.tensors.map(({ role, name, datatype }) => {
    // Of 64 bits the lower half, little-endian: no value is negative or larger.
    const stride = datatype === 'INT64' ? 2 : 1;
    const values = new Int32Array(length * stride);
    const padding = role === 'input_ids' ? text.padTokenId : role === 'token_type_ids' ? text.padTokenTypeId : 0;
    if (padding !== 0) for (let i = 0; i < length; i++) values[i * stride] = padding;
    write(values.subarray(text.paddingSide === 'left' ? (length - count) * stride : 0), stride, role, ids);
    const spec = model.inputs[model.inputPositions.get(name)!]!;
    const shape = model.batching || spec.dims.length > 1 ? [1, length] : [length];
    return { name, datatype, shape, data: new Uint8Array(values.buffer) };
  });
}

/** By their halves: a BigInt each would be an allocation each, and 64 rows of 8192 ids took the main thread 50 ms. */
function idsOf({ data }: InferInput, count: number, modelName: string): Int32Array {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const ids = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    const id = view.getInt32(8 * i, true);
    if (id < 0 || view.getInt32(8 * i + 4, true) !== 0) {
      const sent = view.getBigInt64(8 * i, true);
      throw invalid(
        `token id ${sent} at position ${i} for model '${modelName}' is out of range, expected 0 to ${MAX_ID}`,
      );
    }
    ids[i] = id;
  }
  return ids;
}

/** Every `stride`th of `values`. */
function write(values: Int32Array, stride: number, role: TokenRole, ids: Int32Array): void {
  switch (role) {
    case 'input_ids':
      for (let i = 0; i < ids.length; i++) values[i * stride] = ids[i]!;
      break;
    case 'attention_mask':
      for (let i = 0; i < ids.length; i++) values[i * stride] = 1;
      break;
    case 'position_ids':
      for (let i = 0; i < ids.length; i++) values[i * stride] = i;
      break;
    case 'token_type_ids':
      for (let i = 0; i < ids.length; i++) values[i * stride] = 0;
      break;
    default:
      role satisfies never;
  }
}
