/**
 * Ends calls that a peer holds open: a request that never comes, a reply that is never read, a stream of either kind that has stopped.
 *
 * Started by `server.ts`; looks at the open calls once in a while instead of holding timers per call. grpc-js keeps an unread reply
 * for ever, past its deadline too: with a client window of 0 each one pins its memory.
 */
import { constants } from 'node:http2';
import { nowMs } from '../base/clock.js';
import type { GatedCall } from './gated-call.js';

export interface SweepLimits {
  /** Time a request may take to arrive, before what `SLOWEST_BYTES_PER_MS` adds for its size. */
  readonly receiveTimeoutMs: number;
  /** Time a reply may take to be read, likewise. */
  readonly writeStallMs: number;
}

/** 128 KiB/s: a peer slower than this, over the whole message, counts as stalled. */
const SLOWEST_BYTES_PER_MS = 131;
/** How long past its deadline a reply may still be on its way. */
const DEADLINE_GRACE_MS = 1000;
const SWEEP_MS = 1000;

/** Starts sweeping; the returned function stops it. */
export function startSweep(live: ReadonlySet<GatedCall>, limits: SweepLimits): () => void {
  const everyMs = Math.max(10, Math.min(SWEEP_MS, limits.receiveTimeoutMs / 4, limits.writeStallMs / 4));
  const timer = setInterval(() => {
    const now = nowMs();
    for (const call of live) sweepCall(call, now, limits);
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}

function sweepCall(call: GatedCall, now: number, limits: SweepLimits): void {
  if (call.stream.closed) sweepClosed(call, now, limits);
  else if (call.phase === 'streaming') sweepStream(call, now, limits);
  else if (call.phase === 'receiving') {
    const arrivedMs = call.timeline.firstByte;
    if (call.stream.writableEnded) {
      // Answered by grpc-js while the client still sends.
      call.stream.close(constants.NGHTTP2_NO_ERROR);
      call.stream.resume();
    } else if (now - arrivedMs > limits.receiveTimeoutMs + call.receivedBytes / SLOWEST_BYTES_PER_MS) {
      call.refuse('DEADLINE_EXCEEDED', `request not received within ${Math.round(now - arrivedMs)} ms`);
    }
  } else if (call.phase === 'replying') {
    const limitMs = call.repliedMs + limits.writeStallMs + call.replyBytes / SLOWEST_BYTES_PER_MS;
    const deadlineMs = call.isStalled ? call.repliedMs : Math.max(call.deadlineMs, call.repliedMs);
    if (now > Math.min(limitMs, deadlineMs + DEADLINE_GRACE_MS)) {
      // gRPC clients read the one as CANCELLED and the other, for streams, as RESOURCE_EXHAUSTED: the status itself can't reach them.
      call.stream.close(call.isStalled ? constants.NGHTTP2_ENHANCE_YOUR_CALM : constants.NGHTTP2_CANCEL);
    }
  }
}

/**
 * A stream that is closed without an error while its reply waits to be read is never destroyed by Node, and its connection can't end
 * then: not even when the socket breaks. One that its caller reset goes at once; one that we closed gets the time of any reply.
 */
function sweepClosed(call: GatedCall, now: number, { writeStallMs }: SweepLimits): void {
  if (call.closedMs === 0) call.closedMs = now;
  if (!call.done || now - call.closedMs > writeStallMs) call.stream.destroy();
}

function sweepStream(call: GatedCall, now: number, limits: SweepLimits): void {
  const { partialSinceMs, partialBytes, unflushed, flushedMs } = call;
  if (partialSinceMs > 0 && now - partialSinceMs > limits.receiveTimeoutMs + partialBytes / SLOWEST_BYTES_PER_MS) {
    call.refuse('DEADLINE_EXCEEDED', `message not received within ${Math.round(now - partialSinceMs)} ms`);
  } else if (unflushed > 0 && call.generations === 0 && now - flushedMs > limits.writeStallMs) {
    call.refuse('RESOURCE_EXHAUSTED', `replies were not read for ${Math.round(now - flushedMs)} ms`);
  }
}
