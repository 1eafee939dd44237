/**
 * What a decoded inference request is, for both packages: the message's part of an `InferRequest`, or why it was refused.
 *
 * Made by the request decoders, taken by the gRPC service.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Arm, InferInput, Parameters, RequestedOutput } from '../engine/types.js';

/** An input with the parameters that came with it. */
export interface DecodedInput extends InferInput {
  readonly parameters: Parameters;
}

export interface DecodedOutput extends RequestedOutput {
  readonly parameters: Parameters;
}

/** What an `InferRequest` has that comes from the message; deadline and timeline are the call's. */
export interface DecodedInfer {
  readonly ok: true;
  readonly modelName: string;
  readonly modelVersion: string;
  readonly id: string;
  readonly inputs: readonly DecodedInput[];
  readonly outputs: readonly DecodedOutput[];
  readonly parameters: Parameters;
  readonly arm: Arm;
  /** Memory the request holds: the message, and what typed contents were written to. */
  readonly byteLength: number;
  /** On the clock of base/clock.ts. */
  readonly decodeStart: number;
  readonly decodeEnd: number;
}

/** A message that was refused; `error` is a WireError where the bytes are no such message. */
export interface DecodeFailure {
  readonly ok: false;
  readonly error: ServeError;
  readonly decodeStart: number;
  readonly decodeEnd: number;
}

/** Runs `decode` and turns what it throws into a value; a fault of our own becomes INTERNAL without detail. */
export function deserialize(bytes: Buffer, decode: (bytes: Buffer) => DecodedInfer): DecodedInfer | DecodeFailure {
  const decodeStart = nowMs();
  try {
    return decode(bytes);
  } catch (error) {
    return { ok: false, error: ServeError.from(error), decodeStart, decodeEnd: nowMs() };
  }
}
