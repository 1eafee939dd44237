/**
 * Which requests are traced: the samplers of OpenTelemetry's environment (`OTEL_TRACES_SAMPLER`), all of which are a ratio and a rule.
 *
 * Called by `tracer.ts` once a request. The ratio goes by the last seven bytes of the trace's id, as OpenTelemetry's consistent
 * probability sampling does: servers with the same ratio choose the same traces.
 */
import { type RemoteParent, SAMPLED } from './trace-context.js';

export interface Sampling {
  /** Of traces that are decided here, 0 to 1. */
  readonly ratio: number;
  /** Whether a caller's own decision is followed. */
  readonly parentBased: boolean;
}

/** 52 of the 56 bits: a double holds them exactly. */
const RANGE = 2 ** 52;

export class Sampler {
  readonly #threshold: number;
  readonly #parentBased: boolean;

  constructor({ ratio, parentBased }: Sampling) {
    this.#threshold = (1 - ratio) * RANGE;
    this.#parentBased = parentBased;
  }

  /** Whether a request is traced that starts a trace whose id ends with these eight bytes. */
  root(high: number, low: number): boolean {
    return (high & 0xff_ffff) * 2 ** 28 + (low >>> 4) >= this.#threshold;
  }

  /** Whether a request is traced that continues its caller's trace. */
  child({ traceId, flags }: RemoteParent): boolean {
    return this.#parentBased ? (flags & SAMPLED) !== 0 : this.root(traceId[2], traceId[3]);
  }
}
