/**
 * What main knows of one preprocess thread: what it was sent and has not answered.
 *
 * Called by `runtime/preprocess-pool.ts`, which keeps it. A thread that died is another one from then on, with nothing on it.
 */
import type { ServeError } from '../base/errors.js';
import type { PreprocessWork } from './preprocess-work.js';

/** A processor that the thread is to make. */
export interface RegisterCall {
  readonly processor: number;
  resolve(): void;
  reject(error: ServeError): void;
}

export interface PreprocessThread {
  readonly index: number;
  /** Sent and not answered; each has at least one task. */
  messages: number;
  /** Bytes of those. */
  bytes: number;
  /** One of them is heavy: nothing is put behind it, for another thread may be free sooner. */
  heavy: boolean;
  /** Whether the last message was heavy; lines take turns. */
  lastHeavy: boolean;
  readonly tasks: Map<number, PreprocessWork>;
  /** In the order in which the thread makes them. */
  readonly calls: Map<number, RegisterCall>;
}

/** Messages that a thread has at a time: one that it works on, and one so that it need not wait for main. */
const MESSAGES_AHEAD = 2;

export const newThread = (index: number): PreprocessThread => ({
  index,
  messages: 0,
  bytes: 0,
  heavy: false,
  lastHeavy: true,
  tasks: new Map(),
  calls: new Map(),
});

/** The thread with the least to do of those that may be given more. */
export function freeThread(threads: readonly PreprocessThread[]): PreprocessThread | undefined {
  let best: PreprocessThread | undefined;
  for (const thread of threads) {
    if (thread.messages >= MESSAGES_AHEAD || thread.heavy) continue;
    if (!best || thread.messages < best.messages || (thread.messages === best.messages && thread.bytes < best.bytes))
      best = thread;
  }
  return best;
}
