/**
 * Bytes of requests being worked on, over all connections and both protocols: one number and its bound.
 *
 * Called by the front ends through `ByteBudget` of engine/types.ts: reserved before a body is kept, released with the reply.
 */
import assert from 'node:assert';

/**
 * Reservations up to this size may use all of the bound, larger ones must leave a share of it: a few large bodies, or a hostile
 * client's, would otherwise have every small request refused while they are read.
 */
const SMALL_BYTES = 65_536;
const SHARE_FOR_SMALL = 1 / 16;

export class BoundedBytes {
  readonly maxBytes: number;
  #reserved = 0;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  get reservedBytes(): number {
    return this.#reserved;
  }

  /** False when `bytes` more would pass the bound; nothing is reserved then. A single request may always be tried when idle. */
  reserve(bytes: number): boolean {
    const bound = bytes > SMALL_BYTES ? this.maxBytes * (1 - SHARE_FOR_SMALL) : this.maxBytes;
    if (this.#reserved + bytes > bound && this.#reserved > 0) return false;
    this.#reserved += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#reserved -= bytes;
    assert(this.#reserved >= 0, `more bytes released than reserved (${this.#reserved})`);
  }
}
