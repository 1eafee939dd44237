/**
 * The engine's timers: when a queued request expires, and when a model's queue is to be looked at again.
 *
 * Called by the scheduler. Timers are independent of whether a worker is free, so a queue timeout is exact to a timer's millisecond.
 */
import { nowMs } from '../base/clock.js';
import type { Entry } from './entry.js';
import type { Model } from './model.js';

/** The longest that setTimeout can wait, in milliseconds: past it, it fires at once. */
const LONGEST_MS = 2 ** 31 - 1;

/** A timer is late by up to this, in milliseconds: shorter delays (Triton's usual example is 0.1) would become twenty times as long. */
const TIMER_MS = 1;

/** Milliseconds from now to `atMs`, in whole ones, never too early. */
function delayTo(atMs: number): number {
  return Math.min(LONGEST_MS, Math.max(0, Math.ceil(atMs - nowMs())));
}

/** Calls `expire` when `entry` has waited as long as it may; {@link stopExpiry} takes that back. */
export function startExpiry(entry: Entry, expire: () => void): void {
  if (entry.expiresMs === Number.POSITIVE_INFINITY) return;
  entry.timer = setTimeout(() => {
    entry.timer = undefined;
    if (nowMs() < entry.expiresMs) startExpiry(entry, expire);
    else expire();
  }, delayTo(entry.expiresMs));
}

export function stopExpiry(entry: Entry): void {
  if (entry.timer) clearTimeout(entry.timer);
  entry.timer = undefined;
}

/** One alarm per model: the earliest that was asked for. */
export class Alarms {
  readonly #alarms = new Map<Model, { readonly atMs: number; readonly stop: () => void }>();

  /** Calls `wake` at `atMs`, unless an earlier alarm of the model is set already. */
  set(model: Model, atMs: number, wake: () => void): void {
    const current = this.#alarms.get(model);
    if (current && current.atMs <= atMs) return;
    current?.stop();
    const ring = () => {
      this.#alarms.delete(model);
      wake();
    };
    this.#alarms.set(model, { atMs, stop: atMs - nowMs() < TIMER_MS ? poll(atMs, ring) : sleep(atMs, ring) });
  }
}

/** Neither keeps the process: an alarm may be for a batch that has filled up since. */
function sleep(atMs: number, ring: () => void): () => void {
  const timer = setTimeout(ring, delayTo(atMs)).unref();
  return () => clearTimeout(timer);
}

/** Once in each turn of the event loop. */
function poll(atMs: number, ring: () => void): () => void {
  let immediate: NodeJS.Immediate;
  const look = (): void => {
    if (nowMs() >= atMs) ring();
    else immediate = setImmediate(look).unref();
  };
  immediate = setImmediate(look).unref();
  return () => clearImmediate(immediate);
}
