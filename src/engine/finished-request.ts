/**
 * What a front end tells of each request that ended, whatever came of it: the one source of metrics, advice and traces.
 *
 * Made by `grpc/` and `rest/`, taken by the observers that the composition root puts together (`src/ports.ts`). Plain data.
 */
import type { Timeline } from '../base/timeline.js';
import type { Arm } from './types.js';

/** Takes each request that ended, within the turn in which it did; must not throw, and costs every request what it costs. */
export type RequestObserver = (request: FinishedRequest) => void;

export interface FinishedRequest {
  readonly protocol: 'grpc' | 'rest';
  /** Of a closed set: the gRPC method's name (`ModelInfer`), the REST route's path pattern (`/v2/models/:model/infer`), '' for none. */
  readonly method: string;
  /** Of a closed set: gRPC code names, or HTTP statuses as text (499 = the client left). */
  readonly status: string;
  /** Set for inferences whose request was decoded. */
  readonly arm: Arm | undefined;
  /** As the client wrote it, maybe no model at all: a label only where `timeline.scattered > 0`, for then a model answered. */
  readonly modelName: string;
  readonly timeline: Timeline;
  /** Bytes of the bodies (REST) or messages (gRPC), as they were on the wire; 0 where there was none. */
  readonly requestBytes: number;
  readonly responseBytes: number;
}
