/**
 * Whether a failed call is tried again, and after how long: a pure function of what happened.
 *
 * Called by both transports after each failed try whose answer had not begun. A server's pushback (`grpc-retry-pushback-ms`,
 * `Retry-After`) counts more than the policy's own wait, and a negative one forbids. Must not wait or know a transport.
 */
import type { ClientErrorCode } from './client-error.js';
import type { RetryOptions } from './types.js';

export type RetryPolicy = Required<RetryOptions>;

/** What a caller's options leave out, or say is undefined, is by default. */
export function retryPolicy(options: RetryOptions | undefined): RetryPolicy {
  const { attempts = 3, initialBackoffMs = 50, maxBackoffMs = 2000 } = options ?? {};
  return { attempts, initialBackoffMs, maxBackoffMs };
}

export interface FailedTry {
  /** Tries so far, this one included: 1 after the first. */
  readonly attempt: number;
  readonly code: ClientErrorCode;
  /** What the server asks to be waited; below 0 (or not a number) = it wants no more tries; undefined = it said nothing. */
  readonly pushbackMs: number | undefined;
  /** Until the call's deadline; Infinity = there is none. */
  readonly remainingMs: number;
  readonly options: RetryPolicy;
  /** Uniform in [0, 1). */
  readonly random: () => number;
}

/** Failures of the moment: a server that tells when to come again means it for these, and UNAVAILABLE is one without being told. */
const PASSING: ReadonlySet<ClientErrorCode> = new Set(['UNAVAILABLE', 'RESOURCE_EXHAUSTED', 'ABORTED']);

/** Part of a wait that is left to chance, so that callers who failed together do not come back together. */
const JITTER = 0.5;

/** Milliseconds to wait before the next try; undefined = there is none. Never as long as the deadline leaves. */
export function nextTry(failed: FailedTry): number | undefined {
  const { attempt, code, pushbackMs, remainingMs, options, random } = failed;
  if (attempt >= options.attempts || !PASSING.has(code)) return undefined;
  if (pushbackMs === undefined && code !== 'UNAVAILABLE') return undefined;
  if (pushbackMs !== undefined && !(pushbackMs >= 0)) return undefined;
  const delayMs = pushbackMs ?? backoffMs(attempt, options) * (1 - JITTER * random());
  return delayMs < remainingMs ? delayMs : undefined;
}

function backoffMs(attempt: number, { initialBackoffMs, maxBackoffMs }: RetryPolicy): number {
  return Math.min(maxBackoffMs, initialBackoffMs * 2 ** (attempt - 1));
}

/**
 * The value of `grpc-retry-pushback-ms`; NaN, which forbids like a negative one, for what is no integer: a pushback that can't be read is
 * no leave to try again.
 */
export function parsePushback(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  return /^-?\d+$/.test(value) ? Number(value) : Number.NaN;
}
