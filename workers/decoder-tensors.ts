/**
 * Tensors that a decoder feeds: views on keys and values, and small integers that are written in place from step to step.
 *
 * Called by workers/decoder-batched.ts and workers/decoder-alone.ts. Copies nothing.
 */
import type { Tensor } from 'onnxruntime-node';
import * as ort from 'onnxruntime-node';
import type { IntegerType, StateType } from './decoder-ports.js';

/** Integers of a feed. Written as 32-bit words, since every BigInt would be an object. */
export interface Integers {
  readonly tensor: Tensor;
  /** Element i is word `i * stride`; high words of INT64 stay zero. */
  readonly words: Int32Array;
  readonly stride: 1 | 2;
}

export function integers(type: IntegerType, dims: readonly number[]): Integers {
  const count = dims.reduce((product, dim) => product * dim, 1);
  if (type === 'int32') {
    const words = new Int32Array(count);
    return { tensor: new ort.Tensor('int32', words, dims), words, stride: 1 };
  }
  const data = new BigInt64Array(count);
  return { tensor: new ort.Tensor('int64', data, dims), words: new Int32Array(data.buffer), stride: 2 };
}

/** Sets all of `integers` to `value`. */
export function fill({ words, stride }: Integers, value: number): void {
  for (let i = 0; i < words.length; i += stride) words[i] = value;
}

export function stateTensor(type: StateType, data: ArrayBufferView, dims: readonly number[]): Tensor {
  const tensor = new ort.Tensor(type as 'float32', data as Float32Array, dims);
  // Node 24 has Float16Array, for which onnxruntime-common swaps the 16-bit view, and the binding then finds no data
  // (microsoft/onnxruntime#26791): put the plain view back.
  if (type === 'float16') Object.defineProperty(tensor, 'cpuData', { value: data });
  return tensor;
}

const ARRAYS = {
  float32: Float32Array,
  float16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  bool: Uint8Array,
} as const;

/** State of zeros. */
export function zeros(type: StateType, dims: readonly number[]): Tensor {
  const count = dims.reduce((product, dim) => product * dim, 1);
  return stateTensor(type, new ARRAYS[type](count), dims);
}

/** Elements of a result; 16-bit words for FP16 whatever Node makes of them. */
export function elementsOf(tensor: Tensor): Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
  const data = tensor.data as Float32Array<ArrayBuffer>;
  return tensor.type === 'float16' ? new Uint16Array(data.buffer, data.byteOffset, data.length) : data;
}
