/**
 * What each worker is doing: at most one batch running and one prepared behind it.
 *
 * Called by the scheduler. Owns the lists of batches at the workers, in the order they were sent, which is the order of their results.
 */
import assert from 'node:assert';
import type { Batch } from './batch.js';
import type { Model } from './model.js';

/** Running plus prepared. */
const MAX_BATCHES_PER_WORKER = 2;

/** A batch is prepared behind one that is expected to run this long at most, in milliseconds; the round trip is 0.1 to 0.3. */
const PREPARE_BEHIND_MS = 50;

export class WorkerSlots {
  readonly #batches: Batch[][];

  constructor(workerCount: number) {
    this.#batches = Array.from({ length: workerCount }, () => []);
  }

  push(batch: Batch): void {
    this.#batches[batch.worker]!.push(batch);
  }

  /** Takes out the batch whose result has come; it must be the oldest. */
  shift(worker: number, id: number): Batch {
    const batch = this.#batches[worker]!.shift();
    assert(batch !== undefined && batch.id === id, `result of batch ${id} from worker ${worker} was not expected`);
    return batch;
  }

  /** Takes out everything: the worker is lost. */
  clear(worker: number): Batch[] {
    return this.#batches[worker]!.splice(0);
  }

  /** Whether a batch of `model` is at some worker. */
  has(model: Model): boolean {
    return this.#batches.some((batches) => batches.some((batch) => batch.model === model));
  }

  isIdle(worker: number): boolean {
    return this.#batches[worker]!.length === 0;
  }

  /** Whether a batch of `model` may be sent to `worker` now: it has a session there, and the worker is idle or may prepare one. */
  isOpen(worker: number, model: Model, maySendBehind: MaySendBehind): boolean {
    return model.workers.has(worker) && (this.isIdle(worker) || this.#mayPrepare(worker, model, maySendBehind));
  }

  /** The worker that would start a batch of `model` first, or -1 while none may be sent one. */
  leastBusy(model: Model, maySendBehind: MaySendBehind): number {
    let open = -1;
    for (const worker of model.workers) {
      if (this.isIdle(worker)) return worker;
      if (open < 0 && this.#mayPrepare(worker, model, maySendBehind)) open = worker;
    }
    return open;
  }

  /**
   * Preparing hides the way to the worker and back, which counts only where the running batch is short. A request in a prepared
   * batch has left the queue, and with it the queue's rules: so never where there are such rules.
   */
  #mayPrepare(worker: number, model: Model, maySendBehind: MaySendBehind): boolean {
    const batches = this.#batches[worker]!;
    if (!model.policy.mayPrepare || batches.length >= MAX_BATCHES_PER_WORKER) return false;
    const running = batches[0]!;
    const expectedMs = running.model.computeTimes.estimateMs(running.rows, running.plan.longest);
    return expectedMs > 0 && expectedMs <= PREPARE_BEHIND_MS && maySendBehind(worker, model);
  }
}

/** Whether nobody else waits for `worker`, so that `model` may have its next batch wait there. */
export type MaySendBehind = (worker: number, model: Model) => boolean;
