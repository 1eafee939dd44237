/**
 * The calls of one client that are under way, over either protocol, from their begin until the client is closed.
 *
 * One per client. Owns their scopes: closing waits for what callers wait for, and ends what was only asked on the side. Must not know a
 * connection.
 */
import { CallScope } from './call-scope.js';
import { ClientError, refusal } from './client-error.js';
import type { CallOptions, ClientOptions } from './types.js';

const DEFAULT_TIMEOUT_MS = 60_000;

export interface OpenCallOptions extends CallOptions {
  /**
   * Asked on the side of calls, which may give up waiting for it: tried once, and not waited for by `close`. A server that hangs must not
   * hold back a client whose calls are all over.
   */
  readonly isAside?: boolean;
}

export class OpenCalls {
  readonly #timeoutMs: number;
  readonly #calls = new Set<CallScope>();
  readonly #asides = new Set<CallScope>();
  #closing: Promise<void> | undefined;
  #idle: (() => void) | undefined;

  constructor({ timeoutMs = DEFAULT_TIMEOUT_MS }: Pick<ClientOptions, 'timeoutMs'>) {
    this.#timeoutMs = timeoutMs;
  }

  /**
   * A call that somebody else ends by `end`. Throws a local FAILED_PRECONDITION once the client is closed, INVALID_ARGUMENT for options
   * that can't be.
   */
  begin(options: OpenCallOptions): CallScope {
    if (typeof options !== 'object' || options === null) throw refusal(`options is ${options}, expected an object`);
    const { timeoutMs = this.#timeoutMs, compression, signal, isAside = false } = options;
    if (this.#closing && !isAside) throw refusal('the client is closed', 'FAILED_PRECONDITION');
    if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0))
      throw refusal(
        `timeoutMs is ${typeof timeoutMs === 'string' ? `'${timeoutMs}'` : timeoutMs}, expected a number of at least 0`,
      );
    if (compression !== undefined && compression !== 'none' && compression !== 'gzip')
      throw refusal(`compression is '${compression}', expected 'none' or 'gzip'`);
    if (signal && typeof signal.addEventListener !== 'function') throw refusal('signal is no AbortSignal');
    const scope = new CallScope(timeoutMs, signal);
    (isAside ? this.#asides : this.#calls).add(scope);
    return scope;
  }

  end(scope: CallScope): void {
    scope.close();
    this.#asides.delete(scope);
    this.#calls.delete(scope);
    if (this.#calls.size === 0) this.#idle?.();
  }

  /** Does `work` for a call that ends with it. */
  async run<Result>(options: OpenCallOptions, work: (scope: CallScope) => Promise<Result>): Promise<Result> {
    const scope = this.begin(options);
    try {
      return await work(scope);
    } finally {
      this.end(scope);
    }
  }

  /** Resolves when all calls are over and `disconnect` is done. Idempotent. */
  close(disconnect: () => void | Promise<void>): Promise<void> {
    this.#closing ??= this.#close(disconnect);
    return this.#closing;
  }

  async #close(disconnect: () => void | Promise<void>): Promise<void> {
    if (this.#calls.size > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    for (const scope of this.#asides) scope.end(new ClientError('CANCELLED', 'the client is closed'));
    await disconnect();
  }
}
