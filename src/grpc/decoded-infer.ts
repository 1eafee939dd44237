/**
 * What a decoded inference request is, for every inference RPC: the message's part of an `InferRequest`.
 *
 * Made by the request decoders, taken by the gRPC service.
 */
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
  readonly modelName: string;
  readonly modelVersion: string;
  readonly id: string;
  readonly inputs: readonly DecodedInput[];
  readonly outputs: readonly DecodedOutput[];
  readonly parameters: Parameters;
  readonly arm: Arm;
  /** Memory the request holds: the message, and what typed contents were written to. */
  readonly byteLength: number;
  /** What a refusal by the engine has to say besides, as a sentence: how something left out was understood. '' = nothing. */
  readonly note: string;
  /** On the clock of base/clock.ts. */
  readonly decodeStart: number;
  readonly decodeEnd: number;
}
