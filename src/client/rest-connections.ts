/**
 * The addresses of a server or of several alike, each with its pool of HTTP/1.1 connections, and whose turn it is.
 *
 * Made by `rest-client.ts`, asked by `rest-call.ts` before each try. Round robin; an address that could not be reached is passed over
 * for a while as long as there is another one. Owns the pools.
 */
import { Pool } from 'undici';
import { type Pems, pemsOf } from './tls.js';
import type { ClientOptions, TlsOptions } from './types.js';

/** One address: its pool, the calls that wait for a connection of it, and whether it could be reached. */
export class Address {
  /** `host:port`. */
  readonly name: string;
  readonly pool: Pool;
  /** Until when it is passed over, on the clock of `performance.now()`. */
  downUntilMs = 0;
  /** Failures to connect in a row. */
  failures = 0;
  readonly #most: number;
  #running = 0;
  /** In the order in which they came. */
  readonly #waiting = new Set<() => void>();

  constructor(name: string, pool: Pool, most: number) {
    this.name = name;
    this.pool = pool;
    this.#most = most;
  }

  /** Calls `start` as soon as there is a connection for it. undici's own queue can't be left again, and would reset a connection for each. */
  enter(start: () => void): void {
    if (this.#running >= this.#most) {
      this.#waiting.add(start);
      return;
    }
    this.#running++;
    start();
  }

  /** Nobody waits for `start` any more; false when it has been called already. */
  withdraw(start: () => void): boolean {
    return this.#waiting.delete(start);
  }

  /** What was started is over. */
  leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#running--;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}

/** What an attempt to connect may take; a machine that is off answers nothing at all. */
const CONNECT_TIMEOUT_MS = 5_000;
/** How long an address is passed over after a failure; doubles up to the second. */
const FIRST_PAUSE_MS = 500;
const LAST_PAUSE_MS = 30_000;
const DEFAULT_CONNECTIONS = 64;
const DEFAULT_KEEPALIVE_MS = 30_000;

export class Connections {
  readonly #addresses: readonly Address[];
  #next = 0;

  /** Opens nothing yet. */
  constructor(options: ClientOptions) {
    const { addresses, connections = DEFAULT_CONNECTIONS } = options;
    this.#addresses = addresses.map(
      (name) => new Address(name, createPool(name, { ...options, connections }), connections),
    );
    // Clients that start together must not all begin at the first.
    this.#next = Math.floor(Math.random() * addresses.length);
  }

  /** Whose turn it is, but for those in `tried`; the one that may be back soonest where none is known to be there. Undefined when all were tried. */
  next(tried: ReadonlySet<Address>): Address | undefined {
    const addresses = this.#addresses;
    const now = performance.now();
    let soonest: Address | undefined;
    for (let step = 0; step < addresses.length; step++) {
      const index = (this.#next + step) % addresses.length;
      const address = addresses[index]!;
      if (tried.has(address)) continue;
      if (address.downUntilMs <= now) {
        this.#next = (index + 1) % addresses.length;
        // One call tries whether it is back; others pass it over meanwhile.
        if (address.failures > 0) address.downUntilMs = now + CONNECT_TIMEOUT_MS;
        return address;
      }
      if (!soonest || address.downUntilMs < soonest.downUntilMs) soonest = address;
    }
    return soonest;
  }

  get count(): number {
    return this.#addresses.length;
  }

  /** It answered, or took a request at least. */
  reached(address: Address): void {
    address.failures = 0;
    address.downUntilMs = 0;
  }

  unreachable(address: Address): void {
    const pauseMs = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** address.failures);
    address.failures++;
    address.downUntilMs = performance.now() + pauseMs;
  }

  /** Closes all connections; calls must be over. */
  async close(): Promise<void> {
    await Promise.all(this.#addresses.map(({ pool }) => pool.destroy()));
  }
}

function createPool(address: string, options: ClientOptions & { readonly connections: number }): Pool {
  const { connections, keepaliveMs = DEFAULT_KEEPALIVE_MS } = options;
  return new Pool(`${options.tls ? 'https' : 'http'}://${address}`, {
    connections,
    allowH2: false,
    pipelining: 1,
    connectTimeout: CONNECT_TIMEOUT_MS,
    // The deadline of the call is the only one.
    headersTimeout: 0,
    bodyTimeout: 0,
    connect: {
      ...(typeof options.tls === 'object' && tlsOptions(options.tls)),
      keepAlive: keepaliveMs > 0,
      keepAliveInitialDelay: keepaliveMs,
    },
  });
}

function tlsOptions(tls: TlsOptions): Pems & { readonly servername?: string } {
  const { serverName } = tls;
  return { ...pemsOf(tls), ...(serverName !== undefined && { servername: serverName }) };
}
