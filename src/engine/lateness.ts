/**
 * When a request has no point any more: its deadline or queue timeout has passed, or leaves less time than the model has ever taken.
 *
 * Called by the scheduler, before any work is done for a request.
 */
import { ServeError } from '../base/errors.js';
import type { Entry } from './entry.js';
import type { Model } from './model.js';

/** Whether `entry` can't be answered in time, at `now` on the monotonic clock. */
export function isTooLate(model: Model, { request, timeoutAction, expiresMs }: Entry, now: number): boolean {
  return request.deadlineMs - now < model.computeTimes.fastestMs || (timeoutAction === 'REJECT' && expiresMs <= now);
}

/**
 * What its caller is told: Triton's text for the queue timeout, gRPC's for the caller's own deadline (clients match both). Called once
 * for each refusal, of which the model's compute times learn.
 */
export function latenessError(model: Model, { request, timeoutAction, expiresMs }: Entry, now: number): ServeError {
  if (timeoutAction === 'REJECT' && expiresMs <= now) return new ServeError('UNAVAILABLE', 'Request timeout expired');
  if (request.deadlineMs <= now) {
    return new ServeError(
      'DEADLINE_EXCEEDED',
      `Deadline Exceeded while the request was queued for model '${model.name}'`,
    );
  }
  const fastest = model.computeTimes.fastestMs.toFixed(3);
  model.computeTimes.doubt();
  return new ServeError(
    'DEADLINE_EXCEEDED',
    `Deadline Exceeded: it leaves less time than model '${model.name}' takes (${fastest} ms)`,
  );
}
