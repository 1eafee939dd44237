/**
 * The pool of inference workers: piscina's threads, each serving one MessagePort on which batches travel.
 *
 *   main                                  worker i (piscina thread, one task that never ends)
 *   run(i, [batch, session, slab, ...]) ──▶ session.run over the slab
 *   onResult([batch, start, end])       ◀──
 *
 * Called by the engine's scheduler and registry. Owns threads and ports. Must not know a request, a client, a deadline or a
 * protocol, and never ends a thread that may be inside `session.run`: that aborts the process.
 */
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { printable, ServeError, withoutPaths } from '../base/errors.js';
import type {
  CallReply,
  CompileRequest,
  ControlMessage,
  FromWorker,
  LoadRequest,
  ModelScan,
  RunReply,
  ScanRequest,
  SessionMetadata,
} from './messages.js';

/** `Omit` that keeps a union a union. */
type WithoutCall<T> = T extends { call: number } ? Omit<T, 'call'> : never;

export interface WorkerPoolOptions {
  readonly size: number;
  /** Compiled `workers/inference-worker.js`. */
  readonly workerFile: string;
  /** A batch ended; called once for each `run`, unless the worker was lost. */
  readonly onResult: (worker: number, result: number[] | RunReply) => void;
  /** A worker thread died; its sessions and running batches are gone. A new, empty thread is already starting in its place. */
  readonly onLost: (worker: number, reason: unknown) => void;
}

/** Threads lost in a row, without a word from any, after which none is replaced any more. */
const MAX_SILENT_LOSSES = 8;

/** A session that no worker has. */
const NO_SESSION = -1;

interface Attachment {
  readonly port: MessagePort;
  /** Settles when the worker's one task ends. */
  readonly ended: Promise<void>;
  readonly calls: Map<number, { resolve(value: unknown): void; reject(error: ServeError): void }>;
}

export class WorkerPool {
  readonly size: number;
  readonly #options: WorkerPoolOptions;
  readonly #piscina: Piscina;
  readonly #attached: Attachment[] = [];
  readonly #slabs = new Map<number, SharedArrayBuffer>();
  /** How often each worker was replaced. */
  readonly #lives: number[];
  #silentLosses = 0;
  /** Some worker has said something: the module loads. */
  #heard = false;
  /** Set when no worker can be had any more. */
  #dead: ServeError | undefined;
  #tellGaveUp: () => void = () => undefined;
  readonly #gaveUp = new Promise<void>((resolve) => {
    this.#tellGaveUp = resolve;
  });
  #nextCall = 0;
  #closing = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.size = options.size;
    this.#lives = new Array<number>(options.size).fill(0);
    this.#piscina = new Piscina({
      filename: options.workerFile,
      minThreads: options.size,
      maxThreads: options.size,
      concurrentTasksPerWorker: 1,
      // With atomics piscina would freeze the thread's event loop, and with it the port.
      atomics: 'disabled',
      recordTiming: false,
    });
    // A thread that dies without a task, as one whose module can't be loaded does, is told here, and its task never ends.
    this.#piscina.on('error', (reason: unknown) => {
      if (!this.#heard) this.#giveUp(reason);
    });
    for (let worker = 0; worker < options.size; worker++) this.#attached.push(this.#attach(worker));
  }

  /** Changes whenever `worker` is replaced by a new, empty thread. */
  life(worker: number): number {
    return this.#lives[worker]!;
  }

  /** Loads a session on `worker`; rejects with ServeError. */
  load(worker: number, load: LoadRequest): Promise<SessionMetadata> {
    return this.#call(worker, { type: 'load', load }) as Promise<SessionMetadata>;
  }

  /** Looks through a model file; rejects with ServeError for one that is not fit to be loaded. */
  scan(worker: number, scan: ScanRequest): Promise<ModelScan> {
    return this.#call(worker, { type: 'scan', scan }) as Promise<ModelScan>;
  }

  /** Saves a model for sharing (see weight-cache.ts); rejects with ServeError. */
  compile(worker: number, compile: CompileRequest): Promise<{ integerDivision: boolean }> {
    return this.#call(worker, { type: 'compile', compile }) as Promise<{ integerDivision: boolean }>;
  }

  /** Releases a session; the caller has seen to it that no batch of it is running. */
  async unload(worker: number, session: number): Promise<void> {
    await this.#call(worker, { type: 'unload', session });
  }

  /** Resolves once every worker has answered: its thread runs, and what it imports is loaded. Rejects when one can't. */
  async ready(): Promise<void> {
    await Promise.all(this.#attached.map((_, worker) => this.unload(worker, NO_SESSION)));
  }

  /** Sends a run message (layout: runtime/messages.ts); the result comes to `onResult`. */
  run(worker: number, message: number[]): void {
    this.#attached[worker]!.port.postMessage(message);
  }

  addSlab(slab: number, buffer: SharedArrayBuffer): void {
    this.#slabs.set(slab, buffer);
    for (const { port } of this.#attached) port.postMessage({ type: 'slab', slab, buffer } satisfies ControlMessage);
  }

  dropSlab(slab: number): void {
    this.#slabs.delete(slab);
    for (const { port } of this.#attached) port.postMessage({ type: 'drop-slab', slab } satisfies ControlMessage);
  }

  /** Releases all sessions and ends the threads. The caller has seen to it that no batch is running. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const { port } of this.#attached) port.postMessage({ type: 'close' } satisfies ControlMessage);
    await Promise.race([Promise.all(this.#attached.map(({ ended }) => ended)), this.#gaveUp]);
    if (!this.#dead) {
      await this.#piscina.close();
      return;
    }
    // No thread runs anything; those that never started have tasks that never end.
    for (const { port } of this.#attached) port.close();
    await this.#piscina.destroy();
  }

  #call(worker: number, message: WithoutCall<ControlMessage>): Promise<unknown> {
    const { port, calls } = this.#attached[worker]!;
    const call = this.#nextCall++;
    return new Promise((resolve, reject) => {
      if (this.#dead) {
        reject(this.#dead);
        return;
      }
      calls.set(call, { resolve, reject });
      port.postMessage({ ...message, call });
    });
  }

  #attach(worker: number): Attachment {
    const { port1: port, port2 } = new MessageChannel();
    const calls: Attachment['calls'] = new Map();
    port.on('message', (message: FromWorker) => {
      this.#silentLosses = 0;
      this.#heard = true;
      if (Array.isArray(message) || message.type === 'ran') this.#options.onResult(worker, message);
      else this.#settle(calls, message);
    });
    for (const [slab, buffer] of this.#slabs) port.postMessage({ type: 'slab', slab, buffer } satisfies ControlMessage);
    const ended = this.#piscina.run({ port: port2 }, { transferList: [port2] }).then(
      () => port.close(),
      (reason: unknown) => {
        port.close();
        if (!this.#closing) this.#lost(worker, calls, reason);
      },
    );
    return { port, ended, calls };
  }

  #settle(calls: Attachment['calls'], reply: CallReply): void {
    const waiting = calls.get(reply.call);
    calls.delete(reply.call);
    if (reply.ok) waiting?.resolve(reply.value);
    else waiting?.reject(new ServeError(reply.failure.code, reply.failure.message));
  }

  #lost(worker: number, calls: Attachment['calls'], reason: unknown): void {
    this.#lives[worker]!++;
    // piscina replaces a dead thread by itself; what it ran before is for us to restore. Threads that can't even start are left.
    if (++this.#silentLosses > MAX_SILENT_LOSSES) this.#giveUp(reason);
    else this.#attached[worker] = this.#attach(worker);
    for (const { reject } of calls.values())
      reject(new ServeError('UNAVAILABLE', `inference worker ${worker} was lost`));
    calls.clear();
    this.#options.onLost(worker, reason);
  }

  #giveUp(reason: unknown): void {
    const detail = reason instanceof Error ? printable(withoutPaths(reason.message), 200) : 'no reason was given';
    this.#tellGaveUp();
    this.#dead = new ServeError('UNAVAILABLE', `inference workers can't be started: ${detail}`);
    for (const { calls } of this.#attached) {
      for (const { reject } of calls.values()) reject(this.#dead);
      calls.clear();
    }
  }
}
