/**
 * One call over REST: tries at one address after another until there is an answer, no try is left, or nobody waits any more.
 *
 * Called by `rest-client.ts` and `rest-stream.ts`. An address that can't be reached is left for the next one at once; what else may be
 * tried again says `retry.ts`. Answers are inflated here, within bounds. Must not know what bodies mean.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { promisify } from 'node:util';
import { gunzip, gzip, inflate } from 'node:zlib';
import type { CallScope } from './call-scope.js';
import { ClientError } from './client-error.js';
import type { Address, Connections } from './rest-connections.js';
import { type BodySink, Exchange, type RestAnswer, type RestFailure } from './rest-exchange.js';
import { codeOfStatus, messageOf, parseRetryAfter } from './rest-status.js';
import { nextTry, type RetryPolicy } from './retry.js';

export interface RestRequest {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Buffer;
}

export interface CallPolicy {
  readonly retry: RetryPolicy;
  readonly maxReceiveBytes: number;
  /** Takes the body of an answer of status 200. */
  readonly sink?: BodySink;
  /** Whether an answer of this status is one, rather than an error. Default: 200 to 299. */
  readonly accepts?: (status: number) => boolean;
}

export interface CallResult extends RestAnswer {
  /** When the try that was answered began, where others failed before it. */
  readonly retriedMs: number | undefined;
}

const isSuccess = (status: number): boolean => status >= 200 && status < 300;

/** The answer of the first try that got one. Rejects with ClientError. */
export async function call(
  connections: Connections,
  request: RestRequest,
  policy: CallPolicy,
  scope: CallScope,
): Promise<CallResult> {
  const { retry, accepts = isSuccess } = policy;
  const unreachable = new Set<Address>();
  let retriedMs: number | undefined;
  for (let attempt = 1; ; retriedMs = performance.now()) {
    scope.check();
    scope.attempts = attempt;
    const address = connections.next(unreachable)!;
    const result = await exchange(address, request, policy, scope);
    scope.check();
    if (result.ok && accepts(result.status)) {
      connections.reached(address);
      return { ...result, retriedMs };
    }
    if (!result.ok && result.unreachable) {
      connections.unreachable(address);
      unreachable.add(address);
      if (unreachable.size < connections.count) continue;
    } else if (result.ok || !result.final) connections.reached(address);
    const error = await errorOf(result, attempt, policy.maxReceiveBytes);
    const delayMs = canRetry(result)
      ? nextTry({
          attempt,
          code: error.code,
          pushbackMs: result.ok ? parseRetryAfter(result.headers['retry-after'], Date.now()) : undefined,
          remainingMs: scope.remainingMs,
          options: retry,
          random: Math.random,
        })
      : undefined;
    if (delayMs === undefined) throw error;
    await scope.sleep(delayMs);
    unreachable.clear();
    attempt++;
  }
}

function canRetry(result: RestAnswer | RestFailure): boolean {
  return result.ok || !result.final;
}

/** One try. */
function exchange(
  address: Address,
  { method, path, headers, body }: RestRequest,
  { maxReceiveBytes, sink }: CallPolicy,
  scope: CallScope,
): Promise<RestAnswer | RestFailure> {
  const { name, pool } = address;
  return new Promise((resolve) => {
    const onOver = (): void => address.leave();
    const handler = new Exchange({ address: name, maxReceiveBytes, onOver, ...(sink && { sink }) }, resolve);
    const start = (): void => void pool.dispatch({ method, path, headers, ...(body && { body }) }, handler);
    // Stays on for a stream, whose body comes after this promise is settled.
    scope.onEnd = (error) => {
      address.withdraw(start);
      handler.cancel(error);
    };
    address.enter(start);
  });
}

async function errorOf(result: RestAnswer | RestFailure, attempts: number, maxBytes: number): Promise<ClientError> {
  if (!result.ok) {
    const { code, message, cause, local } = result;
    return new ClientError(code, message, { cause, local, attempts });
  }
  const { status, headers } = result;
  const body = await inflated(result.body, headers, maxBytes).catch(() => EMPTY);
  const message = messageOf(status, headers['content-type'], body);
  return new ClientError(codeOfStatus(status), message, { httpStatus: status, attempts });
}

const EMPTY = Buffer.alloc(0);
const compressed = promisify(gzip);
const INFLATERS = { gzip: promisify(gunzip), 'x-gzip': promisify(gunzip), deflate: promisify(inflate) } as const;

/** `body` compressed as grpc-js does it: at zlib's usual level, beside the main thread. */
export function deflated(body: Buffer): Promise<Buffer> {
  return compressed(body);
}

/** `body` without its `content-encoding`; itself where there is none. Rejects with ClientError when it can't be read or is larger than `maxBytes`. */
export async function inflated(body: Buffer, headers: IncomingHttpHeaders, maxBytes: number): Promise<Buffer> {
  const coding = headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
  if (coding === 'identity' || coding === '') return body;
  const inflater = Object.hasOwn(INFLATERS, coding) ? INFLATERS[coding as keyof typeof INFLATERS] : undefined;
  if (!inflater)
    throw new ClientError('INTERNAL', `the answer has content-encoding '${coding}', expected gzip or none`);
  try {
    return await inflater(body, { maxOutputLength: maxBytes });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') {
      const message = `the answer inflates to more than the ${maxBytes} bytes that maxReceiveBytes allows`;
      throw new ClientError('RESOURCE_EXHAUSTED', message, { cause });
    }
    throw new ClientError('INTERNAL', `the answer is no ${coding}: ${(cause as Error).message}`, { cause });
  }
}
