/**
 * One version of one model as the registry knows it, loaded or not, and the requests that wait for it to be.
 *
 *   LOADING ──▶ READY ──▶ ON_DEMAND ──▶ LOADING ──▶ READY ...       ON_DEMAND: waits for its first use, or was unloaded to make room
 *      └──▶ UNAVAILABLE (reason) ──a request, after a while──▶ LOADING       (only what may be loaded on demand)
 *
 * Made by the registry; `residency.ts` moves it from state to state. What must outlive an unloading is kept here: counts, costs.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import { GenerationCounts } from './generation-counts.js';
import { LoadCost } from './load-cost.js';
import type { Model } from './model.js';
import type { RawConfig } from './model-config-raw.js';
import type { RepositoryEntry } from './repository.js';
import { Statistics } from './statistics.js';
import type { ModelState } from './types.js';

export interface SlotOptions {
  readonly entry: RepositoryEntry;
  readonly raw: RawConfig;
  readonly version: number;
  /** Loaded at its first use and not at start. */
  readonly onDemand: boolean;
}

export class Slot {
  readonly entry: RepositoryEntry;
  readonly raw: RawConfig;
  readonly version: number;
  /** What the protocol calls it. */
  readonly name: string;
  /** Counts of all its lives. */
  readonly statistics = new Statistics();
  /** The same of generated text; zeros for a model that makes none. */
  readonly generationCounts = new GenerationCounts();
  readonly waiters = new Waiters();
  /** A request loads it; false for what is loaded at start and then for good. */
  onDemand: boolean;
  state: 'ON_DEMAND' | 'LOADING' | 'READY' | 'UNAVAILABLE';
  /** Why it is not loaded, for people. */
  reason: string;
  /** Set while READY, and only then. */
  model: Model | undefined;
  /** Rises with each use of any model. */
  lastUse = 0;
  /** What its loads cost. */
  readonly cost = new LoadCost();
  /** Loads that failed in a row, and when the next request may try again. */
  failureCount = 0;
  /** What requests meanwhile are refused with. */
  failureCode: 'UNAVAILABLE' | 'RESOURCE_EXHAUSTED' = 'UNAVAILABLE';
  retryAtMs = 0;
  /** For the metrics. */
  readonly loads = { success: 0, failure: 0 };
  readonly unloads = { memory_budget: 0, lost: 0 };

  constructor({ entry, raw, version, onDemand }: SlotOptions) {
    this.entry = entry;
    this.raw = raw;
    this.version = version;
    this.name = entry.name;
    this.onDemand = onDemand;
    this.state = onDemand ? 'ON_DEMAND' : 'LOADING';
    this.reason = onDemand ? 'is loaded on first use' : '';
  }

  /** A request will be served, now or when the model is loaded: clients that ask before they send must hear yes. */
  get isAskable(): boolean {
    return this.state === 'READY' || (this.onDemand && this.state !== 'UNAVAILABLE');
  }

  /** Its last load failed, and long enough ago to try again. */
  get mayRetry(): boolean {
    return this.onDemand && this.state === 'UNAVAILABLE' && nowMs() >= this.retryAtMs;
  }

  /** The state and reason of the repository index: READY is what will be served, loaded or not, as for the ready calls. */
  indexed(): { state: ModelState; reason: string } {
    const isReady = this.isAskable || this.mayRetry;
    if (isReady) return { state: 'READY', reason: this.state === 'LOADING' ? 'is being loaded' : this.reason };
    return { state: this.state === 'LOADING' ? 'LOADING' : 'UNAVAILABLE', reason: this.reason };
  }
}

export interface WaitOptions {
  /** On the monotonic clock; Infinity = none. */
  readonly deadlineMs: number;
  /** Aborted when the caller has gone; what it waits with is let go then. */
  readonly signal: AbortSignal | undefined;
}

interface Waiter {
  resolve(model: Model): void;
  reject(error: ServeError): void;
  readonly timer: NodeJS.Timeout | undefined;
  readonly signal: AbortSignal | undefined;
  /** Called by the signal. */
  readonly leave: () => void;
}

/** The longest that setTimeout can wait, in milliseconds. */
const LONGEST_MS = 2 ** 31 - 1;

/** Those who wait for one model to load. */
export class Waiters {
  readonly #waiting = new Set<Waiter>();

  get count(): number {
    return this.#waiting.size;
  }

  /**
   * Resolves with the model once it is there. Rejects DEADLINE_EXCEEDED at the deadline, CANCELLED when the caller goes, UNAVAILABLE at
   * once when `most` wait already.
   */
  add(name: string, { deadlineMs, signal }: WaitOptions, most: number): Promise<Model> {
    const gone = () => new ServeError('CANCELLED', `the caller has gone while model '${name}' was loading`);
    if (signal?.aborted) return Promise.reject(gone());
    if (this.#waiting.size >= most)
      return Promise.reject(new ServeError('UNAVAILABLE', `Exceeds maximum queue size (${most}) of model '${name}'`));
    const leftMs = Math.ceil(deadlineMs - nowMs());
    const late = () => new ServeError('DEADLINE_EXCEEDED', `Deadline Exceeded while model '${name}' was loading`);
    if (leftMs <= 0) return Promise.reject(late());
    return new Promise((resolve, reject) => {
      const timer = leftMs > LONGEST_MS ? undefined : setTimeout(() => this.#settle(waiter).reject(late()), leftMs);
      const leave = () => this.#settle(waiter).reject(gone());
      const waiter: Waiter = { resolve, reject, timer, signal, leave };
      this.#waiting.add(waiter);
      signal?.addEventListener('abort', leave);
    });
  }

  resolve(model: Model): void {
    for (const waiter of [...this.#waiting]) this.#settle(waiter).resolve(model);
  }

  reject(error: ServeError): void {
    for (const waiter of [...this.#waiting]) this.#settle(waiter).reject(error);
  }

  #settle(waiter: Waiter): Waiter {
    this.#waiting.delete(waiter);
    clearTimeout(waiter.timer);
    waiter.signal?.removeEventListener('abort', waiter.leave);
    return waiter;
  }
}
