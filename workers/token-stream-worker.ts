/**
 * A token-stream worker: piscina starts it with one task that lasts until `close`, and that task serves a MessagePort (see
 * workers/inference-worker.ts for why) and a ring.
 *
 * Owns this thread's one decoder and its step loop. Messages are taken between runs, all that are there: those that the event loop has
 * delivered meanwhile and those that it has not. Must not throw for an expected failure.
 */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { nowMs } from '#src/base/clock';
import { ServeError } from '#src/base/errors';
import {
  FLAG_FAILED,
  type FromTokenStreamWorker,
  type GenerationSpec,
  type LoadedGeneration,
  RECORDS_THERE,
  type ToTokenStreamWorker,
} from '#src/runtime/generation-messages';
import { RingWriter } from '#src/runtime/token-ring';
import { loadDecoder } from './decoder.js';
import type { Decoder } from './decoder-types.js';
import { Detokenizer } from './detokenizer.js';
import { failureOf } from './ort-error.js';
import { StepLoop } from './token-stream.js';

/** The piscina task: serves `port` until `close`; resolves when the decoder is released. */
export default async function serve({ port }: { port: MessagePort }): Promise<void> {
  const worker = new TokenStreamServer(port);
  try {
    await worker.run();
  } finally {
    port.close();
  }
}

class TokenStreamServer {
  readonly #port: MessagePort;
  /** Delivered by the event loop, not heard. */
  readonly #inbox: ToTokenStreamWorker[] = [];
  #tellMessage: (() => void) | undefined;
  #ring: RingWriter | undefined;
  #gauges: Float64Array = new Float64Array();
  #decoder: Decoder | undefined;
  #loop: StepLoop | undefined;
  /** A `load` that was heard and is not answered. */
  #load: Extract<ToTokenStreamWorker, { type: 'load' }> | undefined;
  #closing = false;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on('message', (message: ToTokenStreamWorker) => {
      this.#inbox.push(message);
      this.#tellMessage?.();
    });
  }

  async run(): Promise<void> {
    while (!this.#closing && !this.#loop) {
      await this.#message();
      this.#hear();
      if (this.#load && !this.#closing) await this.#answer(this.#load);
    }
    try {
      await this.#loop?.run();
    } finally {
      // The thread may serve another task, whose model needs the memory.
      await this.#decoder?.release();
    }
  }

  readonly #message = (): Promise<void> => {
    if (this.#inbox.length > 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#tellMessage = () => {
        this.#tellMessage = undefined;
        resolve();
      };
    });
  };

  readonly #hear = (): void => {
    // What the event loop has delivered came first.
    if (this.#inbox.length > 0) for (const message of this.#inbox.splice(0)) this.#handle(message);
    for (let next = receiveMessageOnPort(this.#port); next; next = receiveMessageOnPort(this.#port))
      this.#handle(next.message as ToTokenStreamWorker);
  };

  #handle(message: ToTokenStreamWorker): void {
    switch (message.type) {
      case 'attach':
        this.#ring = new RingWriter(message.ring, () => this.#reply(RECORDS_THERE));
        this.#gauges = new Float64Array(message.gauges);
        return;
      case 'load':
        if (this.#loop || this.#load) this.#reply({ type: 'done', call: message.call, ok: false, failure: LOADED });
        else this.#load = message;
        return;
      case 'start':
        if (this.#loop) this.#loop.start(message);
        else this.#refuse(message.stream);
        return;
      case 'cancel':
        this.#loop?.cancel(message.stream);
        return;
      case 'credit':
        this.#loop?.credit(message.stream, message.deltas);
        return;
      case 'close':
        this.#closing = true;
        this.#loop?.close();
        return;
      default:
        message satisfies never;
    }
  }

  async #answer({ call, spec }: { call: number; spec: GenerationSpec }): Promise<void> {
    try {
      const value = await this.#loaded(spec);
      this.#reply({ type: 'done', call, ok: true, value });
    } catch (error) {
      this.#reply({ type: 'done', call, ok: false, failure: failureOf(error, 'load') });
    }
    this.#load = undefined;
  }

  async #loaded(spec: GenerationSpec): Promise<LoadedGeneration> {
    const ring = this.#ring;
    if (!ring) throw new ServeError('INTERNAL', 'a token-stream worker was given a model before its ring');
    const start = performance.now();
    const before = process.memoryUsage.rss();
    const detokenizer = Detokenizer.create(spec.tokenizerJson, spec.tokenizerConfigJson);
    const decoder = await loadDecoder(spec);
    this.#decoder = decoder;
    this.#loop = new StepLoop({
      decoder,
      detokenizer,
      spec,
      ring,
      gauges: this.#gauges,
      hear: this.#hear,
      message: this.#message,
    });
    const { vocabularySize, layout, kvBytesPerToken, notes } = decoder;
    const grownBytes = Math.max(0, process.memoryUsage.rss() - before);
    return { vocabularySize, layout, kvBytesPerToken, loadMs: performance.now() - start, grownBytes, notes };
  }

  /** A stream that was meant for the thread before this one. */
  #refuse(stream: number): void {
    const failure = { code: 'UNAVAILABLE', message: 'the token-stream worker has no model yet' };
    this.#ring?.write(stream, FLAG_FAILED, 0, 0, nowMs(), '', JSON.stringify({ failure }));
    this.#ring?.publish();
  }

  #reply(message: FromTokenStreamWorker): void {
    this.#port.postMessage(message);
  }
}

const LOADED = { code: 'FAILED_PRECONDITION', message: 'the token-stream worker has its model already' } as const;
