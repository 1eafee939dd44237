/**
 * A reply of server-sent events: `data: ...` for each, over one HTTP response that stays open until the last.
 *
 * Made by the routes that stream, one for each request. Events of one turn of the event loop leave in one chunk; what has been taken is
 * told when the socket has given it to the kernel, so a client that does not read holds back its own generation and nothing else.
 * The first outcome decides the status: a failure before any event is a plain error reply, a later one is an event and then the end.
 * Must not know what the events say.
 */
import { ServeError } from '../base/errors.js';
import type { Exchange } from './exchange.js';
import { errorBodyFor } from './openai-error.js';
import type { HttpError } from './status.js';

/** Who produces what is sent, and waits for it to be taken. */
export interface Producer {
  /** This many deltas have left. */
  taken(deltas: number): void;
}

export interface EventStreamOptions {
  readonly exchange: Exchange;
  /** The `server-timing` value, called when the last event is written. */
  readonly timing: () => string;
}

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache',
  // Proxies collect replies unless they are told.
  'x-accel-buffering': 'no',
} as const;

export class EventStream {
  readonly #exchange: Exchange;
  readonly #timing: () => string;
  /** Events of this turn. */
  #text = '';
  /** Producer of each delta of this turn. */
  #producers: Producer[] = [];
  #flushing = false;
  /** Chunks that the kernel has not taken. */
  #held = 0;
  #begun = false;
  #ended = false;

  constructor({ exchange, timing }: EventStreamOptions) {
    this.#exchange = exchange;
    this.#timing = timing;
  }

  /** One event; `data` is JSON, so it holds no line break. */
  send(data: string): void {
    if (this.#ended) return;
    this.#begun = true;
    this.#text += `data: ${data}\n\n`;
    this.#flushSoon();
  }

  /** One more delta of `producer` is among what was sent; or nothing had to be sent for it. */
  deliver(producer: Producer): void {
    if (this.#ended) return;
    this.#producers.push(producer);
    this.#flushSoon();
  }

  /** No event follows. */
  end(): void {
    if (this.#ended) return;
    this.#flush();
    this.#ended = true;
    if (this.#open()) this.#exchange.finish(this.#timing());
  }

  /** An error reply where nothing was sent, else an event with the error, and the end. A client that does not read gets neither. */
  fail(error: ServeError | HttpError): void {
    if (this.#ended) return;
    if (!this.#begun) {
      this.#ended = true;
      this.#exchange.fail(error, this.#timing);
      return;
    }
    if (this.#held > 0 && error instanceof ServeError && error.code === 'RESOURCE_EXHAUSTED') {
      // What is written for it would only wait behind the rest.
      this.#ended = true;
      this.#exchange.request.socket.destroy();
      return;
    }
    this.#exchange.report(error);
    this.send(errorBodyFor(this.#exchange.request.url, error));
    this.end();
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    process.nextTick(EventStream.#flushNow, this);
  }

  static #flushNow(stream: EventStream): void {
    stream.#flush();
  }

  #flush(): void {
    this.#flushing = false;
    const text = this.#text;
    const producers = this.#producers;
    if (text === '' && producers.length === 0) return;
    this.#text = '';
    this.#producers = [];
    if (text === '') {
      tellTaken(producers);
      return;
    }
    if (!this.#open()) return;
    this.#held++;
    this.#exchange.responseBytes += Buffer.byteLength(text);
    this.#exchange.response.write(text, 'utf8', (error) => {
      this.#held--;
      if (!error) tellTaken(producers);
    });
  }

  /** Whether there is a reply to write to; its head goes out with the first event. */
  #open(): boolean {
    const { response, gone } = this.#exchange;
    if (gone || response.destroyed) return false;
    return response.headersSent || this.#exchange.begin(200, HEADERS);
  }
}

/** Tells each producer once for deltas in a row. */
function tellTaken(producers: readonly Producer[]): void {
  for (let at = 0; at < producers.length; ) {
    const producer = producers[at]!;
    const from = at;
    while (producers[at] === producer) at++;
    producer.taken(at - from);
  }
}
