/**
 * The connections of one port, as plain numbers: how many were opened and closed, and how long they took to become usable.
 *
 * Made by the composition root, counted by the front end that has the port, read at each scrape.
 */
import type { Socket } from 'node:net';
import { BucketCounts } from './bucket-counts.js';

export class ConnectionCounts {
  opened = 0;
  closed = 0;
  /** Milliseconds from accepting a connection to the first it says in its protocol; where that is measured. */
  readonly setupMs: BucketCounts;
  readonly #onClose = (): void => {
    this.closed++;
  };

  /** `setupBounds`: upper bounds of the setup times, ascending. */
  constructor(setupBounds: readonly number[] = []) {
    this.setupMs = new BucketCounts(setupBounds);
  }

  /** Counts a connection that was accepted, and later that it closed. */
  count(socket: Socket): void {
    this.opened++;
    socket.once('close', this.#onClose);
  }

  /** Open now. */
  get active(): number {
    return this.opened - this.closed;
  }
}
