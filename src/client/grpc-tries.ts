/**
 * All tries of one call over gRPC: at one channel after another until there is an answer, no try is left, or nobody waits any more.
 *
 * Called by `grpc-client.ts` around each try. A channel that can't be reached is left for the next one at once, as nothing was sent; what
 * else may be tried again says `retry.ts`.
 */
import type { Channel } from '@grpc/grpc-js';
import type { CallScope } from './call-scope.js';
import { clientErrorOf, TryError } from './grpc-call.js';
import { type GrpcChannels, isOutOfReach } from './grpc-channels.js';
import { nextTry, parsePushback, type RetryPolicy } from './retry.js';

export interface TryOptions {
  readonly channels: GrpcChannels;
  readonly scope: CallScope;
  readonly isGzip: boolean;
  readonly retry: RetryPolicy;
}

export interface Tried<Reply> {
  readonly reply: Reply;
  /** When the try that was answered began, where others failed before it. */
  readonly retriedMs: number | undefined;
}

/** The reply of the first try that got one. Rejects with ClientError. */
export async function tries<Reply>(
  { channels, scope, isGzip, retry }: TryOptions,
  attemptOn: (channel: Channel) => Promise<Reply>,
): Promise<Tried<Reply>> {
  const outOfReach = new Set<Channel>();
  let channel = channels.next(isGzip)!;
  let retriedMs: number | undefined;
  for (let attempt = 1; ; retriedMs = performance.now()) {
    scope.check();
    scope.attempts = attempt;
    try {
      return { reply: await attemptOn(channel), retriedMs };
    } catch (error) {
      if (!(error instanceof TryError)) throw clientErrorOf(error, attempt);
      const other = isUnsent(error, channel) ? channels.next(isGzip, outOfReach.add(channel)) : undefined;
      if (other !== undefined) {
        channel = other;
        continue;
      }
      const delayMs = delayAfter(error, attempt, { scope, retry });
      if (delayMs === undefined) throw clientErrorOf(error, attempt);
      await scope.sleep(delayMs);
      outOfReach.clear();
      channel = channels.next(isGzip)!;
      attempt++;
    }
  }
}

/** There was no connection to send anything on. */
function isUnsent({ code, isAnswered }: TryError, channel: Channel): boolean {
  return code === 'UNAVAILABLE' && !isAnswered && isOutOfReach(channel);
}

function delayAfter(
  { code, isAnswered, trailers }: TryError,
  attempt: number,
  { scope, retry }: Pick<TryOptions, 'scope' | 'retry'>,
): number | undefined {
  if (isAnswered) return undefined;
  const [pushback] = trailers.get('grpc-retry-pushback-ms');
  return nextTry({
    attempt,
    code,
    pushbackMs: parsePushback(pushback?.toString()),
    remainingMs: scope.remainingMs,
    options: retry,
    random: Math.random,
  });
}
