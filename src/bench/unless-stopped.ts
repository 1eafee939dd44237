/**
 * Waits for work that can't be told to stop, but no longer than until it is no more of use.
 *
 * Called by the command and `npm run bench`. The work goes on behind it; whoever stops ends what it runs on.
 */
import { BenchError } from './bench-error.js';

/** What comes of `work`; rejects with a BenchError when `signal` comes first. */
export function unlessStopped<T>(signal: AbortSignal | undefined, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = (): void => reject(new BenchError('stopped'));
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { once: true });
    work.then(resolve, reject).finally(() => signal?.removeEventListener('abort', stop));
  });
}
