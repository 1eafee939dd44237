/**
 * Beats at a fixed interval, exact to a tenth of a millisecond, whatever the event loop's timers do.
 *
 * Made once by a process whose loads are open. Owns a thread, which sleeps between beats.
 */
import { Worker } from 'node:worker_threads';
import { nowMs } from '../base/clock.js';
import { compiledFile } from './compiled-file.js';
import type { Beats } from './metronome-thread.js';

/** Beats closer than this come together: each costs two threads some 10 us. */
const SHORTEST_INTERVAL_MS = 0.2;

export interface BeatOptions {
  /** On `performance.now()` of the caller's thread. */
  readonly startMs: number;
  readonly intervalMs: number;
  readonly count: number;
  /** `startMs + k * intervalMs` has come, for one or more k from 0 to `count` - 1. */
  readonly onBeat: () => void;
}

export interface Metronome {
  /** Begins to beat, in place of any beat before; returns what ends it. */
  beat(options: BeatOptions): () => void;
}

/** Resolves when its thread stands by. The thread doesn't keep the process alive. */
export async function createMetronome(): Promise<Metronome> {
  const worker = new Worker(compiledFile(import.meta.url, 'metronome-thread'), { execArgv: [] });
  await new Promise((resolve, reject) => worker.once('online', resolve).once('error', reject));
  worker.unref();
  return {
    beat: ({ startMs, intervalMs, count, onBeat }) => {
      const step = Math.max(1, Math.ceil(SHORTEST_INTERVAL_MS / intervalMs));
      const stop = new Int32Array(new SharedArrayBuffer(4));
      const beats: Beats = {
        // The last of beats that come together decides, so that none is early.
        startMs: startMs - performance.now() + nowMs() + (step - 1) * intervalMs,
        intervalMs: intervalMs * step,
        count: Math.ceil(count / step),
        stop,
      };
      worker.removeAllListeners('message');
      worker.on('message', onBeat);
      worker.unref();
      worker.postMessage(beats);
      return () => {
        worker.off('message', onBeat);
        Atomics.store(stop, 0, 1);
        Atomics.notify(stop, 0);
      };
    },
  };
}
