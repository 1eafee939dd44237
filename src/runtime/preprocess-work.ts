/**
 * One request on its way through the preprocess pool: what was asked, who is told, and what is handed to the thread.
 *
 * Called by `runtime/preprocess-pool.ts`. Owns the one copy of the bytes. Knows no thread.
 */
import { copyBytes } from '../base/copy-bytes.js';
import { ServeError } from '../base/errors.js';
import type { Failure } from './messages.js';
import type { ContentElements, Prepared, PreprocessReply, PreprocessTask } from './preprocess-messages.js';
import type { Waiting } from './preprocess-queue.js';

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

/** Text of more bytes takes some 10 ms and longer. */
const LIGHT_BYTES = 4096;

export class PreprocessWork implements Waiting {
  readonly number: number;
  readonly request: PreprocessRequest;
  /** Undefined once it was cancelled or answered. */
  handler: PreprocessHandler | undefined;
  readonly bytes: number;
  readonly heavy: boolean;
  queued = false;
  before: Waiting | undefined = undefined;
  after: Waiting | undefined = undefined;

  constructor(number: number, request: PreprocessRequest, handler: PreprocessHandler) {
    let bytes = 0;
    let picture = false;
    for (const { kind, data } of request.contents) {
      bytes += data.byteLength;
      picture ||= kind === 'image';
    }
    this.number = number;
    this.request = request;
    this.handler = handler;
    this.bytes = bytes;
    this.heavy = picture || bytes > LIGHT_BYTES;
  }
}

/** The message for `batch`, whose bytes are copied into `memory`, which is to be moved with it. */
export function handOver(batch: readonly PreprocessWork[]): { message: PreprocessTask[]; memory: ArrayBuffer } {
  let bytes = 0;
  for (const work of batch) bytes += work.bytes;
  // Memory of its own, so that it can be moved, and not cleared first.
  const memory = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  const message = batch.map(({ number, request: { processor, contents, truncate } }) => ({
    task: number,
    processor,
    contents: contents.map(({ kind, count, data }) => {
      const start = at;
      at = copyBytes(memory, data, at);
      return { kind, count, data: new Uint8Array(memory.buffer, start, data.byteLength) };
    }),
    truncate,
  }));
  return { message, memory: memory.buffer };
}

/** Tells the handler, unless the request was cancelled. */
export function answer(work: PreprocessWork, reply: PreprocessReply): void {
  const { handler } = work;
  work.handler = undefined;
  if (reply.ok) handler?.onPrepared(reply.prepared);
  else handler?.onError(errorOf(reply.failure));
}

/** As `answer`. */
export function fail(work: PreprocessWork, error: ServeError): void {
  const { handler } = work;
  work.handler = undefined;
  handler?.onError(error);
}

export const errorOf = ({ code, message }: Failure): ServeError => new ServeError(code, message);

export const stopping = (): ServeError => new ServeError('UNAVAILABLE', 'server is stopping');

export const tooLate = (): ServeError =>
  new ServeError('DEADLINE_EXCEEDED', 'Deadline Exceeded while the request waited to be preprocessed');
