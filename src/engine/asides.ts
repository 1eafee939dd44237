/**
 * Requests that are run on a given worker, past the queue and uncounted: warm-ups. They wait for shared memory like everybody else.
 *
 * Called by the scheduler. Owns those that wait.
 */
import type { SlabPool } from '../runtime/slab-pool.js';
import { type Batch, gather, planFor } from './batch.js';
import type { Entry } from './entry.js';
import type { Model } from './model.js';

export interface AsidesOptions {
  readonly slabs: SlabPool;
  /** Sends the batch to its worker, under a number of its own. */
  readonly send: (batch: Omit<Batch, 'id'>) => void;
  /** Its tensors never fit. */
  readonly refuse: (model: Model, entry: Entry) => void;
}

export class Asides {
  readonly #options: AsidesOptions;
  readonly #waiting: { readonly model: Model; readonly worker: number; readonly entry: Entry }[] = [];

  constructor(options: AsidesOptions) {
    this.#options = options;
  }

  add(model: Model, worker: number, entry: Entry): void {
    this.#waiting.push({ model, worker, entry });
    this.retry();
  }

  /** Shared memory has come back: sends what fits now, in order. */
  retry(): void {
    const { slabs, send, refuse } = this.#options;
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      const { model, worker, entry } = next;
      const plan = planFor(model, [entry]);
      const lease = slabs.acquire(plan.totalBytes);
      if (!lease && slabs.fits(plan.totalBytes)) return;
      this.#waiting.shift();
      if (!lease) {
        refuse(model, entry);
        continue;
      }
      entry.state = 'running';
      gather(model, plan, [entry], lease);
      send({ model, entries: [entry], rows: entry.rows, plan, lease, worker, aside: true });
    }
  }
}
