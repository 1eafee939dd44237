/**
 * A generated text over REST as it comes: server-sent events into an async iterable.
 *
 * Made by `rest-client.ts`, one for each `generateStream`. The request goes out when the iteration begins. A reader that is slow holds the
 * connection back, one that stops closes it, which ends the generation. Must not know where the connection comes from.
 */
import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import { type Budget, budgetOf, parseServerTiming } from './budget.js';
import type { CallScope } from './call-scope.js';
import { ClientError } from './client-error.js';
import type { CallResult } from './rest-call.js';
import { EventReader } from './rest-events.js';
import type { BodySink, RestFailure } from './rest-exchange.js';
import { generatedText } from './rest-metadata.js';
import type { GeneratedPiece, GeneratedStream } from './types.js';

/** A reader this many events behind holds the connection back. */
const MAX_WAITING = 64;

/** Events from where they arrive to where they are read. */
class EventQueue implements BodySink {
  readonly #reader: EventReader;
  readonly #events: string[] = [];
  #controller: Dispatcher.DispatchController | undefined;
  #ended = false;
  #error: ClientError | undefined;
  #wake: (() => void) | undefined;
  trailers: IncomingHttpHeaders = {};
  endedMs = 0;
  bytes = 0;

  constructor(maxEventBytes: number) {
    this.#reader = new EventReader((data) => void this.#events.push(data), maxEventBytes);
  }

  chunk(chunk: Buffer, controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    this.bytes += chunk.length;
    try {
      this.#reader.push(chunk);
    } catch (error) {
      controller.abort(tooLong(error));
      return;
    }
    if (this.#events.length >= MAX_WAITING) controller.pause();
    this.#wake?.();
  }

  end(trailers: IncomingHttpHeaders): void {
    this.endedMs = performance.now();
    this.trailers = trailers;
    try {
      this.#reader.end();
    } catch (error) {
      this.#error = tooLong(error);
    }
    this.#ended = true;
    this.#wake?.();
  }

  fail({ code, message, cause }: RestFailure): void {
    this.#error ??= new ClientError(code, message, { cause });
    this.#wake?.();
  }

  /** The next event; undefined behind the last. Rejects where the stream broke off, after the events before. */
  async next(): Promise<string | undefined> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) {
        if (this.#controller?.paused && this.#events.length < MAX_WAITING / 2) this.#controller.resume();
        return event;
      }
      if (this.#error) throw this.#error;
      if (this.#ended) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}

function tooLong(error: unknown): ClientError {
  return new ClientError('RESOURCE_EXHAUSTED', (error as RangeError).message);
}

export interface StreamOptions {
  readonly maxReceiveBytes: number;
  /** Called when the iteration begins. */
  readonly scope: () => CallScope;
  /** The call is over. */
  readonly end: (scope: CallScope) => void;
  /** Encodes and sends; resolves when the answer's head is there. */
  readonly send: (sink: BodySink, scope: CallScope) => Promise<SentStream>;
}

export interface SentStream {
  readonly result: CallResult;
  /** When the request was encoded, and into how many bytes. */
  readonly encodedMs: number;
  readonly requestBytes: number;
}

export function createGeneratedStream(options: StreamOptions): GeneratedStream {
  const { promise, resolve, reject } = Promise.withResolvers<Budget>();
  // Nobody has to ask for the budget.
  promise.catch(() => undefined);
  let begun = false;
  return {
    budget: promise,
    [Symbol.asyncIterator]() {
      if (begun) throw new ClientError('FAILED_PRECONDITION', 'a generated stream can be read once', { local: true });
      begun = true;
      return pieces(options, resolve, reject);
    },
  };
}

async function* pieces(
  { maxReceiveBytes, scope: begin, end, send }: StreamOptions,
  resolve: (budget: Budget) => void,
  reject: (error: unknown) => void,
): AsyncGenerator<GeneratedPiece, undefined, undefined> {
  const scope = begin();
  const queue = new EventQueue(maxReceiveBytes);
  let over = false;
  try {
    const sent = await send(queue, scope);
    assertEvents(sent.result);
    for (let data = await queue.next(); data !== undefined; data = await queue.next()) {
      // What has come already is nothing to a caller who has ended the call.
      scope.check();
      // OpenAI's servers say so that it was the last.
      if (data === '[DONE]') continue;
      yield { text: generatedText(data, 'an event') };
    }
    over = true;
    resolve(budgetOfStream(scope, sent, queue));
    return undefined;
  } catch (error) {
    reject(error);
    throw error;
  } finally {
    if (!over) {
      const stopped = new ClientError('CANCELLED', 'the stream was not read to its end');
      scope.onEnd?.(stopped);
      reject(stopped);
    }
    end(scope);
  }
}

function assertEvents({ headers }: CallResult): void {
  const type = headers['content-type'] ?? 'no content-type';
  if (!/^text\/event-stream\b/i.test(type)) {
    throw new ClientError('INTERNAL', `the answer is ${type.slice(0, 64)}, expected text/event-stream`);
  }
}

function budgetOfStream(scope: CallScope, { result, encodedMs, requestBytes }: SentStream, queue: EventQueue): Budget {
  const { retriedMs, sentMs, firstByteMs, headers } = result;
  const { endedMs, trailers, bytes } = queue;
  const timing = (trailers['server-timing'] ?? headers['server-timing']) as string | undefined;
  return budgetOf(
    {
      called: scope.calledMs,
      began: retriedMs ?? scope.calledMs,
      encoded: retriedMs ?? encodedMs,
      sent: sentMs,
      firstByte: firstByteMs,
      lastByte: endedMs,
      decoded: endedMs,
    },
    parseServerTiming(timing),
    requestBytes,
    bytes,
  );
}
