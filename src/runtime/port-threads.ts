/**
 * Threads that serve a MessagePort each: piscina owns them, each runs one task that lasts until it is told to close.
 *
 * Called by `runtime/preprocess-pool.ts` and `runtime/token-stream-worker.ts`. Owns the threads and their ports, and replaces a thread that died until nothing comes from any
 * of them any more. Must not know what the messages say, and never ends a thread: it may be inside native code.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, type Transferable } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { printable, ServeError, withoutPaths } from '../base/errors.js';

export interface PortThreadsOptions<Incoming> {
  readonly size: number;
  /** Compiled worker, whose task is `serve({ port })` and ends after the message that `close` sends. */
  readonly workerFile: string;
  /** What they are called in errors: "preprocess workers". */
  readonly name: string;
  readonly onMessage: (thread: number, message: Incoming) => void;
  /** A thread died with all it had. A new, empty one takes its place and can be posted to already, unless `dead` is set. */
  readonly onLost: (thread: number, reason: string) => void;
  /** No thread can be had; told once, after which nothing is heard from any. */
  readonly onDead: (error: ServeError) => void;
}

/** Threads lost in a row, without a word from any, after which none is replaced any more. */
const MAX_SILENT_LOSSES = 8;

interface Attachment {
  readonly port: MessagePort;
  /** Settles when the thread's one task ends. */
  readonly ended: Promise<void>;
}

export class PortThreads<Outgoing, Incoming> {
  readonly #options: PortThreadsOptions<Incoming>;
  readonly #piscina: Piscina;
  readonly #attached: Attachment[] = [];
  #silentLosses = 0;
  /** Some thread has said something: the module loads. */
  #heard = false;
  #dead: ServeError | undefined;
  #closing = false;
  readonly #gaveUp = Promise.withResolvers<void>();

  constructor(options: PortThreadsOptions<Incoming>) {
    this.#options = options;
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
    for (let thread = 0; thread < options.size; thread++) this.#attached.push(this.#attach(thread));
  }

  /** Set when no thread can be had any more. */
  get dead(): ServeError | undefined {
    return this.#dead;
  }

  post(thread: number, message: Outgoing, transfer?: Transferable[]): void {
    this.#attached[thread]!.port.postMessage(message, transfer);
  }

  /** Posts `last` to every thread and resolves when all have ended; what was posted before is done before. */
  async close(last: Outgoing): Promise<void> {
    this.#closing = true;
    for (const { port } of this.#attached) port.postMessage(last);
    await Promise.race([Promise.all(this.#attached.map(({ ended }) => ended)), this.#gaveUp.promise]);
    if (!this.#dead) {
      await this.#piscina.close();
      return;
    }
    // No thread runs anything; those that never started have tasks that never end.
    for (const { port } of this.#attached) port.close();
    await this.#piscina.destroy();
  }

  #attach(thread: number): Attachment {
    const { port1: port, port2 } = new MessageChannel();
    const hear = (message: Incoming): void => {
      // What a thread that goes on still does was given up with the others.
      if (this.#dead) return;
      this.#silentLosses = 0;
      this.#heard = true;
      this.#options.onMessage(thread, message);
    };
    port.on('message', hear);
    const ended = this.#piscina.run({ port: port2 }, { transferList: [port2] }).then(
      () => {
        // The end of the task comes another way, and may come before the last words of the thread.
        for (let last = receiveMessageOnPort(port); last; last = receiveMessageOnPort(port))
          hear(last.message as Incoming);
        port.close();
      },
      (reason: unknown) => {
        port.close();
        this.#lost(thread, reason);
      },
    );
    return { port, ended };
  }

  #lost(thread: number, reason: unknown): void {
    if (!this.#closing) {
      if (++this.#silentLosses > MAX_SILENT_LOSSES) this.#giveUp(reason);
      else this.#attached[thread] = this.#attach(thread);
    }
    this.#options.onLost(thread, reasonOf(reason));
  }

  #giveUp(reason: unknown): void {
    if (this.#dead) return;
    this.#dead = new ServeError('UNAVAILABLE', `${this.#options.name} can't be started: ${reasonOf(reason)}`);
    this.#gaveUp.resolve();
    this.#options.onDead(this.#dead);
  }
}

/** Without paths: it may be told to clients. */
function reasonOf(reason: unknown): string {
  if (!(reason instanceof Error)) return 'no reason was given';
  return printable(withoutPaths(reason.message), 200);
}
