/**
 * The pool of preprocess workers: texts become token tensors and pictures become pixel tensors, off the main thread.
 *
 * Called by the engine. Owns its threads and the bound on what waits for them. Must not know a client, a model or a protocol.
 */
import { ServeError } from '../base/errors.js';
import type { ContentElements, Prepared, ProcessorSpec } from './preprocess-messages.js';

export interface PreprocessPoolOptions {
  /** Threads. */
  readonly size: number;
  /** Compiled `workers/preprocess-worker.js`. */
  readonly workerFile: string;
  /** Requests that may wait for a thread. */
  readonly maxTasks?: number;
  /** Bytes of those requests, together. */
  readonly maxBytes?: number;
}

export interface PreprocessRequest {
  /** As `register` gave it. */
  readonly processor: number;
  /** Valid until the handler or the cancel is called; may be views on a larger message. */
  readonly contents: readonly ContentElements[];
  /** False: text of more tokens than the model takes is an error. */
  readonly truncate: boolean;
  /** On the clock of base/clock.ts; Infinity where there is none. */
  readonly deadlineMs: number;
}

/** Exactly one of the two is called, once, unless the request was cancelled first; then neither is. Neither may throw. */
export interface PreprocessHandler {
  onPrepared(prepared: Prepared): void;
  onError(error: ServeError): void;
}

export class PreprocessPool {
  readonly #options: PreprocessPoolOptions;

  constructor(options: PreprocessPoolOptions) {
    this.#options = options;
  }

  /**
   * Makes the processor on every thread; the first call starts them. Gives its number. Rejects with ServeError: INVALID_ARGUMENT
   * names the file and what is wrong with it.
   */
  register(_spec: ProcessorSpec): Promise<number> {
    return Promise.reject(new ServeError('UNIMPLEMENTED', `no thread of ${this.#options.size} prepares anything`));
  }

  unregister(_processor: number): void {}

  /** Never throws; `handler` may be called before this returns. Gives the cancel, which is idempotent. */
  run(_request: PreprocessRequest, handler: PreprocessHandler): () => void {
    handler.onError(new ServeError('UNIMPLEMENTED', 'contents can not be prepared'));
    return () => undefined;
  }

  /** Requests that wait for a thread. */
  get queued(): number {
    return 0;
  }

  /** Refuses what waits and what comes, finishes what runs, and resolves when the threads have ended. */
  async close(): Promise<void> {}
}
