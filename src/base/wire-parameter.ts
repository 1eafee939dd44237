/**
 * The value of an `InferParameter` of the Open Inference Protocol, off the wire.
 *
 * Called by the gRPC front end for requests and by the client for answers. Must not know a parameter.
 */
import { DELIMITED, FIXED64, VARINT, type WireReader } from './wire-reader.js';

/** Undefined where none is set; of several the last counts. A 64-bit integer that a double cannot hold is a bigint. */
export function readInferParameterValue(reader: WireReader): boolean | number | bigint | string | undefined {
  const outer = reader.enter();
  let value: boolean | number | bigint | string | undefined;
  while (reader.pos < reader.limit) {
    const tag = reader.tag();
    switch (tag) {
      case (1 << 3) | VARINT:
        value = reader.bool();
        break;
      case (2 << 3) | VARINT:
        reader.int64();
        value = exact(reader.hi, reader.lo);
        break;
      case (3 << 3) | DELIMITED:
        value = reader.text();
        break;
      case (4 << 3) | FIXED64:
        value = reader.double();
        break;
      case (5 << 3) | VARINT:
        reader.int64();
        value = exact(reader.hi >>> 0, reader.lo);
        break;
      default:
        reader.skip(tag);
    }
  }
  reader.leave(outer);
  return value;
}

/** hi * 2^32 + lo: a number where a double holds it exactly, else a bigint. */
function exact(hi: number, lo: number): number | bigint {
  const value = hi * 0x1_0000_0000 + (lo >>> 0);
  return Number.isSafeInteger(value) ? value : (BigInt(hi) << 32n) | BigInt(lo >>> 0);
}
