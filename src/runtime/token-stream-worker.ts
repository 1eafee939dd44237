/**
 * Main's side of a token-stream worker: a thread, a port for what is said to it, a ring for what it says of tokens.
 *
 *   main                              worker (piscina thread, one task that lasts)
 *   start, cancel, credit ──port──▶   step loop over one decoder
 *   onRecord           ◀──ring─────   one record for each chosen token, once a step; the port wakes main
 *   gauges             ◀──shared───   counts
 *
 * Called by the engine, which has one for each model that generates text. Owns the thread, the ring, and the numbers of streams: one is
 * given again only after its last record. Must not know a model's name, a client or a protocol.
 */
import { ServeError } from '../base/errors.js';
import {
  FLAG_CANCELLED,
  FLAG_END,
  FLAG_FAILED,
  type FromTokenStreamWorker,
  GAUGE,
  type GenerationSpec,
  type LoadedGeneration,
  RECORDS_THERE,
  type StartStream,
  type ToTokenStreamWorker,
} from './generation-messages.js';
import type { CallReply } from './messages.js';
import { PortThreads } from './port-threads.js';
import { createRing, DEFAULT_RING_BYTES, RingReader } from './token-ring.js';
import type { StreamListener, StreamRecord, TokenStreams } from './token-streams.js';

export interface TokenStreamWorkerOptions {
  /** Compiled `workers/token-stream-worker.js`. */
  readonly workerFile: string;
  /** As in the spec that will be loaded; the gauges have a count for each. */
  readonly maxSequences: number;
  readonly ringBytes?: number;
  /** The thread died, and every stream has been told. A new one is there, without a model: `load` it again. */
  readonly onLost: (reason: string) => void;
}

const LAST = FLAG_END | FLAG_FAILED | FLAG_CANCELLED;
/** Gauges of what is now; a new thread has none of it. The others are sums, which go on. */
const MOMENTARY = [GAUGE.running, GAUGE.waiting, GAUGE.paused, GAUGE.kvUsedBytes, GAUGE.kvBytes, GAUGE.prefixBytes];

interface Call {
  resolve(value: LoadedGeneration): void;
  reject(error: ServeError): void;
}

export class TokenStreamWorker implements TokenStreams {
  readonly gauges: Float64Array;
  readonly #options: TokenStreamWorkerOptions;
  readonly #threads: PortThreads<ToTokenStreamWorker, FromTokenStreamWorker>;
  readonly #sharedGauges: SharedArrayBuffer;
  #reader: RingReader;
  /** By number; undefined = free. */
  readonly #listeners: (StreamListener | undefined)[] = [];
  readonly #free: number[] = [];
  #streamCount = 0;
  readonly #calls = new Map<number, Call>();
  #nextCall = 0;
  #closing: Promise<void> | undefined;

  constructor(options: TokenStreamWorkerOptions) {
    this.#options = options;
    this.#sharedGauges = new SharedArrayBuffer((GAUGE.stepsBySize + options.maxSequences) * 8);
    this.gauges = new Float64Array(this.#sharedGauges);
    this.#threads = new PortThreads({
      size: 1,
      workerFile: options.workerFile,
      name: 'token-stream workers',
      onMessage: (_thread, message) => {
        if (message === RECORDS_THERE) this.#reader.drain();
        else this.#settle(message);
      },
      onLost: (_thread, reason) => this.#lost(reason),
      onDead: (error) => this.#dead(error),
    });
    this.#reader = this.#attach();
  }

  get streamCount(): number {
    return this.#streamCount;
  }

  load(spec: GenerationSpec): Promise<LoadedGeneration> {
    const call = this.#nextCall++;
    return new Promise((resolve, reject) => {
      const refused = this.#refusal;
      if (refused) {
        reject(refused);
        return;
      }
      this.#calls.set(call, { resolve, reject });
      this.#threads.post(0, { type: 'load', call, spec });
    });
  }

  start(start: Omit<StartStream, 'type' | 'stream'>, listener: StreamListener): number {
    const stream = this.#free.pop() ?? this.#listeners.length;
    this.#listeners[stream] = listener;
    this.#streamCount++;
    const refused = this.#refusal;
    // Told later: the caller doesn't have its number yet.
    if (refused) queueMicrotask(() => this.#lose(stream, listener, refused));
    else this.#threads.post(0, { type: 'start', stream, ...start }, [start.tokens.buffer]);
    return stream;
  }

  cancel(stream: number): void {
    if (this.#listeners[stream]) this.#threads.post(0, { type: 'cancel', stream });
  }

  credit(stream: number, deltas: number): void {
    if (this.#listeners[stream]) this.#threads.post(0, { type: 'credit', stream, deltas });
  }

  close(): Promise<void> {
    this.#closing ??= this.#threads.close({ type: 'close' }).then(() => {
      this.#reader.drain();
      this.#endAll(new ServeError('UNAVAILABLE', 'server is shutting down'));
    });
    return this.#closing;
  }

  /** Why there is no thread to be asked. */
  get #refusal(): ServeError | undefined {
    return this.#threads.dead ?? (this.#closing && new ServeError('UNAVAILABLE', 'server is shutting down'));
  }

  /** A ring for a new thread: what a lost one was writing is of no use. */
  #attach(): RingReader {
    const ring = createRing(this.#options.ringBytes ?? DEFAULT_RING_BYTES);
    this.#threads.post(0, { type: 'attach', ring, gauges: this.#sharedGauges });
    return new RingReader(ring, this.#hear);
  }

  readonly #hear = (stream: number, record: StreamRecord): void => {
    const listener = this.#listeners[stream];
    if (!listener) return;
    if ((record.flags & LAST) !== 0) this.#release(stream);
    listener.onRecord(record);
  };

  #release(stream: number): void {
    this.#listeners[stream] = undefined;
    this.#free.push(stream);
    this.#streamCount--;
  }

  #settle(reply: CallReply): void {
    const call = this.#calls.get(reply.call);
    this.#calls.delete(reply.call);
    if (reply.ok) call?.resolve(reply.value as LoadedGeneration);
    else call?.reject(new ServeError(reply.failure.code, reply.failure.message));
  }

  #lost(reason: string): void {
    // What it had published is whole.
    this.#reader.drain();
    for (const gauge of MOMENTARY) this.gauges[gauge] = 0;
    if (!this.#threads.dead && !this.#closing) this.#reader = this.#attach();
    this.#endAll(new ServeError('UNAVAILABLE', 'the token-stream worker was lost'));
    if (!this.#closing) this.#options.onLost(reason);
  }

  #dead(error: ServeError): void {
    this.#endAll(error);
  }

  #endAll(error: ServeError): void {
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    for (const { reject } of calls) reject(error);
    for (const [stream, listener] of this.#listeners.entries()) if (listener) this.#lose(stream, listener, error);
  }

  /** Unless it has heard its end. */
  #lose(stream: number, listener: StreamListener, error: ServeError): void {
    if (this.#listeners[stream] !== listener) return;
    this.#release(stream);
    listener.onLost(error);
  }
}
