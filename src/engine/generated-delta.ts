/**
 * What a front end is told of one record of the ring.
 *
 * Called by generate-call.ts for each token. Pure; the record is lent, the delta is the front end's to keep.
 */
import { type EndDetail, FLAG_TOKEN } from '../runtime/generation-messages.js';
import type { StreamRecord } from '../runtime/token-streams.js';
import type { GeneratedDelta, GenerationEnd } from './generation-types.js';

/** `promptTokens` are told with the end. */
export function deltaOf({ flags, text, tokenId, logit, detail }: StreamRecord, promptTokens: number): GeneratedDelta {
  // Nearly all have none.
  if (detail === undefined) return { text, tokenId, logit };
  const { logprob, end } = detail;
  return {
    text,
    tokenId: flags & FLAG_TOKEN ? tokenId : -1,
    logit,
    ...(logprob && { logprob }),
    ...(end && { end: endOf(end, promptTokens) }),
  };
}

function endOf({ scheduledMs, prefillMs, cumulativeLogprob = Number.NaN, ...end }: EndDetail, promptTokens: number) {
  return { ...end, promptTokens, cumulativeLogprob } satisfies GenerationEnd;
}
