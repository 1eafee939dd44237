/**
 * Tensors of ONNX Runtime over the shared memory that a run message lays out, and those that it made itself on their way out.
 *
 * Called by workers/session.ts for each tensor of a batch. Must not allocate shared memory, or copy what can be viewed.
 */
import type { Tensor } from 'onnxruntime-node';
import * as ort from 'onnxruntime-node';
import { DATATYPES, type Datatype } from '#src/base/datatype';
import type { OwnedOutput } from '#src/runtime/messages';
import { elementView } from '#src/runtime/tensor';
import { decodeStrings, encodeStrings } from './strings.js';

/** A tensor over the part of the slab that `message[at..]` (index, offset, byteLength, rank, dims) describes; no copy but BYTES. */
export function tensorView(
  datatype: Datatype,
  slab: SharedArrayBuffer,
  message: readonly number[],
  at: number,
): Tensor {
  const rank = message[at + 3]!;
  const dims = message.slice(at + 4, at + 4 + rank);
  const view = elementView(slab, datatype, message[at + 1]!, message[at + 2]!);
  if (datatype === 'BYTES') {
    const count = dims.reduce((product, dim) => product * dim, 1);
    return new ort.Tensor('string', decodeStrings(view as Uint8Array, count), dims);
  }
  const type = DATATYPES[datatype].ortType as 'float32';
  const tensor = new ort.Tensor(type, view as Float32Array, dims);
  // Node 24 has Float16Array, for which onnxruntime-common swaps the 16-bit view, and the binding then finds no data
  // (microsoft/onnxruntime#26791): put the plain view back.
  if (datatype === 'FP16') Object.defineProperty(tensor, 'cpuData', { value: view });
  return tensor;
}

/** Output `index`, which ONNX Runtime or pooling allocated, as the answer carries it; its buffer is to be transferred. */
export function ownedOutput(index: number, tensor: Tensor): OwnedOutput {
  const data = tensor.data;
  const bytes = Array.isArray(data)
    ? encodeStrings(data)
    : new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  // A result that does not fill its buffer can't be transferred as it is.
  const whole = bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer;
  return { index, dims: tensor.dims, buffer: whole };
}
