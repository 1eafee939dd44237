/**
 * What a load process is told and tells back over IPC, one order at a time.
 *
 *   probe   --> probed
 *   prepare --> ready, then go --> measured         (connections stand, the code is warm; all processes go at once)
 *                                                    failed in place of any answer
 *                                                    alive at the start, and before any answer while the server sends bytes
 */
import type { LoadOptions, LoadTarget, Payload, Probe } from './load-types.js';
import type { Recorded } from './recorder.js';
import type { ArmSpec } from './results.js';

/** One process's part of a load. */
export type ProcessLoad =
  | { readonly kind: 'closed'; readonly concurrency: number; readonly ms: number }
  | {
      readonly kind: 'open';
      readonly ratePerSecond: number;
      /** Of the first request, so that processes take turns. */
      readonly offsetMs: number;
      readonly ms: number;
    };

export interface Ask {
  readonly target: LoadTarget;
  readonly payload: Payload;
  readonly arm: ArmSpec;
}

export type Order =
  | ({ readonly kind: 'probe' } & Ask)
  | ({
      readonly kind: 'prepare';
      readonly load: ProcessLoad;
    } & Ask &
      Required<Pick<LoadOptions, 'grpcConnections' | 'httpConnections'>>)
  | { readonly kind: 'go' };

/** One process's figures; times on the clock that processes share. */
export interface Measured extends Recorded {
  readonly startedMs: number;
  readonly endedMs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly cpuUs: number;
}

export type Reply =
  | { readonly kind: 'probed'; readonly probe: Probe }
  | { readonly kind: 'ready' }
  | { readonly kind: 'measured'; readonly measured: Measured }
  | { readonly kind: 'alive' }
  /** `isExpected`: a matter of the server or of what was asked, in words for whoever runs the bench. */
  | { readonly kind: 'failed'; readonly message: string; readonly isExpected: boolean };
