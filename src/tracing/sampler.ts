/**
 * Which requests are traced: asked once at each request's head, traced or not, so it may cost next to nothing.
 *
 * Made by `tracer.ts` of what the environment asks for (`settings.ts`).
 */
import { ROOT_CONTEXT, type SpanContext, TraceFlags } from '@opentelemetry/api';
import { SamplingDecision, TraceIdRatioBasedSampler } from '@opentelemetry/sdk-trace';
import type { Sampling } from './settings.js';

/** Decides for a request with this caller; undefined where the request starts its trace. */
export type Sampler = (caller: SpanContext | undefined) => boolean;

/**
 * A trace that starts here is drawn before it has an id. The SDK's samplers want the id first, which takes ten times as long as the lot,
 * for each request that is not traced; and nobody else can decide by an id that is made here. A caller's trace is decided by its id, as
 * all of its services do.
 */
export function samplerOf({ ratio, parentBased }: Sampling): Sampler {
  const byId = new TraceIdRatioBasedSampler(ratio);
  return (caller) => {
    if (caller === undefined) return Math.random() < ratio;
    if (parentBased) return (caller.traceFlags & TraceFlags.SAMPLED) !== 0;
    return byId.shouldSample(ROOT_CONTEXT, caller.traceId).decision === SamplingDecision.RECORD_AND_SAMPLED;
  };
}
