/**
 * The pool of preprocess workers: texts become token tensors and pictures become pixel tensors, off the main thread.
 *
 *   main                                                     worker i (piscina thread, one task that never ends)
 *   run ──▶ two lines (preprocess-queue.ts) ──one copy──▶    [task, task, ...]   few small ones, or a large one alone
 *   handler ◀──────────────────────────────── moved ────     [reply, reply, ...]
 *
 * Called by the engine. Owns its threads (port-threads.ts), the bound on what waits for them and the one copy of what is handed over. Must
 * not know a client, a model or a protocol.
 */
import { nowMs } from '../base/clock.js';
import { ServeError } from '../base/errors.js';
import { PortThreads } from './port-threads.js';
import type {
  FromPreprocessWorker,
  PreprocessReply,
  ProcessorSpec,
  ToPreprocessWorker,
} from './preprocess-messages.js';
import { PreprocessQueue } from './preprocess-queue.js';
import { freeThread, newThread, type PreprocessThread, type RegisterCall } from './preprocess-thread.js';
import {
  answer,
  errorOf,
  fail,
  handOver,
  type PreprocessHandler,
  type PreprocessRequest,
  PreprocessWork,
  stopping,
  tooLate,
} from './preprocess-work.js';

export type { PreprocessHandler, PreprocessRequest } from './preprocess-work.js';

export interface PreprocessPoolOptions {
  /** Threads. */
  readonly size: number;
  /** Compiled `workers/preprocess-worker.js`. */
  readonly workerFile: string;
  /** Requests that may wait for a thread. */
  readonly maxTasks?: number;
  /** Bytes of those requests, together. */
  readonly maxBytes?: number;
}

/** What one message of light work may hold: all are answered together, so the first waits for the last. */
const MESSAGE_TASKS = 16;
const MESSAGE_BYTES = 8192;

export class PreprocessPool {
  readonly #options: PreprocessPoolOptions;
  readonly #maxTasks: number;
  readonly #maxBytes: number;
  readonly #queue = new PreprocessQueue<PreprocessWork>();
  readonly #processors = new Map<number, ProcessorSpec>();
  /** Made at the first `register`. */
  #threads: PortThreads<ToPreprocessWorker, FromPreprocessWorker> | undefined;
  #states: PreprocessThread[] = [];
  #nextProcessor = 1;
  #nextTask = 0;
  #nextCall = 0;
  #pumping = false;
  #closed: Promise<void> | undefined;

  constructor(options: PreprocessPoolOptions) {
    this.#options = options;
    this.#maxTasks = options.maxTasks ?? 4096;
    this.#maxBytes = options.maxBytes ?? 256 * 1024 * 1024;
  }

  /**
   * Makes the processor on every thread; the first call starts them. Gives its number. Rejects with ServeError: INVALID_ARGUMENT
   * names the file and what is wrong with it.
   */
  async register(spec: ProcessorSpec): Promise<number> {
    if (this.#closed) throw stopping();
    this.#threads ??= this.#start();
    if (this.#threads.dead) throw this.#threads.dead;
    const processor = this.#nextProcessor++;
    this.#processors.set(processor, spec);
    try {
      await Promise.all(
        this.#states.map((thread) => {
          const { promise, resolve, reject } = Promise.withResolvers<void>();
          this.#register(thread, { processor, resolve, reject }, spec);
          return promise;
        }),
      );
    } catch (error) {
      this.unregister(processor);
      throw error;
    }
    return processor;
  }

  unregister(processor: number): void {
    if (!this.#processors.delete(processor) || this.#closed || this.#threads?.dead) return;
    for (const { index } of this.#states) this.#threads?.post(index, { type: 'unregister', processor });
  }

  /** Never throws; `handler` may be called before this returns. Gives the cancel, which is idempotent. */
  run(request: PreprocessRequest, handler: PreprocessHandler): () => void {
    const work = new PreprocessWork(this.#nextTask++, request, handler);
    const refusal = this.#refusal(request, work.bytes);
    if (refusal) {
      handler.onError(refusal);
      return () => undefined;
    }
    this.#queue.add(work);
    this.#pump();
    return () => {
      // What runs already is finished unheard.
      work.handler = undefined;
      this.#queue.remove(work);
    };
  }

  /** Requests that wait for a thread. */
  get queued(): number {
    return this.#queue.count;
  }

  /** Refuses what waits and what comes, finishes what runs, and resolves when the threads have ended. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#failWaiting(stopping);
    await this.#threads?.close({ type: 'close' });
  }

  #start(): PortThreads<ToPreprocessWorker, FromPreprocessWorker> {
    this.#states = Array.from({ length: this.#options.size }, (_, index) => newThread(index));
    return new PortThreads({
      size: this.#options.size,
      workerFile: this.#options.workerFile,
      name: 'preprocess workers',
      onMessage: (thread, message) => this.#heard(this.#states[thread]!, message),
      onLost: (thread, reason) => this.#lost(thread, reason),
      onDead: (error) => {
        for (const thread of this.#states) this.#abandon(thread, error);
        this.#failWaiting(() => error);
      },
    });
  }

  #refusal({ processor, deadlineMs }: PreprocessRequest, bytes: number): ServeError | undefined {
    if (this.#closed) return stopping();
    if (this.#threads?.dead) return this.#threads.dead;
    if (!this.#processors.has(processor))
      return new ServeError('UNAVAILABLE', 'the model does not take texts or pictures any more');
    if (deadlineMs <= nowMs()) return tooLate();
    if (this.#queue.count >= this.#maxTasks)
      return new ServeError('RESOURCE_EXHAUSTED', `preprocess queue is full (${this.#maxTasks} requests)`);
    // A request that is larger than the bound may still pass where it need not wait.
    if (this.#queue.bytes + bytes > this.#maxBytes && !(this.#queue.count === 0 && freeThread(this.#states)))
      return new ServeError('RESOURCE_EXHAUSTED', `preprocess queue is full (${this.#maxBytes} bytes)`);
    return undefined;
  }

  /** Hands over what can be handed over. */
  #pump(): void {
    // A handler may call `run` again: the loop below sees to what that queues.
    if (this.#pumping) return;
    this.#pumping = true;
    for (let thread = freeThread(this.#states); thread && this.#queue.count > 0; thread = freeThread(this.#states)) {
      const batch = this.#take(!thread.lastHeavy);
      if (batch.length > 0) this.#send(thread, batch);
    }
    this.#pumping = false;
  }

  /** The next message's tasks, from the line whose turn it is. What is too late is answered here and may leave nothing. */
  #take(heavy: boolean): PreprocessWork[] {
    const batch: PreprocessWork[] = [];
    const now = nowMs();
    let bytes = 0;
    for (let task = this.#queue.first(heavy); task; task = this.#queue.first(heavy)) {
      if (task.request.deadlineMs <= now) {
        this.#queue.remove(task);
        fail(task, tooLate());
        continue;
      }
      const fits = batch.length < MESSAGE_TASKS && bytes + task.bytes <= MESSAGE_BYTES;
      if (batch.length > 0 && (task.heavy || !fits)) break;
      this.#queue.remove(task);
      batch.push(task);
      bytes += task.bytes;
      if (task.heavy) break;
    }
    return batch;
  }

  #send(thread: PreprocessThread, batch: readonly PreprocessWork[]): void {
    const { message, memory } = handOver(batch);
    for (const work of batch) thread.tasks.set(work.number, work);
    thread.messages++;
    thread.bytes += memory.byteLength;
    thread.heavy = batch[0]!.heavy;
    thread.lastHeavy = thread.heavy;
    this.#threads!.post(thread.index, message, [memory]);
  }

  #heard(thread: PreprocessThread, message: FromPreprocessWorker): void {
    if (!isReplies(message)) {
      const call = thread.calls.get(message.call);
      thread.calls.delete(message.call);
      if (message.failure) call?.reject(errorOf(message.failure));
      else call?.resolve();
      return;
    }
    const tasks = message.map((reply) => {
      const task = thread.tasks.get(reply.task)!;
      thread.tasks.delete(reply.task);
      thread.bytes -= task.bytes;
      return task;
    });
    thread.messages--;
    if (tasks[0]!.heavy) thread.heavy = false;
    // The thread gets its next work before the answers are looked at.
    this.#pump();
    message.forEach((reply, index) => {
      answer(tasks[index]!, reply);
    });
  }

  #register(thread: PreprocessThread, call: RegisterCall, spec: ProcessorSpec): void {
    const number = this.#nextCall++;
    thread.calls.set(number, call);
    this.#threads!.post(thread.index, { type: 'register', call: number, processor: call.processor, spec });
  }

  #lost(index: number, reason: string): void {
    const old = this.#states[index]!;
    const thread = newThread(index);
    this.#states[index] = thread;
    const lost = new ServeError('UNAVAILABLE', `preprocess worker ${index} was lost: ${reason}`);
    // The processor that was being made when the thread died may be what it died of; those behind it are made by the new thread.
    const [first, ...others] = old.calls.values();
    old.calls.clear();
    if (first) {
      this.unregister(first.processor);
      first.reject(lost);
    }
    const asked = new Map(others.map((call) => [call.processor, call]));
    if (!this.#closed && !this.#threads!.dead) {
      for (const [processor, spec] of this.#processors) {
        // One that was made before is made from the same data. Should that fail now, the worker says so to every task.
        this.#register(thread, asked.get(processor) ?? { processor, resolve() {}, reject() {} }, spec);
        asked.delete(processor);
      }
    }
    for (const { reject } of asked.values()) reject(lost);
    this.#abandon(old, lost);
    this.#pump();
  }

  #abandon({ tasks, calls }: PreprocessThread, error: ServeError): void {
    for (const { reject } of calls.values()) reject(error);
    calls.clear();
    for (const task of tasks.values()) fail(task, error);
    tasks.clear();
  }

  #failWaiting(error: () => ServeError): void {
    for (let task = this.#queue.first(false); task; task = this.#queue.first(false)) {
      this.#queue.remove(task);
      fail(task, error());
    }
  }
}

const isReplies = (message: FromPreprocessWorker): message is readonly PreprocessReply[] => Array.isArray(message);
