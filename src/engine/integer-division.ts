/**
 * Keeps the one integer division that has no result away from ONNX Runtime: the least value divided by -1 raises SIGFPE there,
 * and the signal ends the whole process, whichever thread it is on.
 *
 * Called by validation, for models whose graph divides integers that come from the request (workers/onnx-scan.ts finds them).
 * Refuses a request in which an integer input holds the least value of its type while any of them could be the divisor -1.
 */
import { invalid } from '../base/errors.js';
import type { Model } from './model.js';

// Narrower types are divided as 32-bit values, where the quotient exists.
const LEAST_INT32 = -(2 ** 31);
const WIDTH: Partial<Record<string, 4 | 8>> = { INT32: 4, INT64: 8 };

/** Throws INVALID_ARGUMENT naming the input that holds the least value of its type. `data` is by the model's input positions. */
export function refuseDivisionOverflow(model: Model, data: readonly (Uint8Array | undefined)[]): void {
  for (const [position, spec] of model.inputs.entries()) {
    const width = WIDTH[spec.datatype];
    const bytes = data[position];
    if (width && bytes && holdsLeast(bytes, width)) {
      throw invalid(
        `input '${spec.name}' holds the least value of ${spec.datatype}, which model '${model.name}' may divide by -1: that has no result`,
      );
    }
  }
}

/** Whether some element is 0x80 in its highest byte and 0 in all others (little-endian). */
function holdsLeast(bytes: Uint8Array, width: 4 | 8): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const high = width - 4;
  for (let at = 0; at < bytes.byteLength; at += width) {
    if (view.getInt32(at + high, true) === LEAST_INT32 && (high === 0 || view.getInt32(at, true) === 0)) return true;
  }
  return false;
}
