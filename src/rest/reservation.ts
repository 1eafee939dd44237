/**
 * One request's share of the budget of bytes in flight.
 *
 * Created per infer request; grows as its body does, shrinks when the body has become something smaller, and is freed when the reply
 * is out or the connection gone. Freeing twice is harmless, so that every way out may do it.
 */
import { ServeError } from '../base/errors.js';
import type { ByteBudget } from '../engine/types.js';

export class Reservation {
  private readonly budget: ByteBudget;
  private bytes = 0;
  private freed = false;

  constructor(budget: ByteBudget) {
    this.budget = budget;
  }

  /** Bytes that it holds; after the end those that it held. */
  get held(): number {
    return this.bytes;
  }

  /** Holds `bytes` in all from now on; throws RESOURCE_EXHAUSTED, and holds what it held, when the budget is spent. */
  resize(bytes: number): void {
    if (!this.tryResize(bytes)) {
      throw new ServeError('RESOURCE_EXHAUSTED', `too many bytes of requests in flight to accept ${bytes} more`);
    }
  }

  /** As {@link resize}, but tells whether it worked. */
  tryResize(bytes: number): boolean {
    if (this.freed) return true;
    const more = bytes - this.bytes;
    if (more > 0 && !this.budget.reserve(more)) return false;
    if (more < 0) this.budget.release(-more);
    this.bytes = bytes;
    return true;
  }

  /** Gives everything back. Idempotent. */
  free(): void {
    if (this.freed) return;
    this.freed = true;
    if (this.bytes > 0) this.budget.release(this.bytes);
  }
}
