/**
 * What the gate must know about an RPC before grpc-js sees a call to it.
 *
 * Filled by the services when they register, read by the gate for every call. Must not hold anything about one call.
 */
import type { ErrorCode } from '../base/errors.js';

/** unary: one message in, one out. serverStream: one message in, many out. bidi: messages both ways until the caller is done. */
export type MethodKind = 'unary' | 'serverStream' | 'bidi';

export interface Method {
  /** Full path, `/inference.GRPCInferenceService/ModelInfer`. */
  readonly path: string;
  /** Last part of the path, as metrics name it. */
  readonly rpc: string;
  readonly kind: MethodKind;
  /**
   * Served on the bare HTTP/2 stream: deadline, framing and decompression are ours. Else by grpc-js (health's Watch and reflection),
   * which keeps its own deadline, as trailers after its messages can only be sent by it, and is given no compressed messages.
   */
  readonly isBare: boolean;
  /** Largest message accepted, before and after decompression. */
  readonly maxMessageBytes: number;
  /** Answered also while the server drains (health). */
  readonly whileDraining: boolean;
  /** Set for an RPC that exists but is always refused: nothing of its body is read. */
  readonly refusal: { readonly code: ErrorCode; readonly message: string } | undefined;
}

/** By full path. */
export type MethodTable = Map<string, Method>;
