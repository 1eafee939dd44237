/**
 * The batching policy: a pure function from what waits and what time it is to what to do. No timers, no state, no input or output.
 *
 * Called by the request queue, for one group of requests that may run together (same model, same shapes), when a worker could take
 * a batch. Knobs and meanings are Triton's (`dynamic_batching` of model_config.proto), with two differences that its users ask
 * for: a preferred size is held exactly also when the delay has passed, and no delay is waited out past the point where the
 * tightest deadline of the group could still be met.
 */

export interface BatchPolicy {
  /** Most rows in one batch; at least 1. */
  readonly maxBatchSize: number;
  /** False: every request runs alone (no `dynamic_batching`). */
  readonly dynamic: boolean;
  /** Sizes to aim for, ascending, none above maxBatchSize. Triton's default: just maxBatchSize. */
  readonly preferredBatchSizes: readonly number[];
  /** How long the oldest request may wait for company. */
  readonly maxQueueDelayMs: number;
  /** False where requests have queue timeouts, priorities or an exact bound: they stay in the queue until a worker is free. */
  readonly mayPrepare: boolean;
}

/** The requests of one group in the order in which they would run. */
export interface GroupView {
  /** Rows of each request from the head on; enough of them to pass maxBatchSize, or all. */
  readonly rows: readonly number[];
  /** When the one that waits longest was queued. */
  readonly oldestMs: number;
  /** The earliest time at which one of them must be answered; Infinity if none must. */
  readonly tightestDeadlineMs: number;
  /**
   * More waits than a batch holds, though not all of it may run with these: then nobody waits for company at an idle worker. Such a
   * batch may still become better, so it does not go behind a running one for that.
   */
  readonly crowded?: boolean;
}

export type Decision =
  | { readonly kind: 'dispatch'; readonly count: number }
  | { readonly kind: 'wait'; readonly untilMs: number }
  | { readonly kind: 'idle' };

const IDLE: Decision = { kind: 'idle' };

/** Left between the planned start of a batch and the last moment for it: timers are late by about this much. */
const MARGIN_MS = 1;

/**
 * Decides for one group.
 *
 * @param fullOnly the worker is still busy: only a batch that can't become better may be queued behind the running one.
 * @param estimateMs expected compute time for a number of rows.
 */
export function decide(
  group: GroupView,
  now: number,
  policy: BatchPolicy,
  estimateMs: (rows: number) => number,
  fullOnly: boolean,
): Decision {
  const { rows } = group;
  if (rows.length === 0) return IDLE;
  if (!policy.dynamic) return fullOnly ? { kind: 'idle' } : { kind: 'dispatch', count: 1 };

  // Walk the prefix that fits: how many requests, and the longest prefix that makes a preferred size exactly.
  const largestPreferred = policy.preferredBatchSizes.at(-1) ?? policy.maxBatchSize;
  let count = 0;
  let total = 0;
  let preferredCount = 0;
  let best = false;
  while (count < rows.length && total + rows[count]! <= policy.maxBatchSize) {
    total += rows[count]!;
    count++;
    if (policy.preferredBatchSizes.includes(total)) {
      preferredCount = count;
      if (total === largestPreferred) {
        best = true;
        break;
      }
    }
  }
  // A single request is never larger than the maximum (validation), so count is at least 1 here.
  const cannotGrow = best || total === policy.maxBatchSize || count < rows.length;
  if (fullOnly) return cannotGrow ? { kind: 'dispatch', count: preferredCount || count } : IDLE;
  if (cannotGrow || preferredCount > 0 || group.crowded) return { kind: 'dispatch', count: preferredCount || count };

  const delayEndsMs = group.oldestMs + policy.maxQueueDelayMs;
  const lastStartMs = group.tightestDeadlineMs - estimateMs(total) - MARGIN_MS;
  const untilMs = Math.min(delayEndsMs, lastStartMs);
  return now >= untilMs ? { kind: 'dispatch', count } : { kind: 'wait', untilMs };
}
