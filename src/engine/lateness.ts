/**
 * When a request has no point any more: its deadline or queue timeout has passed, or leaves less time than the model has ever taken.
 *
 * Called by the scheduler, before any work is done for a request.
 */
import { ServeError } from '../base/errors.js';
import type { Entry } from './entry.js';
import type { Model } from './model.js';

/** Whether `entry` can't be answered in time, at `now` on the monotonic clock. */
export function isTooLate(model: Model, entry: Entry, now: number): boolean {
  const { request, timeoutAction, expiresMs } = entry;
  return request.deadlineMs - now < fastestMs(model, entry) || (timeoutAction === 'REJECT' && expiresMs <= now);
}

/**
 * What its caller is told: Triton's text for the queue timeout, gRPC's for the caller's own deadline (clients match both). Called once
 * for each refusal, of which the model's compute times learn.
 */
export function latenessError(model: Model, entry: Entry, now: number): ServeError {
  const { request, timeoutAction, expiresMs, rowTokens } = entry;
  if (timeoutAction === 'REJECT' && expiresMs <= now) return new ServeError('UNAVAILABLE', 'Request timeout expired');
  if (request.deadlineMs <= now) {
    return new ServeError(
      'DEADLINE_EXCEEDED',
      `Deadline Exceeded while the request was queued for model '${model.name}'`,
    );
  }
  const fastest = fastestMs(model, entry).toFixed(3);
  if (rowTokens) model.computeTimes.text.doubt();
  else model.computeTimes.doubt();
  return new ServeError(
    'DEADLINE_EXCEEDED',
    `Deadline Exceeded: it leaves less time than model '${model.name}' takes (${fastest} ms)`,
  );
}

/** The least that such a request has ever taken; a text is held against texts that were no longer. */
function fastestMs({ computeTimes }: Model, { rowTokens, rows, tokens }: Entry): number {
  return rowTokens ? computeTimes.text.fastestMs(rows * tokens) : computeTimes.fastestMs;
}
