/**
 * Which models are in memory: loads them at start or when they are asked for, unloads them when the memory budget needs it.
 *
 *   want ─▶ queue of loads ─▶ room (unload the least recently used idle ones) ─▶ load, measure ─▶ READY, waiters go on
 *
 * Called by the registry. Owns the order of loads and who is unloaded for whom. Under a budget one model loads at a time, since its cost
 * (load-cost.ts) is what the process grows by meanwhile.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import { roomFor } from './memory-budget.js';
import type { Model } from './model.js';
import type { Slot, WaitOptions } from './slot.js';

export interface ResidencyOptions {
  /** Most bytes that loaded models may cost together; 0 = no bound. */
  readonly budgetBytes: number;
  /** Models loaded at the same time, without a budget. */
  readonly concurrency: number;
  /** Requests that may wait for one model to load. */
  readonly maxWaiters: number;
  /** How long a model whose load on demand failed is left alone; doubled with each further failure. */
  readonly retryMs: number;
  readonly load: (slot: Slot) => Promise<Model>;
  /** Frees everything; never rejects. No batch of the model is running. */
  readonly unload: (model: Model) => Promise<void>;
  /** What its sessions will hold at least. Rejects as `load` does. */
  readonly leastBytes: (slot: Slot) => Promise<number>;
  /** It has requests, queued or running or on their way to the queue. */
  readonly isBusy: (model: Model) => boolean;
  /** By how much the process was seen to grow for each session of a loaded model; [] where nobody looked. */
  readonly grownBytes: (model: Model) => readonly number[];
  readonly log: Log;
  /** State or model of the slot is another. */
  readonly onChange: (slot: Slot) => void;
}

const LONGEST_RETRY_MS = 60_000;
/** How often it is looked again whether something has become idle, while a load waits for that. */
const LOOK_AGAIN_MS = 10;
/** How long a load waits for something to become idle: nothing waits without a bound. */
const ROOM_WAIT_MS = 60_000;

export class Residency {
  readonly #options: ResidencyOptions;
  /** Loads that requests wait for, in the order in which they were asked for; before those of the start. */
  readonly #wanted = new Set<Slot>();
  readonly #initial = new Set<Slot>();
  readonly #running = new Set<Slot>();
  /** Of those to be loaded at start, the ones that were not tried yet. */
  readonly #untried = new Set<Slot>();
  /** What is loaded, and its cost under a budget; what is being unloaded counts until it is gone. */
  readonly #bytes = new Map<Slot, number>();
  /** Told after each load. */
  readonly #listeners = new Set<() => void>();
  #stopped = false;

  constructor(options: ResidencyOptions) {
    this.#options = options;
  }

  /** Loads `slots` in their order; resolves when each was tried, left to its first use for want of room, or the server stops. */
  async loadAtStart(slots: readonly Slot[]): Promise<void> {
    if (this.#stopped) return;
    for (const slot of slots) {
      this.#initial.add(slot);
      this.#untried.add(slot);
    }
    this.#pump();
    await this.#until(() => this.#untried.size === 0);
  }

  /** The model once it is loaded; loads it where that is still to be done. Rejects with ServeError. */
  want(slot: Slot, options: WaitOptions): Promise<Model> {
    if (this.#stopped) return Promise.reject(new ServeError('UNAVAILABLE', 'server is shutting down'));
    const waiting = slot.waiters.add(slot.name, options, this.#options.maxWaiters);
    if (slot.waiters.count > 0 && !this.#running.has(slot)) {
      this.#wanted.add(slot);
      this.#pump();
    }
    return waiting;
  }

  /** What the model of `slot` cost; 0 where it was not measured. */
  bytesOf(slot: Slot): number {
    return slot.model ? (this.#bytes.get(slot) ?? 0) : 0;
  }

  /** The model is gone without our doing. */
  forget(slot: Slot): void {
    this.#bytes.delete(slot);
    slot.unloads.lost++;
  }

  /** Loads nothing more for which no request waits. */
  stop(): void {
    this.#stopped = true;
    for (const slot of this.#initial) {
      if (slot.waiters.count > 0) continue;
      this.#initial.delete(slot);
      this.#untried.delete(slot);
    }
    this.#tell();
  }

  /** Refuses those who still wait; resolves when nothing is loading any more. */
  async close(): Promise<void> {
    this.#stopped = true;
    const error = new ServeError('UNAVAILABLE', 'server is shutting down');
    for (const slot of [...this.#wanted, ...this.#initial, ...this.#running]) slot.waiters.reject(error);
    this.#wanted.clear();
    this.stop();
    await this.#until(() => this.#running.size === 0);
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#listeners.add(resolve));
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
    this.#listeners.clear();
  }

  #pump(): void {
    const { budgetBytes, concurrency } = this.#options;
    while (this.#running.size < (budgetBytes > 0 ? 1 : concurrency)) {
      const [slot] = this.#wanted.size > 0 ? this.#wanted : this.#initial;
      if (!slot) break;
      // Whoever asked for it has gone: nothing is unloaded for nobody.
      if (slot.waiters.count === 0 && this.#wanted.delete(slot)) continue;
      this.#wanted.delete(slot);
      this.#initial.delete(slot);
      this.#running.add(slot);
      void this.#run(slot).finally(() => {
        this.#running.delete(slot);
        this.#untried.delete(slot);
        // Asked for again while it was given up.
        if (slot.state !== 'READY' && slot.waiters.count > 0) this.#wanted.add(slot);
        this.#pump();
        this.#tell();
      });
    }
  }

  async #run(slot: Slot): Promise<void> {
    const { budgetBytes, load, log } = this.#options;
    const { state, reason } = slot;
    slot.state = 'LOADING';
    try {
      const model = budgetBytes > 0 ? await this.#loadWithin(slot, budgetBytes) : await load(slot);
      if (model) this.#ready(slot, model);
      else this.#putOff(slot, state === 'ON_DEMAND' ? reason : 'is loaded on first use: the memory budget is used up');
    } catch (thrown) {
      const error = ServeError.from(thrown);
      this.#failed(slot, error);
      log.error({ model: slot.name, version: slot.version, error }, 'model failed to load');
    }
    this.#options.onChange(slot);
  }

  #ready(slot: Slot, model: Model): void {
    slot.state = 'READY';
    slot.reason = '';
    slot.model = model;
    slot.failureCount = 0;
    slot.failureCode = 'UNAVAILABLE';
    slot.loads.success++;
    if (this.#options.budgetBytes > 0) slot.onDemand = true;
    this.#options.onChange(slot);
    slot.waiters.resolve(model);
  }

  /** There is no room for it at start, or nobody waits for it any more. */
  #putOff(slot: Slot, reason: string): void {
    slot.state = 'ON_DEMAND';
    slot.onDemand = true;
    slot.reason = reason;
  }

  #failed(slot: Slot, error: ServeError): void {
    slot.state = 'UNAVAILABLE';
    slot.reason = error.message;
    slot.loads.failure++;
    slot.retryAtMs = nowMs() + Math.min(LONGEST_RETRY_MS, this.#options.retryMs * 2 ** slot.failureCount++);
    slot.failureCode = error.code === 'RESOURCE_EXHAUSTED' ? error.code : 'UNAVAILABLE';
    slot.waiters.reject(new ServeError(slot.failureCode, `model '${slot.name}' failed to load: ${error.message}`));
  }

  /** Undefined where there is no room for it now, and nobody waits until there is. */
  async #loadWithin(slot: Slot, budget: number): Promise<Model | undefined> {
    const { load, unload, leastBytes, grownBytes, log } = this.#options;
    const { cost } = slot;
    const least = await leastBytes(slot);
    if (least > budget) throw tooLarge(slot, least, budget);
    if (!(await this.#makeRoom(slot, Math.min(budget, cost.expected(least)), budget))) return undefined;
    let model = await load(slot);
    let bytes = cost.measured(least, grownBytes(model));
    if (bytes > budget) {
      // Others may have taken memory meanwhile: nobody is refused for what was seen once.
      await unload(model);
      model = await load(slot);
      bytes = cost.measured(least, grownBytes(model));
    }
    // What it really cost may be more than there is room for.
    const fits = bytes <= budget && (await this.#makeRoom(slot, bytes, budget));
    if (!fits) await unload(model);
    if (bytes > budget) throw tooLarge(slot, bytes, budget);
    if (!fits) return undefined;
    this.#bytes.set(slot, bytes);
    log.debug({ model: slot.name, version: slot.version, bytes }, 'memory of a model was measured');
    return model;
  }

  /** Unloads what must go for `needed` bytes more. False where that can't be waited for, or must not be: nothing is unloaded at start. */
  async #makeRoom(slot: Slot, needed: number, budget: number): Promise<boolean> {
    const untilMs = nowMs() + ROOM_WAIT_MS;
    for (;;) {
      // In a turn of its own: whoever was given a model in this one has it in use by then.
      await new Promise((resolve) => setImmediate(resolve));
      const room = roomFor(this.#residents(), needed, budget);
      if (room.kind === 'room' && (slot.onDemand || room.unload.length === 0)) {
        // All are withdrawn in this turn, before anybody can ask for one of them.
        await Promise.all(room.unload.map((resident) => this.#evict(resident.slot)));
        return true;
      }
      if (room.kind === 'never') throw tooLarge(slot, needed, budget);
      if (!slot.onDemand || slot.waiters.count === 0) return false;
      if (nowMs() > untilMs) {
        const message = `no memory for model '${slot.name}': all models within --model-memory-budget ${budget} are busy`;
        slot.waiters.reject(new ServeError('RESOURCE_EXHAUSTED', message));
        return false;
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
  }

  #residents() {
    return [...this.#bytes].map(([slot, bytes]) => ({
      slot,
      bytes,
      lastUse: slot.lastUse,
      busy: !slot.model || this.#options.isBusy(slot.model),
    }));
  }

  async #evict(slot: Slot): Promise<void> {
    const model = slot.model!;
    slot.model = undefined;
    slot.unloads.memory_budget++;
    this.#putOff(slot, 'was unloaded to stay within the memory budget, is loaded again on use');
    this.#options.onChange(slot);
    await this.#options.unload(model);
    this.#bytes.delete(slot);
    this.#options.log.info({ model: slot.name, version: slot.version }, 'model was unloaded to make room');
  }
}

function tooLarge({ name }: Slot, bytes: number, budget: number): ServeError {
  return new ServeError(
    'RESOURCE_EXHAUSTED',
    `model '${name}' takes ${Math.round(bytes)} bytes of memory, more than --model-memory-budget ${budget}`,
  );
}
