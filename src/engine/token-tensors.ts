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
const MAX_ID = 2n ** 31n - 1n;

/** One row of ids (`input.data` INT64, [n]) with all that goes with it. Throws INVALID_ARGUMENT. */
export function tokenTensors(model: Model, input: InferInput): InferInput[] {
  const text = model.processor.text!;
  const count = input.shape[0]!;
  if (count === 0) throw invalid(`at least one token id is needed for model '${model.name}', got none`);
  if (count > text.maxTokens) {
    throw invalid(`${count} token ids for model '${model.name}', which takes at most ${text.maxTokens}`);
  }
  const ids = new DataView(input.data.buffer, input.data.byteOffset, input.data.byteLength);
  for (let i = 0; i < count; i++) {
    const id = ids.getBigInt64(8 * i, true);
    if (id >= 0n && id <= MAX_ID) continue;
    throw invalid(`token id ${id} at position ${i} for model '${model.name}' is out of range, expected 0 to ${MAX_ID}`);
  }
  return text.tensors.map(({ role, name, datatype }) => {
    const wide = datatype === 'INT64';
    const data = new Uint8Array(count * (wide ? 8 : 4));
    const view = new DataView(data.buffer);
    for (let i = 0; i < count; i++) {
      const value = role === 'input_ids' ? ids.getBigInt64(8 * i, true) : tokenValue(role, i);
      if (wide) view.setBigInt64(8 * i, value, true);
      else view.setInt32(4 * i, Number(value), true);
    }
    const spec = model.inputs[model.inputPositions.get(name)!]!;
    const shape = model.batching || spec.dims.length > 1 ? [1, count] : [count];
    return { name, datatype, shape, data };
  });
}

function tokenValue(role: Exclude<TokenRole, 'input_ids'>, index: number): bigint {
  switch (role) {
    case 'attention_mask':
      return 1n;
    case 'token_type_ids':
      return 0n;
    case 'position_ids':
      return BigInt(index);
  }
}
