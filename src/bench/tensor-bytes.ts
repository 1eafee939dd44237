/**
 * Tensors by their bytes: how many they are in raw form, and whether two answers hold the same.
 *
 * Called by the load processes and by `run-cells.ts`. Pure.
 */
import { isBytesData, rawBytes, writeRaw } from '../client/tensor.js';
import type { InputTensor, TensorData } from '../client/types.js';

/** Bytes in the raw layout, all tensors together. */
export function tensorBytes(tensors: readonly { readonly data: TensorData }[]): number {
  let bytes = 0;
  for (const { data } of tensors) bytes += isBytesData(data) ? rawBytes(data) : data.byteLength;
  return bytes;
}

/** Undefined when both answers hold the same tensors bit for bit, in any order; else the first difference in words. */
export function tensorsDifference(
  expected: readonly Required<InputTensor>[],
  actual: readonly Required<InputTensor>[],
): string | undefined {
  if (expected.length !== actual.length) return `${actual.length} outputs in place of ${expected.length}`;
  for (const output of expected) {
    const other = actual.find(({ name }) => name === output.name);
    if (other === undefined) return `no output '${output.name}'`;
    const kind = `${output.datatype} [${output.shape.join(',')}]`;
    const otherKind = `${other.datatype} [${other.shape.join(',')}]`;
    if (kind !== otherKind) return `output '${output.name}' is ${otherKind} in place of ${kind}`;
    const bytes = rawLayout(output.data);
    const otherBytes = rawLayout(other.data);
    if (!bytes.equals(otherBytes)) {
      const at = bytes.findIndex((byte, index) => byte !== otherBytes[index]);
      return `output '${output.name}' differs from byte ${at} of ${bytes.length} on`;
    }
  }
  return undefined;
}

function rawLayout(data: TensorData): Buffer {
  const bytes = Buffer.allocUnsafe(rawBytes(data));
  writeRaw(bytes, data, 0);
  return bytes;
}
