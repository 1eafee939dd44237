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
import assert from 'node:assert';
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { RunReply } from '../runtime/messages.js';
import type { SlabPool } from '../runtime/slab-pool.js';
import { type Batch, type BatchResult, gather, planFor, scatter } from './batch.js';
import type { Entry } from './entry.js';
import type { Model } from './model.js';
import type { InferOutput } from './types.js';

export interface SchedulerOptions {
  readonly slabs: SlabPool;
  readonly workerCount: number;
  /** Sends a run message to a worker; its result must come back to {@link Scheduler.onResult}. */
  readonly run: (worker: number, message: number[]) => void;
  readonly log: Log;
}

/** Running plus prepared. */
const MAX_BATCHES_PER_WORKER = 2;

export class Scheduler {
  readonly #options: SchedulerOptions;
  /** Batches at each worker in the order they were sent, which is the order their results come in. */
  readonly #running: Batch[][];
  /** Models with something queued, the one whose turn is next first. */
  readonly #ring = new Set<Model>();
  /** Models that wait for a delay to pass. */
  readonly #wakeups = new Map<Model, { timer: NodeJS.Timeout; atMs: number }>();
  /** Batches of models with `preserve_ordering` that are not answered yet, in order; a result waits for those before it. */
  readonly #ordered = new Map<Model, { batch: Batch; finish?: () => void }[]>();
  readonly #idleListeners: (() => void)[] = [];
  #nextBatch = 0;
  #inFlight = 0;

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#running = Array.from({ length: options.workerCount }, () => []);
  }

  /** Admitted requests that are not yet answered. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Takes a validated entry; throws UNAVAILABLE when the queue is full, DEADLINE_EXCEEDED when it can't be met any more. */
  enqueue(model: Model, entry: Entry): void {
    const now = entry.request.timeline.queued;
    if (entry.request.deadlineMs - now < model.computeTimes.fastestMs) {
      throw new ServeError(
        'DEADLINE_EXCEEDED',
        `deadline of the request leaves less time than model '${model.name}' has ever taken (${model.computeTimes.fastestMs.toFixed(3)} ms)`,
      );
    }
    if (!this.#options.slabs.fits(planFor(model, [entry]).totalBytes)) {
      throw new ServeError(
        'RESOURCE_EXHAUSTED',
        `tensors of this request for model '${model.name}' do not fit into the shared memory pool; raise --shared-memory-pool-byte-size`,
      );
    }
    model.queue.push(entry, model.name);
    this.#inFlight++;
    if (entry.expiresMs < Number.POSITIVE_INFINITY) this.#watchExpiry(model, entry);
    this.#ring.add(model);
    this.#pump(model);
  }

  /**
   * Runs `entry` alone on `worker`, past the queue and uncounted: a warm-up. Its handler is told how it went. Throws
   * RESOURCE_EXHAUSTED when there is no shared memory for it.
   */
  runAside(model: Model, worker: number, entry: Entry): void {
    const plan = planFor(model, [entry]);
    const lease = this.#options.slabs.acquire(plan.totalBytes);
    if (!lease) throw new ServeError('RESOURCE_EXHAUSTED', `no shared memory for a warm-up of model '${model.name}'`);
    this.#inFlight++;
    entry.state = 'running';
    gather(plan, [entry], lease);
    this.#send({ id: this.#nextBatch++, model, entries: [entry], rows: entry.rows, plan, lease, worker, aside: true });
  }

  /** The caller has gone. Queued: out before any work; running: finishes unheard. */
  cancel(model: Model, entry: Entry): void {
    if (entry.state === 'queued') {
      this.#leaveQueue(model, entry);
      this.#settle(entry, 'cancelled');
      model.statistics.failed('CANCELED', nowMs() - entry.request.timeline.queued);
      this.#pump(model);
    } else if (entry.state === 'running') {
      entry.state = 'cancelled';
      model.statistics.failed('CANCELED', nowMs() - entry.request.timeline.queued);
    }
  }

  /** A batch ended on `worker`. */
  onResult(worker: number, answer: number[] | RunReply): void {
    const batch = this.#running[worker]!.shift();
    const id = Array.isArray(answer) ? answer[0] : answer.batch;
    assert(batch !== undefined && batch.id === id, `result of batch ${id} from worker ${worker} was not expected`);
    if (!Array.isArray(answer) && answer.failure) {
      this.#failed(batch, answer);
    } else {
      const result: BatchResult = Array.isArray(answer)
        ? { computeStart: answer[1]!, computeEnd: answer[2]!, owned: NONE_OWNED }
        : {
            computeStart: answer.computeStart,
            computeEnd: answer.computeEnd,
            owned: new Map(answer.outputs.map((output) => [output.index, output])),
          };
      // The worker gets its next batch first: it must not wait while replies are encoded.
      this.#refill(worker);
      this.#inOrder(batch, () => this.#finish(batch, result));
    }
    this.#refill(worker);
  }

  /** The worker's thread died: what ran there is lost, the rest goes on. */
  onLost(worker: number): void {
    const lost = this.#running[worker]!.splice(0);
    for (const batch of lost) {
      this.#options.slabs.release(batch.lease);
      this.#inOrder(batch, () => {
        for (const entry of batch.entries) {
          this.#fail(
            batch.model,
            entry,
            new ServeError('UNAVAILABLE', 'inference worker was lost while it ran this request'),
          );
        }
      });
    }
    this.#pumpAll();
  }

  /** Sessions of `model` have come to more workers. */
  onWorkersChanged(model: Model): void {
    this.#pump(model);
  }

  /** Resolves once nothing is in flight. */
  drained(): Promise<void> {
    if (this.#inFlight === 0 && this.#running.every((batches) => batches.length === 0)) return Promise.resolve();
    return new Promise((resolve) => this.#idleListeners.push(resolve));
  }

  /** Refuses what is still queued; running batches finish. */
  rejectQueued(error: ServeError): void {
    for (const model of [...this.#ring]) {
      for (const entry of model.queue.entries()) {
        this.#leaveQueue(model, entry);
        this.#fail(model, entry, error);
      }
      this.#ring.delete(model);
    }
  }

  /** Sends batches of `model` while a worker can take one and the batcher says go. */
  #pump(model: Model): void {
    for (;;) {
      const worker = this.#leastBusy(model);
      if (worker < 0 || !this.#tryDispatch(model, worker)) return;
    }
  }

  #pumpAll(): void {
    for (const model of [...this.#ring]) this.#pump(model);
  }

  /** Gives `worker` work from the models that wait, in turn. */
  #refill(worker: number): void {
    for (const model of [...this.#ring]) {
      if (this.#running[worker]!.length >= MAX_BATCHES_PER_WORKER) return;
      if (model.workers.has(worker) && this.#tryDispatch(model, worker) && this.#ring.has(model)) {
        // Its turn is over: to the end of the ring.
        this.#ring.delete(model);
        this.#ring.add(model);
      }
    }
  }

  #leastBusy(model: Model): number {
    let best = -1;
    let least = MAX_BATCHES_PER_WORKER;
    for (const worker of model.workers) {
      const load = this.#running[worker]!.length;
      if (load < least) {
        best = worker;
        least = load;
        if (load === 0) break;
      }
    }
    return best;
  }

  /** One batch of `model` to `worker`, if its queue and the batcher have one. */
  #tryDispatch(model: Model, worker: number): boolean {
    const now = nowMs();
    const fullOnly = this.#running[worker]!.length > 0;
    const proposal = model.queue.propose(now, model.policy, (rows) => model.computeTimes.estimateMs(rows), fullOnly);
    if (proposal.kind === 'idle') {
      if (model.queue.count === 0) this.#ring.delete(model);
      return false;
    }
    if (proposal.kind === 'wait') {
      this.#wakeAt(model, proposal.untilMs);
      return false;
    }
    const late = proposal.entries.filter((entry) => this.#tooLate(model, entry, now));
    if (late.length > 0) {
      for (const entry of late) this.#expire(model, entry);
      return this.#tryDispatch(model, worker);
    }
    return this.#dispatch(model, worker, proposal.entries, now);
  }

  #dispatch(model: Model, worker: number, proposed: readonly Entry[], now: number): boolean {
    let entries = proposed;
    let plan = planFor(model, entries);
    // Together they may not fit into the pool although each alone does.
    while (entries.length > 1 && !this.#options.slabs.fits(plan.totalBytes)) {
      entries = entries.slice(0, entries.length >> 1);
      plan = planFor(model, entries);
    }
    const lease = this.#options.slabs.acquire(plan.totalBytes);
    if (!lease) return false; // asked again when a lease comes back (#finish)
    let rows = 0;
    for (const entry of entries) {
      this.#leaveQueue(model, entry);
      entry.state = 'running';
      entry.request.timeline.dispatched = now;
      rows += entry.rows;
    }
    if (model.queue.count === 0) this.#ring.delete(model);
    const batch: Batch = { id: this.#nextBatch++, model, entries, rows, plan, lease, worker, aside: false };
    gather(plan, entries, lease);
    if (model.config.dynamicBatching?.preserveOrdering) this.#expectInOrder(batch);
    this.#send(batch);
    return true;
  }

  #send(batch: Batch): void {
    const message = batch.plan.message.slice();
    message[0] = batch.id;
    message[2] = batch.lease.slab;
    this.#running[batch.worker]!.push(batch);
    this.#options.run(batch.worker, message);
  }

  /** Success: every entry gets its part while the lease is held. */
  #finish(batch: Batch, result: BatchResult): void {
    const { model, entries, rows, lease } = batch;
    let parts: InferOutput[][];
    try {
      parts = scatter(batch, result);
    } catch (error) {
      this.#options.slabs.release(lease);
      for (const entry of entries) this.#fail(model, entry, ServeError.from(error));
      this.#pumpAll();
      return;
    }
    const dispatched = entries[0]!.request.timeline.dispatched;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]!;
      const { request } = entry;
      const { timeline } = request;
      timeline.computeStart = result.computeStart;
      timeline.computeEnd = result.computeEnd;
      timeline.batchSize = rows;
      timeline.scattered = nowMs();
      if (entry.state === 'cancelled') {
        this.#settle(entry, 'cancelled');
        continue;
      }
      this.#settle(entry, 'done');
      try {
        entry.handler.onResponse({
          modelName: model.name,
          modelVersion: model.version,
          id: request.id,
          outputs: parts[i]!,
        });
      } catch (error) {
        this.#options.log.error({ error }, 'a front end threw while it took a response');
      }
      if (!batch.aside) model.statistics.succeeded(entry.rows, timeline, nowMs());
    }
    this.#options.slabs.release(lease);
    if (batch.aside) {
      this.#pumpAll();
      return;
    }
    const computeMs = result.computeEnd - result.computeStart;
    model.computeTimes.observe(rows, computeMs);
    model.statistics.executed(rows, result.computeStart - dispatched, computeMs, nowMs() - result.computeEnd);
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
    this.#options.slabs.release(batch.lease);
    this.#inOrder(batch, () => {
      const { code, message } = reply.failure!;
      for (const entry of entries) {
        if (entry.state === 'cancelled') {
          this.#settle(entry, 'cancelled');
        } else if (entries.length > 1) {
          // One of them is to blame and it isn't known which: each runs again, alone.
          entry.alone = true;
          entry.state = 'queued';
          model.queue.pushAlone(entry);
          this.#ring.add(model);
        } else {
          this.#fail(model, entry, new ServeError(code, `model '${model.name}': ${message}`), 'BACKEND');
        }
      }
      this.#pumpAll();
    });
  }

  #fail(model: Model, entry: Entry, error: ServeError, reason: 'REJECTED' | 'BACKEND' | 'OTHER' = 'OTHER'): void {
    const cancelled = entry.state === 'cancelled';
    this.#settle(entry, cancelled ? 'cancelled' : 'done');
    if (cancelled) return;
    model.statistics.failed(reason, nowMs() - entry.request.timeline.queued);
    try {
      entry.handler.onError(error);
    } catch (thrown) {
      this.#options.log.error({ error: thrown }, 'a front end threw while it took an error');
    }
  }

  #tooLate(model: Model, entry: Entry, now: number): boolean {
    const { deadlineMs } = entry.request;
    return (
      deadlineMs - now < model.computeTimes.fastestMs || (entry.timeoutAction === 'REJECT' && entry.expiresMs <= now)
    );
  }

  /** Refuses an entry that waited too long, before any work is done for it. */
  #expire(model: Model, entry: Entry): void {
    const queueTimeout = entry.expiresMs <= entry.request.deadlineMs;
    this.#leaveQueue(model, entry);
    const error = queueTimeout
      ? new ServeError('UNAVAILABLE', 'Request timeout expired')
      : new ServeError('DEADLINE_EXCEEDED', `deadline expired while the request was queued for model '${model.name}'`);
    this.#fail(model, entry, error, 'REJECTED');
  }

  #watchExpiry(model: Model, entry: Entry): void {
    const delayMs = Math.max(0, entry.expiresMs - nowMs());
    // setTimeout counts whole milliseconds and overflows past 2^31 of them.
    if (delayMs > 2 ** 31 - 1 || entry.state !== 'queued') return;
    entry.timer = setTimeout(() => {
      entry.timer = undefined;
      if (entry.timeoutAction === 'REJECT') this.#expire(model, entry);
      else model.queue.delay(entry);
      this.#pump(model);
    }, Math.ceil(delayMs));
  }

  #wakeAt(model: Model, atMs: number): void {
    const current = this.#wakeups.get(model);
    if (current && current.atMs <= atMs) return;
    if (current) clearTimeout(current.timer);
    const timer = setTimeout(
      () => {
        this.#wakeups.delete(model);
        this.#pump(model);
      },
      Math.max(0, Math.ceil(atMs - nowMs())),
    );
    this.#wakeups.set(model, { timer, atMs });
  }

  #leaveQueue(model: Model, entry: Entry): void {
    model.queue.remove(entry);
    if (entry.timer) clearTimeout(entry.timer);
    entry.timer = undefined;
  }

  #settle(entry: Entry, state: 'done' | 'cancelled'): void {
    entry.state = state;
    this.#inFlight--;
    if (this.#inFlight > 0) return;
    // After the current turn, when the batch that settled the last one has given back its lease.
    queueMicrotask(() => {
      if (this.#inFlight === 0) for (const resolve of this.#idleListeners.splice(0)) resolve();
    });
  }

  #expectInOrder(batch: Batch): void {
    const list = this.#ordered.get(batch.model);
    if (list) list.push({ batch });
    else this.#ordered.set(batch.model, [{ batch }]);
  }

  /** Runs `finish` now, or for a model with `preserve_ordering` when all its earlier batches have finished. */
  #inOrder(batch: Batch, finish: () => void): void {
    const list = this.#ordered.get(batch.model);
    const own = list?.find((item) => item.batch.id === batch.id);
    if (!list || !own) {
      finish();
      return;
    }
    own.finish = finish;
    while (list[0]?.finish) list.shift()!.finish!();
    if (list.length === 0) this.#ordered.delete(batch.model);
  }
}

const NONE_OWNED: BatchResult['owned'] = new Map();
