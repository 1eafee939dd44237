/**
 * Counts on the byte budget what has arrived on a stream that is not being read.
 *
 * Made by `message-reader.ts` for its stream. Node goes on buffering what a paused stream receives, up to its window of several
 * megabytes: times the streams of a connection that would be memory without a bound. Must not read anything.
 */
import { Duplex } from 'node:stream';
import type { GatedCall } from './gated-call.js';

export class WaitingBytes {
  readonly #call: GatedCall;
  #bytes = 0;

  constructor(call: GatedCall) {
    this.#call = call;
    const { stream } = call;
    stream.push = (chunk: Buffer | null): boolean => {
      if (chunk !== null && stream.isPaused() && !this.add(chunk.length)) return true;
      return Duplex.prototype.push.call(stream, chunk);
    };
  }

  /** `bytes` more wait; false when there is no room for them, and the call has been refused. */
  add(bytes: number): boolean {
    const call = this.#call;
    if (call.done) return true;
    if (!call.reserve(bytes)) {
      call.refuse(
        'RESOURCE_EXHAUSTED',
        `${bytes} more bytes of waiting messages would pass the limit of bytes in flight`,
      );
      return false;
    }
    this.#bytes += bytes;
    return true;
  }

  /** `bytes` are read now; what never waited does not count. */
  take(bytes: number): void {
    const waited = Math.min(bytes, this.#bytes);
    this.#bytes -= waited;
    this.#call.releaseBytes(waited);
  }
}
