/**
 * Decides which batch runs where: takes from the models' queues, leases shared memory, keeps each worker busy, hands out results.
 *
 *   enqueue ─▶ queue ─▶ propose (batcher) ─▶ plan + lease + gather ─▶ worker ─▶ scatter ─▶ handler ─▶ lease free
 *
 * A worker holds at most two batches: one running and one behind it, and the second only if it can't become better by waiting.
 * Models take turns at a worker, batch by batch, so that a busy one can't starve another.
 *
 * Called by the engine's door and, through the pool's callbacks, by results. Owns entries from admission to reply, in-flight
 * counts and timers. Must not know protobuf, HTTP, piscina or ONNX Runtime.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { RunReply } from '../runtime/messages.js';
import type { SlabPool } from '../runtime/slab-pool.js';
import { Answers } from './answers.js';
import { Asides } from './asides.js';
import { type Batch, type BatchResult, fitted, gather, planFor, resultOf } from './batch.js';
import type { Entry } from './entry.js';
import { InOrder } from './in-order.js';
import { isTooLate, latenessError } from './lateness.js';
import type { Model } from './model.js';
import { Alarms, startExpiry, stopExpiry } from './timers.js';
import { WorkerSlots } from './worker-slots.js';

export interface SchedulerOptions {
  readonly slabs: SlabPool;
  readonly workerCount: number;
  /** Sends a run message to a worker; its result must come back to {@link Scheduler.onResult}. */
  readonly run: (worker: number, message: number[]) => void;
  readonly log: Log;
}

export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #slots: WorkerSlots;
  /** Models with something queued, the one whose turn is next first. */
  readonly #ring = new Set<Model>();
  readonly #alarms = new Alarms();
  readonly #order = new InOrder();
  readonly #answers: Answers;
  readonly #asides: Asides;
  /** Numbers begin with 1: 0 stands for none. */
  #nextBatch = 1;
  #draining = false;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#answers = new Answers(options.log);
    this.#slots = new WorkerSlots(options.workerCount);
    this.#asides = new Asides({
      slabs: options.slabs,
      send: (batch) => this.#send({ ...batch, id: this.#nextBatch++ }),
      refuse: (model, entry) => this.#refuseTooLarge(model, entry),
    });
  }

  /** Admitted requests that are not yet answered. */
  get inFlight(): number {
    return this.#answers.inFlight;
  }

  /** Requests of `model` are queued or running. */
  isBusy(model: Model): boolean {
    return model.queue.count > 0 || this.#slots.has(model);
  }

  /** Takes a validated entry; throws UNAVAILABLE when the queue is full, DEADLINE_EXCEEDED when it can't be met any more. */
  enqueue(model: Model, entry: Entry): void {
    const now = entry.request.timeline.queued;
    if (isTooLate(model, entry, now)) throw latenessError(model, entry, now);
    model.queue.push(entry, model.name);
    this.#answers.expect();
    startExpiry(entry, () => this.#onExpiry(model, entry));
    this.#ring.add(model);
    this.#pump(model);
  }

  /** Runs `entry` alone on `worker`, past the queue and uncounted: a warm-up. Its handler is told how it went. */
  runAside(model: Model, worker: number, entry: Entry): void {
    this.#answers.expect();
    this.#asides.add(model, worker, entry);
  }

  /** The caller has gone. Queued: out before any work; running: finishes unheard. */
  cancel(model: Model, entry: Entry): void {
    if (entry.state === 'queued') {
      this.#leaveQueue(model, entry);
      this.#answers.drop(entry);
      model.statistics.failed('CANCELED', nowMs() - entry.request.timeline.queued);
      this.#pump(model);
    } else if (entry.state === 'running') {
      entry.state = 'cancelled';
      model.statistics.failed('CANCELED', nowMs() - entry.request.timeline.queued);
    }
  }

  /** A batch ended on `worker`. */
  onResult(worker: number, answer: number[] | RunReply): void {
    const batch = this.#slots.shift(worker, Array.isArray(answer) ? answer[0]! : answer.batch);
    if (!Array.isArray(answer) && answer.failure) {
      this.#failed(batch, answer);
    } else {
      const result = resultOf(answer);
      // The worker gets its next batch first: it must not wait while replies are encoded.
      this.#refill(worker);
      this.#order.finish(batch, () => this.#finish(batch, result));
    }
    this.#refill(worker);
  }

  /** The worker's thread died: what ran there is lost, the rest goes on. */
  onLost(worker: number): void {
    const lost = this.#slots.clear(worker);
    for (const batch of lost) {
      this.#release(batch);
      this.#order.finish(batch, () => {
        for (const entry of batch.entries) {
          this.#answers.fail(
            batch.model,
            entry,
            new ServeError('UNAVAILABLE', 'inference worker was lost while it ran this request'),
            'BACKEND',
          );
        }
      });
    }
    this.#pumpAll();
  }

  /** More workers have sessions of `model`. */
  onWorkersChanged(model: Model): void {
    this.#pump(model);
  }

  /** Resolves once nothing is in flight; nothing new will come, so nothing waits for company any more. */
  drained(): Promise<void> {
    this.#draining = true;
    this.#pumpAll();
    return this.#answers.drained();
  }

  /** Refuses what is still queued, of one model or of all; running batches finish. */
  rejectQueued(error: ServeError, only?: Model): void {
    for (const model of only ? [only] : [...this.#ring]) {
      for (const entry of model.queue.entries()) this.#refuse(model, entry, error);
      this.#ring.delete(model);
    }
  }

  /** Sends batches of `model` while a worker can take one and the batcher says go. */
  #pump(model: Model): void {
    for (;;) {
      const worker = this.#slots.leastBusy(model, this.#maySendBehind);
      if (worker < 0 || !this.#tryDispatch(model, worker)) return;
    }
  }

  /** Lets every model that waits send one batch in turn, until none can. */
  #pumpAll(): void {
    for (let sent = true; sent; ) {
      sent = false;
      for (const model of [...this.#ring]) {
        const worker = this.#slots.leastBusy(model, this.#maySendBehind);
        if (worker >= 0 && this.#tryDispatch(model, worker)) sent = true;
      }
    }
  }

  /** Gives `worker` work from the models that wait, in turn. */
  #refill(worker: number): void {
    for (const model of [...this.#ring]) {
      if (this.#slots.isOpen(worker, model, this.#maySendBehind)) this.#tryDispatch(model, worker);
    }
  }

  /** A batch may be prepared behind a running one only while no other model waits for that worker: its turn comes first. */
  readonly #maySendBehind = (worker: number, model: Model): boolean => {
    for (const other of this.#ring) if (other !== model && other.workers.has(worker)) return false;
    return true;
  };

  /** One batch of `model` to `worker`, if its queue and the batcher have one. */
  #tryDispatch(model: Model, worker: number): boolean {
    const now = nowMs();
    const fullOnly = !this.#slots.isIdle(worker);
    const policy = this.#draining ? { ...model.policy, maxQueueDelayMs: 0 } : model.policy;
    const proposal = model.queue.propose(now, policy, model.computeTimes, fullOnly);
    if (proposal.kind === 'idle') {
      if (model.queue.count === 0) this.#ring.delete(model);
      return false;
    }
    if (proposal.kind === 'wait') {
      this.#alarms.set(model, proposal.untilMs, () => this.#pump(model));
      return false;
    }
    const late = proposal.entries.filter((entry) => isTooLate(model, entry, now));
    if (late.length > 0) {
      for (const entry of late) this.#expire(model, entry);
      // Who was told may have cancelled others, for which the worker was given something.
      return this.#slots.isOpen(worker, model, this.#maySendBehind) && this.#tryDispatch(model, worker);
    }
    return this.#dispatch(model, worker, proposal.entries, now);
  }

  #dispatch(model: Model, worker: number, proposed: readonly Entry[], now: number): boolean {
    const { entries, plan } = fitted(model, proposed, this.#options.slabs);
    if (!this.#options.slabs.fits(plan.totalBytes)) {
      this.#refuseTooLarge(model, entries[0]!);
      return true;
    }
    const lease = this.#options.slabs.acquire(plan.totalBytes);
    if (!lease) return false; // asked again when a lease comes back
    model.queue.take(entries);
    for (const entry of entries) {
      stopExpiry(entry);
      entry.state = 'running';
      entry.request.timeline.dispatched = now;
    }
    // Its turn is over: to the end of the ring, or out of it.
    this.#ring.delete(model);
    if (model.queue.count > 0) this.#ring.add(model);
    const { rows } = plan;
    const batch: Batch = { id: this.#nextBatch++, model, entries, rows, plan, lease, worker, aside: false };
    gather(model, plan, entries, lease);
    if (model.config.dynamicBatching?.preserveOrdering) this.#order.expect(batch);
    this.#send(batch);
    return true;
  }

  #refuseTooLarge(model: Model, entry: Entry): void {
    this.#leaveQueue(model, entry);
    const message = `tensors of this request for model '${model.name}' do not fit into the shared memory pool; raise --shared-memory-pool-byte-size`;
    this.#answers.fail(model, entry, new ServeError('RESOURCE_EXHAUSTED', message), 'REJECTED');
  }

  #send(batch: Batch): void {
    const message = batch.plan.message.slice();
    message[0] = batch.id;
    message[2] = batch.lease.slab;
    this.#slots.push(batch);
    this.#options.run(batch.worker, message);
  }

  #release({ lease }: Batch): void {
    this.#options.slabs.release(lease);
    this.#asides.retry();
  }

  /** Success: the replies are made while the lease is held, then it is free. */
  #finish(batch: Batch, result: BatchResult): void {
    this.#answers.deliver(batch, result);
    this.#release(batch);
    this.#pumpAll();
  }

  #failed(batch: Batch, reply: RunReply): void {
    const { model, entries } = batch;
    if (reply.shapeSurprise && !model.outputsUnpredictable) {
      this.#options.log.warn(
        { model: model.name, version: model.version },
        'outputs do not have the shapes the model declares; they are no longer preallocated',
      );
      model.outputsUnpredictable = true;
      model.plans.clear();
    }
    if (reply.shapeSurprise && batch.plan.outputs.some(({ offset }) => offset >= 0)) {
      // The inputs still lie in the lease, at offsets that do not depend on the outputs.
      this.#send({ ...batch, plan: planFor(model, entries) });
      return;
    }
    this.#release(batch);
    this.#refill(batch.worker);
    this.#order.finish(batch, () => {
      const { code, message } = reply.failure!;
      for (const entry of entries) {
        if (entry.state === 'cancelled') {
          this.#answers.drop(entry);
        } else if (entries.length > 1) {
          // One of them is to blame and it isn't known which: each runs again, alone.
          entry.alone = true;
          entry.state = 'queued';
          model.queue.pushAlone(entry);
          this.#ring.add(model);
        } else {
          this.#answers.fail(model, entry, new ServeError(code, `model '${model.name}': ${message}`), 'BACKEND');
        }
      }
      this.#pumpAll();
    });
  }

  /** Refuses an entry that waited too long, before any work is done for it. */
  #expire(model: Model, entry: Entry): void {
    if (entry.state === 'queued') this.#refuse(model, entry, latenessError(model, entry, nowMs()));
  }

  /** Refuses an entry if it is queued still: who was told of another may have cancelled it, or made room for it at a worker. */
  #refuse(model: Model, entry: Entry, error: ServeError): void {
    if (entry.state !== 'queued') return;
    this.#leaveQueue(model, entry);
    this.#answers.fail(model, entry, error, 'REJECTED');
  }

  #onExpiry(model: Model, entry: Entry): void {
    if (entry.timeoutAction === 'REJECT') this.#expire(model, entry);
    else model.queue.delay(entry);
    this.#pump(model);
  }

  #leaveQueue(model: Model, entry: Entry): void {
    model.queue.remove(entry);
    stopExpiry(entry);
  }
}
