/**
 * Bytes of requests being worked on, over all connections and both protocols: one number and its bound.
 *
 * Called by the front ends through `ByteBudget` of engine/types.ts: reserved before a body is kept, released with the reply.
 */
import assert from 'node:assert';

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
    if (this.#reserved + bytes > this.maxBytes && this.#reserved > 0) return false;
    this.#reserved += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#reserved -= bytes;
    assert(this.#reserved >= 0, `more bytes released than reserved (${this.#reserved})`);
  }
}
