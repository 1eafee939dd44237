/** The ServeError with which `decode` refuses `bytes`; fails the test when it accepts them or throws anything else. */
import { ServeError } from '../../src/base/errors.js';
import type { DecodedInfer } from '../../src/grpc/decoded-infer.js';

export function refusalOf(decode: (bytes: Buffer) => DecodedInfer, bytes: Buffer): ServeError {
  try {
    decode(bytes);
  } catch (error) {
    if (error instanceof ServeError) return error;
    throw error;
  }
  throw new Error('accepted');
}
