/**
 * The parent's side of the load: starts client processes, gives them orders, puts their figures together.
 *
 * Used by `npm run bench` and `tensorwire bench`. Owns the processes, and ends them; must not talk to a server itself.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { BenchError, SilenceError } from './bench-error.js';
import { compiledFile } from './compiled-file.js';
import type { Measured, Order, ProcessLoad, Reply } from './load-messages.js';
import type {
  LoadOptions,
  LoadRunner,
  LoadTarget,
  MeasureOptions,
  Payload,
  Probe,
  RoundMeasurement,
} from './load-types.js';
import { mergeMeasured } from './merge-measured.js';
import type { ArmSpec, Load } from './results.js';

/** How long a server may be silent where nobody says: it may load a model first. */
const PATIENCE_MS = 120_000;

const DEFAULT_GRPC_CONNECTIONS = 1;
const DEFAULT_HTTP_CONNECTIONS = 64;

/** Starts the processes. They end with `close`, and with this process. */
export async function startLoad(target: LoadTarget, options: LoadOptions): Promise<LoadRunner> {
  const { processes, cpus, grpcConnections, httpConnections, silenceMs = PATIENCE_MS } = options;
  if (!Number.isInteger(processes) || processes < 1) throw new BenchError(`${processes} client processes: at least 1`);
  const peers = Array.from({ length: processes }, (_, index) => new Peer(cpus?.[index % cpus.length]));
  const connections = {
    grpcConnections: grpcConnections ?? DEFAULT_GRPC_CONNECTIONS,
    httpConnections: httpConnections ?? DEFAULT_HTTP_CONNECTIONS,
  };

  async function probe(payload: Payload, arm: ArmSpec): Promise<Probe> {
    const reply = await peers[0]!.ask({ kind: 'probe', target, payload, arm }, 'probed', silenceMs);
    return reply.probe;
  }

  async function measure(
    payload: Payload,
    arm: ArmSpec,
    load: Load,
    ms: number,
    { serverCpuUs }: MeasureOptions = {},
  ): Promise<RoundMeasurement> {
    const parts = splitLoad(load, processes, ms).map((part, index) => ({ part, peer: peers[index]! }));
    await settled(
      parts.map(({ part, peer }) =>
        peer.ask({ kind: 'prepare', target, payload, arm, load: part, ...connections }, 'ready', silenceMs),
      ),
    );
    const cpuBefore = serverCpuUs?.();
    // Open loads have pauses.
    const replies = await settled(parts.map(({ peer }) => peer.ask({ kind: 'go' }, 'measured', silenceMs + ms)));
    const serverUs = cpuBefore === undefined ? null : serverCpuUs!() - cpuBefore;
    const measured: Measured[] = replies.map((reply) => reply.measured);
    return mergeMeasured(measured, serverUs);
  }

  const close = async (): Promise<void> => {
    await Promise.all(peers.map((peer) => peer.close()));
  };
  return { processes, probe, measure, close };
}

/** Waits for all, so that no process is still busy with an order when the next one comes; then fails with the first failure. */
async function settled<T>(asks: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(asks);
  return Promise.all(asks);
}

/** Each process's part; fewer parts than processes where there are not enough callers for all. */
export function splitLoad(load: Load, processes: number, ms: number): ProcessLoad[] {
  if (load.kind === 'open') {
    const { ratePerSecond } = load;
    return Array.from({ length: processes }, (_, index) => ({
      kind: 'open',
      ratePerSecond: ratePerSecond / processes,
      offsetMs: (index * 1000) / ratePerSecond,
      ms,
    }));
  }
  const { concurrency } = load;
  const parts = Math.min(processes, concurrency);
  return Array.from({ length: parts }, (_, index) => ({
    kind: 'closed',
    concurrency: Math.floor(concurrency / parts) + (index < concurrency % parts ? 1 : 0),
    ms,
  }));
}

/** One client process. */
class Peer {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  /** It listens, or has ended: what it takes to start is no silence of the server. */
  readonly #started: Promise<unknown>;
  #waiting: { resolve(reply: Reply): void; reject(error: Error): void; alive(): void } | undefined;
  #ended: Error | undefined;

  constructor(cpu: number | undefined) {
    const file = compiledFile(import.meta.url, 'load-process');
    const [command, ...args] =
      cpu === undefined ? [process.execPath, file] : ['taskset', '-c', String(cpu), process.execPath, file];
    this.#child = spawn(command!, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' });
    this.#exited = new Promise((resolve) => {
      const end = (why: string): void => {
        this.#ended ??= new BenchError(`a client process ended: ${why}`);
        this.#waiting?.reject(this.#ended);
        this.#waiting = undefined;
        resolve();
      };
      this.#child.once('error', (error: NodeJS.ErrnoException) =>
        end(error.code === 'ENOENT' ? `${command} is not installed` : error.message),
      );
      this.#child.once('exit', (code, signal) => end(signal ?? `status ${code}`));
    });
    this.#started = Promise.race([this.#exited, once(this.#child, 'message')]);
    this.#child.on('message', (reply: Reply) => {
      const waiting = this.#waiting;
      if (reply.kind === 'alive') {
        waiting?.alive();
        return;
      }
      this.#waiting = undefined;
      waiting?.resolve(reply);
    });
  }

  /** Sends `order`; resolves with a reply of `kind`, else throws, also when the server is silent for `patienceMs`. One at a time. */
  async ask<Kind extends Reply['kind']>(
    order: Order,
    kind: Kind,
    patienceMs: number,
  ): Promise<Extract<Reply, { kind: Kind }>> {
    await this.#started;
    if (this.#ended) throw this.#ended;
    const reply = await new Promise<Reply>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#ended = new SilenceError(`the server gave no answer within ${patienceMs / 1000} s`);
        this.#waiting = undefined;
        this.#child.kill('SIGKILL');
        reject(this.#ended);
      }, patienceMs);
      const settle =
        <T>(then: (value: T) => void) =>
        (value: T): void => {
          clearTimeout(timer);
          then(value);
        };
      this.#waiting = { resolve: settle(resolve), reject: settle(reject), alive: () => void timer.refresh() };
      this.#child.send(order);
    });
    if (reply.kind === 'failed') throw reply.isExpected ? new BenchError(reply.message) : new Error(reply.message);
    if (reply.kind !== kind) throw new Error(`a client process answered '${reply.kind}' in place of '${kind}'`);
    return reply as Extract<Reply, { kind: Kind }>;
  }

  async close(): Promise<void> {
    // It exits when the channel closes.
    if (this.#child.connected) this.#child.disconnect();
    await this.#exited;
  }
}
