/**
 * One request of `inferStream` on its way: what admission takes for an ordinary handler, and what the front end holds meanwhile.
 *
 * Made by the generator. A model that answers once answers through it and is final; for one that generates text, the generator finds the
 * relay in the handler's place and puts the stream behind it.
 */
import type { ServeError } from '../base/errors.js';
import type { GenerateCall } from './generation-types.js';
import type { Cancel, InferHandler, InferResponse, InferStreamHandler } from './types.js';

export class StreamRelay implements InferHandler, InferStreamHandler, GenerateCall {
  readonly #handler: InferStreamHandler;
  #cancel: Cancel | undefined;
  #stream: GenerateCall | undefined;

  constructor(handler: InferStreamHandler) {
    this.#handler = handler;
  }

  /** What a cancel of the caller's reaches, and the stream where there is one. */
  follow(cancel: Cancel, stream?: GenerateCall): void {
    this.#cancel = cancel;
    if (stream) this.#stream = stream;
  }

  onResponse(response: InferResponse, final = true): void {
    this.#handler.onResponse(response, final);
  }

  onError(error: ServeError): void {
    this.#handler.onError(error);
  }

  cancel(): void {
    this.#cancel?.();
  }

  taken(deltas: number): void {
    this.#stream?.taken(deltas);
  }
}
