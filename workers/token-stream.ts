/**
 * The step loop: many streams, one decoder, one run at a time.
 *
 *   hear messages ──▶ let in ──▶ decode: one token for each running stream ──▶ hear, let in ──▶ prefill: one chunk of one prompt ──┐
 *         ▲                                                                                                                       │
 *         └──────────────────────────────────── nothing to do: wait for a message ◀───────────────────────────────────────────────┘
 *
 * Called by workers/token-stream-worker.ts. Owns the order of runs and what each took; streams come, leave and pause between runs only, so
 * a cancelled one is out before the next. A run that fails ends its streams and nothing else. Never throws for one.
 */
import { nowMs } from '#src/base/clock';
import { GAUGE, type GenerationSpec, type StartStream } from '#src/runtime/generation-messages';
import type { Failure } from '#src/runtime/messages';
import type { Decoder, DecoderRow } from './decoder-types.js';
import type { Detokenizer } from './detokenizer.js';
import { failureOf } from './ort-error.js';
import { chunkMs, chunkTokens, RunTimes } from './step-policy.js';
import { TokenSlots } from './token-stream-slots.js';
import { TokenStream } from './token-stream-state.js';
import { type RecordRing, TokenWriter } from './token-stream-writer.js';
import { TokenTeller } from './token-teller.js';

export interface StepLoopOptions {
  readonly decoder: Decoder;
  readonly detokenizer: Detokenizer;
  readonly spec: Pick<
    GenerationSpec,
    'contextLength' | 'maxSequences' | 'kvCacheBytes' | 'prefixCacheBytes' | 'prefillChunk'
  >;
  readonly ring: RecordRing;
  readonly gauges: Float64Array;
  /** Hands over all messages that have come, as calls of `start`, `cancel`, `credit` and `close`. */
  readonly hear: () => void;
  /** Resolves when a message has come; at once if one is there. */
  readonly message: () => Promise<void>;
  /** Milliseconds, by which runs are timed; the clock of base/clock.ts unless a test has its own. */
  readonly now?: () => number;
}

const SHUTTING_DOWN: Failure = { code: 'UNAVAILABLE', message: 'server is shutting down' };

export class StepLoop {
  readonly #options: StepLoopOptions;
  readonly #decoder: Decoder;
  readonly #slots: TokenSlots;
  readonly #writer: TokenWriter;
  readonly #teller: TokenTeller;
  readonly #times = new RunTimes();
  readonly #now: () => number;
  readonly #streams = new Map<number, TokenStream>();
  /** What the last step ran: the same arrays go into the next while nobody comes or leaves. */
  #batch: readonly TokenStream[] = [];
  #rows: readonly DecoderRow[] = [];
  #tokens = new Int32Array();
  /** When the last run ended; what passes until the next is the loop's own. */
  #idleSince: number;
  /** When the last step ended. */
  #decodedAt = 0;
  /** The prompt's run was left out in this turn. */
  #putOff = false;
  #closing = false;

  constructor(options: StepLoopOptions) {
    const { decoder, spec, ring, detokenizer } = options;
    this.#options = options;
    this.#decoder = decoder;
    this.#now = options.now ?? nowMs;
    this.#idleSince = this.#now();
    this.#teller = new TokenTeller(ring);
    this.#slots = new TokenSlots({
      decoder,
      spec,
      onFailed: (stream, failure) => this.#failed(stream, failure),
    });
    this.#writer = new TokenWriter({
      ring,
      detokenizer,
      vocabularySize: decoder.vocabularySize,
      contextLength: spec.contextLength,
    });
  }

  /** Runs until `close`; then all streams have failed and no run is under way. */
  async run(): Promise<void> {
    /** Nothing has happened since messages were heard last. */
    let hasHeard = false;
    for (;;) {
      if (!hasHeard) this.#between();
      hasHeard = false;
      if (this.#closing) return;
      this.#slots.grow();
      const batch = this.#slots.batch;
      if (batch.length > 0) {
        await this.#decode(batch);
        this.#between();
        if (this.#closing) return;
        // Before the prompt's run, which is shorter by what this takes.
        this.#slots.grow();
      }
      const prompt = this.#slots.nextPrompt();
      if (prompt) await this.#prefill(prompt);
      else if (this.#slots.batch.length > 0) hasHeard = true;
      else {
        await this.#options.message();
        this.#idleSince = this.#now();
      }
    }
  }

  start(message: StartStream): void {
    const { contextLength } = this.#options.spec;
    const { tokens, stream: number } = message;
    if (tokens.length === 0 || tokens.length >= contextLength) {
      const problem = tokens.length === 0 ? 'the prompt is empty' : `the prompt has ${tokens.length} tokens`;
      this.#writer.fail(number, {
        code: 'INVALID_ARGUMENT',
        message: `${problem}, expected 1 to ${contextLength - 1}: the context is ${contextLength} with the text`,
      });
      this.#teller.hurry();
      return;
    }
    const stream = new TokenStream(message, contextLength);
    this.#streams.set(number, stream);
    this.#slots.wait(stream);
  }

  /** A stream that has ended is no error: its end and the cancel may have crossed. */
  cancel(number: number): void {
    const stream = this.#streams.get(number);
    if (!stream) return;
    this.#streams.delete(number);
    this.#slots.leave(stream, true);
    this.#writer.cancelled(number);
    this.#teller.hurry();
  }

  credit(number: number, deltas: number): void {
    const stream = this.#streams.get(number);
    if (!stream) return;
    stream.credit += deltas;
    if (stream.state === 'paused' && stream.credit >= stream.resumeCredit) this.#slots.wake(stream);
  }

  close(): void {
    this.#closing = true;
    this.#teller.hurry();
    for (const stream of this.#streams.values()) {
      this.#slots.leave(stream);
      this.#writer.fail(stream.number, SHUTTING_DOWN);
    }
    this.#streams.clear();
    this.#slots.prefixes.clear();
  }

  /** What happens between two runs. */
  #between(): void {
    const { hear, gauges } = this.#options;
    // What was chosen goes first, and who hears of an end finds the counts without it. What is heard may have answers of its own.
    this.#slots.count(gauges);
    this.#tell();
    hear();
    if (!this.#closing) this.#slots.admit(this.#now());
    this.#slots.count(gauges);
    this.#tell();
  }

  #tell(): void {
    const stepIsNext = !this.#closing && this.#slots.batch.length > 0 && !this.#slots.hasPrompt;
    this.#teller.tell(this.#idleSince, this.#times.decodeMs, stepIsNext);
  }

  async #decode(batch: readonly TokenStream[]): Promise<void> {
    // State that can't be batched is run stream by stream anyway; so each gets its token as soon as it is there.
    if (this.#decoder.layout === 'alone') {
      for (const stream of batch) {
        if (stream.state === 'running') await this.#decodeAlone(stream);
        this.#between();
        if (this.#closing) return;
      }
      return;
    }
    if (batch !== this.#batch) {
      this.#batch = batch;
      this.#rows = batch.map(({ row }) => row!);
      this.#tokens = new Int32Array(batch.length);
    }
    for (let row = 0; row < batch.length; row++) this.#tokens[row] = batch[row]!.lastToken;
    const start = this.#started();
    let logits: Float32Array;
    try {
      logits = await this.#decoder.decode(this.#rows, this.#tokens);
    } catch (error) {
      this.#ended(start);
      if (batch.length === 1) this.#fail(batch[0]!, failureOf(error, 'run'));
      // One of them is to blame, and nobody knows which: each once more, alone.
      else for (const stream of batch) await this.#decodeAlone(stream);
      return;
    }
    this.#decoded(start, batch.length);
    const { vocabularySize } = this.#decoder;
    for (let row = 0; row < batch.length; row++)
      this.#take(batch[row]!, logits.subarray(row * vocabularySize, (row + 1) * vocabularySize));
  }

  async #decodeAlone(stream: TokenStream): Promise<void> {
    const start = this.#started();
    try {
      const logits = await this.#decoder.decode([stream.row!], Int32Array.of(stream.lastToken));
      this.#decoded(start, 1);
      this.#take(stream, logits);
    } catch (error) {
      this.#ended(start);
      this.#fail(stream, failureOf(error, 'run'));
    }
  }

  async #prefill(stream: TokenStream): Promise<void> {
    const { gauges, spec } = this.#options;
    if (!stream.row) {
      if (!this.#slots.open(stream)) return;
      if (stream.prefillMs === 0) this.#begun(stream);
    }
    const row = stream.row!;
    const { remaining } = stream;
    const running = this.#slots.batch.length;
    const spentMs = this.#now() - this.#decodedAt;
    // Making room took a chunk's time already: the streams that run come first, once.
    this.#putOff = running > 0 && !this.#putOff && this.#times.decodeMs > 0 && spentMs >= chunkMs(this.#times);
    if (this.#putOff) return;
    const tokens = chunkTokens({ remaining, running, spentMs, prefillChunk: spec.prefillChunk }, this.#times);
    const last = tokens === remaining;
    const start = this.#started();
    try {
      const chunk = stream.tokens.subarray(row.length, row.length + tokens);
      const logits = await this.#decoder.prefill(row, chunk, last);
      const ms = this.#ended(start);
      this.#times.prefilled(tokens, ms);
      gauges[GAUGE.prefillRuns]! += 1;
      gauges[GAUGE.prefillMs]! += ms;
      if (!last) return;
      this.#slots.run(stream);
      this.#take(stream, logits!);
    } catch (error) {
      this.#ended(start);
      this.#fail(stream, failureOf(error, 'run'));
    }
  }

  /** The stream has its first row; what is computed again later is no prompt. */
  #begun(stream: TokenStream): void {
    const { gauges } = this.#options;
    stream.prefillMs = this.#now();
    stream.cachedTokens = stream.row!.length;
    gauges[GAUGE.promptTokens]! += stream.promptLength;
    gauges[GAUGE.prefixHitTokens]! += stream.cachedTokens;
  }

  /** Chooses a stream's token; it may end or pause by it. */
  #take(stream: TokenStream, logits: Float32Array): void {
    try {
      if (this.#writer.next(stream, logits)) {
        this.#streams.delete(stream.number);
        this.#slots.leave(stream, true);
        this.#teller.hurry();
      } else if (stream.credit <= 0) {
        this.#slots.pause(stream);
        this.#teller.hurry();
      }
    } catch (error) {
      this.#fail(stream, failureOf(error, 'run'));
    }
  }

  #fail(stream: TokenStream, failure: Failure): void {
    this.#slots.leave(stream);
    this.#failed(stream, failure);
  }

  #failed(stream: TokenStream, failure: Failure): void {
    this.#streams.delete(stream.number);
    this.#writer.fail(stream.number, failure);
    this.#teller.hurry();
  }

  #decoded(start: number, streams: number): void {
    const { gauges } = this.#options;
    const ms = this.#ended(start);
    this.#decodedAt = this.#idleSince;
    this.#times.decoded(ms);
    gauges[GAUGE.decodeSteps]! += 1;
    gauges[GAUGE.decodeMs]! += ms;
    gauges[GAUGE.stepsBySize + streams - 1]! += 1;
  }

  /** A run begins. */
  #started(): number {
    const now = this.#now();
    this.#options.gauges[GAUGE.hostMs]! += now - this.#idleSince;
    return now;
  }

  /** A run has ended; returns what it took. */
  #ended(start: number): number {
    this.#idleSince = this.#now();
    return this.#idleSince - start;
  }
}
