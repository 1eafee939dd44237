/**
 * The deadline and the abort signal of one call, over all its tries and waits.
 *
 * Made by `open-calls.ts` for each call and closed when it is over. Whoever works for the call at present sets `onEnd` and is told once
 * when nobody waits any more. Owns one timer and one listener.
 */
import { ClientError } from './client-error.js';

export class CallScope {
  /** When the call was made, on the clock of `performance.now()`. */
  readonly calledMs = performance.now();
  /** Told why, once; set anew by each who works for the call. */
  onEnd: ((error: ClientError) => void) | undefined;
  /** Why the call is over before it was answered. */
  error: ClientError | undefined;
  /** Tries so far, which an error that ends the call tells. */
  attempts = 1;
  readonly #deadlineMs: number;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: (() => void) | undefined;

  /** `timeoutMs` 0 = no deadline. */
  constructor(timeoutMs: number, signal: AbortSignal | undefined) {
    this.#deadlineMs = timeoutMs > 0 ? this.calledMs + timeoutMs : Infinity;
    this.#signal = signal;
    if (signal?.aborted) this.error = aborted(signal, 1);
    else if (signal) {
      this.#onAbort = () => this.end(aborted(signal, this.attempts));
      signal.addEventListener('abort', this.#onAbort, { once: true });
    }
    if (timeoutMs > 0 && timeoutMs <= MAX_TIMER_MS) {
      this.#timer = setTimeout(() => {
        const { attempts } = this;
        this.end(new ClientError('DEADLINE_EXCEEDED', `no answer within ${timeoutMs} ms`, { attempts }));
      }, timeoutMs);
    }
  }

  /** Milliseconds until the deadline; Infinity without one. */
  get remainingMs(): number {
    return this.#deadlineMs - performance.now();
  }

  /** Throws the reason where the call is over. */
  check(): void {
    if (this.error) throw this.error;
  }

  /** Waits; rejects when the call ends meanwhile. */
  async sleep(ms: number): Promise<void> {
    this.check();
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.onEnd = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.onEnd = undefined;
    this.check();
  }

  /** Waits for `work`, which goes on by itself; rejects when the call ends meanwhile. */
  async wait<Result>(work: Promise<Result>): Promise<Result> {
    this.check();
    try {
      return await new Promise<Result>((resolve, reject) => {
        this.onEnd = reject;
        work.then(resolve, reject);
      });
    } finally {
      this.onEnd = undefined;
    }
  }

  /** Nobody waits any more; once, the first reason counts. */
  end(error: ClientError): void {
    if (this.error) return;
    this.error = error;
    this.onEnd?.(error);
  }

  /** The call is over: nobody is told any more. */
  close(): void {
    this.onEnd = undefined;
    clearTimeout(this.#timer);
    if (this.#onAbort) this.#signal?.removeEventListener('abort', this.#onAbort);
  }
}

/** Beyond this Node's timers fire at once. */
const MAX_TIMER_MS = 0x7fff_ffff;

function aborted(signal: AbortSignal, attempts: number): ClientError {
  return new ClientError('CANCELLED', 'the call was aborted', { cause: signal.reason, attempts });
}
