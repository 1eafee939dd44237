/**
 * The loop that a decoder is measured against: one sequence, plain `session.run`, every present state fed back as the past.
 *
 * Called by tests and benches of text generation. Shares nothing with what it checks but ONNX Runtime.
 */
import * as ort from 'onnxruntime-node';

export interface RawOptions {
  readonly tokens: number;
  readonly idsType?: 'int64' | 'int32';
}

/** The tokens that a greedy choice gives behind `prompt`. */
export async function rawGreedy(
  session: ort.InferenceSession,
  prompt: readonly number[],
  options: RawOptions,
): Promise<number[]> {
  const chosen: number[] = [];
  const state: Record<string, ort.Tensor> = {};
  for (const input of session.inputMetadata) {
    if (!input.isTensor || !input.name.startsWith('past')) continue;
    const dims = input.shape.map((dim, axis) => (typeof dim === 'number' ? dim : axis === 0 ? 1 : 0));
    state[input.name] = zeros(input.type, dims);
  }
  const names = new Set(session.inputNames);
  const integers = (values: number[], dims: number[]): ort.Tensor =>
    options.idsType === 'int32'
      ? new ort.Tensor('int32', Int32Array.from(values), dims)
      : new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims);
  let next = [...prompt];
  for (let length = 0; chosen.length < options.tokens; ) {
    const count = next.length;
    const feeds: Record<string, ort.Tensor> = { ...state, input_ids: integers(next, [1, count]) };
    const total = length + count;
    if (names.has('attention_mask')) feeds.attention_mask = integers(new Array(total).fill(1), [1, total]);
    if (names.has('position_ids'))
      feeds.position_ids = integers(
        next.map((_, i) => length + i),
        [1, count],
      );
    if (names.has('num_logits_to_keep')) feeds.num_logits_to_keep = new ort.Tensor('int64', BigInt64Array.of(1n), []);
    if (names.has('use_cache_branch')) feeds.use_cache_branch = new ort.Tensor('bool', [length > 0], [1]);
    const results = await session.run(feeds);
    for (const name of Object.keys(state))
      state[name] = kept(results[name.replace('past_key_values', 'present').replace('past_', 'present_')]!);
    const { data, dims } = results.logits!;
    const vocabulary = dims.at(-1)!;
    chosen.push(argmax(numbers(data as Float32Array | Uint16Array).subarray(-vocabulary)));
    length = total;
    next = [chosen.at(-1)!];
  }
  return chosen;
}

export function argmax(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}

function zeros(type: string, dims: readonly number[]): ort.Tensor {
  const count = dims.reduce((product, dim) => product * dim, 1);
  return type === 'float16'
    ? half(new Uint16Array(count), dims)
    : new ort.Tensor('float32', new Float32Array(count), dims);
}

/** Node 24 has a Float16Array that the binding does not take (microsoft/onnxruntime#26791). */
function half(data: Uint16Array, dims: readonly number[]): ort.Tensor {
  const tensor = new ort.Tensor('float16', data, dims);
  Object.defineProperty(tensor, 'cpuData', { value: data });
  return tensor;
}

function kept(tensor: ort.Tensor): ort.Tensor {
  if (tensor.type !== 'float16') return tensor;
  const { buffer, byteOffset, length } = tensor.data as Uint16Array;
  return half(new Uint16Array(buffer as ArrayBuffer, byteOffset, length), tensor.dims);
}

/** FP16 as numbers. */
function numbers(data: Float32Array | Uint16Array): Float32Array {
  if (data instanceof Float32Array) return data;
  const words = new Uint16Array(data.buffer as ArrayBuffer, data.byteOffset, data.length);
  return Float32Array.from(words, (word) => {
    const sign = word & 0x8000 ? -1 : 1;
    const exponent = (word >> 10) & 31;
    const fraction = word & 1023;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
  });
}
