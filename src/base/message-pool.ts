/**
 * Memory for large messages, kept for the next one instead of left to the garbage collector.
 *
 * Called by both front ends for requests and replies; one per server. Why: V8 starts a full collection whenever 64 MB of buffers
 * have come and gone, and each marks the whole heap; at 1 MB a message that was half of all CPU. A buffer given back must have no
 * reader left: it is the next message's at once. One that is never given back is the collector's, as any other.
 */

/** Free memory that a front end keeps by default: what 32 requests of a megabyte and their replies take. */
export const FREE_MESSAGE_BYTES = 64 * 1024 * 1024;

/** Below this the collector is cheaper, and nothing is kept. */
export const SMALLEST_KEPT_BYTES = 16 * 1024;

export class MessagePool {
  readonly #maxFreeBytes: number;
  /** Whole buffers by their length. */
  readonly #free = new Map<number, Buffer<ArrayBuffer>[]>();
  /** The memory that may come back: what was not taken here is never given out. */
  readonly #own = new WeakSet<ArrayBufferLike>();
  #freeBytes = 0;

  /** Keeps at most `maxFreeBytes` that nobody uses. */
  constructor(maxFreeBytes: number) {
    this.#maxFreeBytes = maxFreeBytes;
  }

  /** Memory of unknown content. */
  take(bytes: number): Buffer<ArrayBuffer> {
    if (bytes < SMALLEST_KEPT_BYTES) return Buffer.allocUnsafe(bytes);
    const size = sizeClass(bytes);
    let whole = this.#free.get(size)?.pop();
    if (whole) this.#freeBytes -= size;
    else {
      whole = Buffer.allocUnsafeSlow(size);
      this.#own.add(whole.buffer);
    }
    return whole.subarray(0, bytes);
  }

  /** Gives memory back, once; of other memory nothing happens. */
  give({ buffer }: Uint8Array): void {
    const size = buffer.byteLength;
    // Memory that was moved to another thread is gone from here.
    if (size === 0 || !this.#own.has(buffer) || this.#freeBytes + size > this.#maxFreeBytes) return;
    this.#freeBytes += size;
    const whole = Buffer.from(buffer as ArrayBuffer);
    const list = this.#free.get(size);
    if (list) list.push(whole);
    else this.#free.set(size, [whole]);
  }
}

/** Four classes to a doubling: at most a quarter of a buffer is never asked for. */
function sizeClass(bytes: number): number {
  const quarter = 2 ** Math.floor(Math.log2(bytes)) / 4;
  return Math.ceil(bytes / quarter) * quarter;
}
