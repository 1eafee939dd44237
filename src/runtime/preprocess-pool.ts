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

/** Messages that a thread has at a time: one that it works on, and one so that it need not wait for main. */
const MESSAGES_AHEAD = 2;
/** What one message of light work may hold: all are answered together, so the first waits for the last. */
const MESSAGE_TASKS = 16;
const MESSAGE_BYTES = 8192;

/** What main knows of one thread. */
interface Thread {
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
  readonly calls: Map<number, { processor: number; resolve(): void; reject(error: ServeError): void }>;
}

export class PreprocessPool {
  readonly #options: PreprocessPoolOptions;
  readonly #maxTasks: number;
  readonly #maxBytes: number;
  readonly #queue = new PreprocessQueue<PreprocessWork>();
  readonly #processors = new Map<number, ProcessorSpec>();
  /** Made at the first `register`. */
  #threads: PortThreads<ToPreprocessWorker, FromPreprocessWorker> | undefined;
  #states: Thread[] = [];
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
      await Promise.all(this.#states.map((thread) => this.#register(thread, processor, spec)));
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
    if (this.#queue.bytes + bytes > this.#maxBytes && !(this.#queue.count === 0 && this.#freeThread()))
      return new ServeError('RESOURCE_EXHAUSTED', `preprocess queue is full (${this.#maxBytes} bytes)`);
    return undefined;
  }

  /** Hands over what can be handed over. */
  #pump(): void {
    // A handler may call `run` again: the loop below sees to what that queues.
    if (this.#pumping) return;
    this.#pumping = true;
    for (let thread = this.#freeThread(); thread && this.#queue.count > 0; thread = this.#freeThread()) {
      const batch = this.#take(!thread.lastHeavy);
      if (batch.length > 0) this.#send(thread, batch);
    }
    this.#pumping = false;
  }

  /** The thread with the least to do of those that may be given more. */
  #freeThread(): Thread | undefined {
    let best: Thread | undefined;
    for (const thread of this.#states) {
      if (thread.messages >= MESSAGES_AHEAD || thread.heavy) continue;
      if (!best || thread.messages < best.messages || (thread.messages === best.messages && thread.bytes < best.bytes))
        best = thread;
    }
    return best;
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

  #send(thread: Thread, batch: readonly PreprocessWork[]): void {
    const { message, memory } = handOver(batch);
    for (const work of batch) thread.tasks.set(work.number, work);
    thread.messages++;
    thread.bytes += memory.byteLength;
    thread.heavy = batch[0]!.heavy;
    thread.lastHeavy = thread.heavy;
    this.#threads!.post(thread.index, message, [memory]);
  }

  #heard(thread: Thread, message: FromPreprocessWorker): void {
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

  #register(thread: Thread, processor: number, spec: ProcessorSpec): Promise<void> {
    const call = this.#nextCall++;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    thread.calls.set(call, { processor, resolve, reject });
    this.#threads!.post(thread.index, { type: 'register', call, processor, spec });
    return promise;
  }

  #lost(index: number, reason: string): void {
    const old = this.#states[index]!;
    const thread = newThread(index);
    this.#states[index] = thread;
    // Whatever was being made when the thread died may be what it died of.
    for (const { processor } of old.calls.values()) this.#processors.delete(processor);
    if (!this.#closed && !this.#threads!.dead) {
      for (const [processor, spec] of this.#processors) {
        // It was made before, from the same data. Should it fail now, the worker says so to every task.
        this.#register(thread, processor, spec).catch(() => undefined);
      }
    }
    this.#abandon(old, new ServeError('UNAVAILABLE', `preprocess worker ${index} was lost: ${reason}`));
    this.#pump();
  }

  #abandon({ tasks, calls }: Thread, error: ServeError): void {
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

const newThread = (index: number): Thread => ({
  index,
  messages: 0,
  bytes: 0,
  heavy: false,
  lastHeavy: true,
  tasks: new Map(),
  calls: new Map(),
});

const isReplies = (message: FromPreprocessWorker): message is readonly PreprocessReply[] => Array.isArray(message);
