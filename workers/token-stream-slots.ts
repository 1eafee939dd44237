/**
 * The places of the batch: who has one, who waits, whose keys and values are kept beside.
 *
 * Called by workers/token-stream.ts between runs. Owns the decoder's rows and every stream's state; a stream has a row from the first run
 * of its prompt on. Never runs the decoder, writes no records: streams that can't be served are told to `onFailed`.
 *
 * Memory is given by what rows hold, not by what they may grow to. Where it ends, this gives way, in this order: what is kept of streams
 * whose readers stall, the youngest streams' places, what is kept of those. What was given up is computed again. So the oldest always goes
 * on; and whoever comes in or back has LEAST_GROWTH tokens before anyone has to leave again.
 */

import { ServeError } from '#src/base/errors';
import { GAUGE, type GenerationSpec } from '#src/runtime/generation-messages';
import type { Failure } from '#src/runtime/messages';
import type { Decoder } from './decoder-types.js';
import { failureOf } from './ort-error.js';
import { nextPrompt, type PromptTurns } from './step-policy.js';
import { StreamsBeside } from './token-stream-beside.js';
import { SharedPrefixes } from './token-stream-prefixes.js';
import type { TokenStream } from './token-stream-state.js';
import { WaitingLine } from './waiting-line.js';

export interface TokenSlotsOptions {
  readonly decoder: Decoder;
  readonly spec: Pick<GenerationSpec, 'maxSequences' | 'kvCacheBytes' | 'prefixCacheBytes'>;
  /** The stream has left already. */
  readonly onFailed: (stream: TokenStream, failure: Failure) => void;
}

/** Tokens that everybody in the batch can grow by when somebody is let in. */
const LEAST_GROWTH = 32;

export class TokenSlots {
  readonly prefixes: SharedPrefixes;
  readonly #decoder: Decoder;
  readonly #options: TokenSlotsOptions;
  readonly #waiting = new WaitingLine<TokenStream>();
  readonly #beside: StreamsBeside;
  /** With a place, the one that came first first. */
  readonly #prefilling = new Set<TokenStream>();
  readonly #running = new Set<TokenStream>();
  readonly #turns: PromptTurns = { passedOver: 0 };
  #admitted = 0;
  /** Streams that had to leave the batch for others. */
  #preemptions = 0;
  /** Someone left or came since nobody could be let in. */
  #changed = false;
  /** The running streams in order, until one comes or leaves. */
  #batch: readonly TokenStream[] | undefined;
  /** Of the streams with a place; one array for all steps. */
  readonly #lengths: number[] = [];

  constructor(options: TokenSlotsOptions) {
    this.#options = options;
    this.#decoder = options.decoder;
    this.#beside = new StreamsBeside(options.decoder);
    this.prefixes = new SharedPrefixes(options.decoder, options.spec.prefixCacheBytes);
  }

  get runningCount(): number {
    return this.#running.size + this.#prefilling.size;
  }

  /** Writes what there is now. */
  count(gauges: Float64Array): void {
    gauges[GAUGE.running] = this.runningCount;
    gauges[GAUGE.waiting] = this.#waiting.size + this.#beside.returningCount;
    gauges[GAUGE.paused] = this.#beside.stalledCount;
    // Of streams in the batch and beside it.
    gauges[GAUGE.kvUsedBytes] = this.#decoder.usedBytes + this.#beside.bytes;
    gauges[GAUGE.kvBytes] = this.#decoder.heldBytes + this.#beside.bytes;
    gauges[GAUGE.preemptions] = this.#preemptions;
    gauges[GAUGE.prefixBytes] = this.prefixes.bytes;
  }

  /** Streams that decode; the same array until that changes. */
  get batch(): readonly TokenStream[] {
    return (this.#batch ??= [...this.#running]);
  }

  /** Some stream with a place has prompt left. */
  get hasPrompt(): boolean {
    return this.#prefilling.size > 0;
  }

  /** The stream whose prompt is worked on next; asked once for each run. */
  nextPrompt(): TokenStream | undefined {
    return nextPrompt(this.#prefilling, this.#turns);
  }

  wait(stream: TokenStream): void {
    this.#waiting.push(stream);
    this.#changed = true;
  }

  /** Lets in whom there is room for: those who had a place before, the oldest first, then those who wait, in turn. */
  admit(now: number): void {
    if (!this.#changed) return;
    this.#changed = false;
    for (let stream = this.#beside.oldest; stream; stream = this.#beside.oldest) {
      if (!this.#makeRoomFor(stream)) return;
      this.#resume(stream);
    }
    for (let stream = this.#waiting.peek(); stream; stream = this.#waiting.peek()) {
      if (!this.#decoder.fits([stream.reserved], 0)) {
        this.#waiting.remove(stream);
        this.#fail(stream, new ServeError('RESOURCE_EXHAUSTED', this.#neverFits(stream)));
        continue;
      }
      if (!this.#makeRoomFor(stream)) return;
      this.#waiting.shift();
      stream.order = this.#admitted++;
      stream.scheduledMs = now;
      this.#prefill(stream);
    }
  }

  /** Gives a stream whose prompt is to be worked on its row, with what is known of its tokens already in it; false if that failed. */
  open(stream: TokenStream): boolean {
    try {
      stream.row = this.prefixes.begin(stream, this.#running, this.#prefilling) ?? this.#decoder.add();
      return true;
    } catch (error) {
      this.leave(stream);
      this.#fail(stream, error);
      return false;
    }
  }

  /** Makes room for the next step of all that have a place and for their whole prompts; some may have lost their places then. */
  grow(): void {
    if (this.runningCount === 0) return;
    while (!this.#fits()) {
      if (this.#beside.dropStalled()) continue;
      if (this.runningCount > 1) this.#preempt(this.#youngest());
      else if (!this.#beside.dropYoungest()) return;
    }
    let longest = 0;
    for (const length of this.#lengths) longest = Math.max(longest, length);
    this.#decoder.reserve(this.#lengths.length, longest);
  }

  /** The prompt is done and the next token chosen. */
  run(stream: TokenStream): void {
    this.#prefilling.delete(stream);
    this.#running.add(stream);
    this.#batch = undefined;
    stream.state = 'running';
  }

  /** Takes a stream without credit out of the batch. */
  pause(stream: TokenStream): void {
    const saved = this.#beside.copyOf(stream);
    this.#giveUpPlace(stream);
    this.#beside.stall(stream, saved);
  }

  /** A paused stream has credit again. */
  wake(stream: TokenStream): void {
    if (this.#beside.wake(stream)) this.#changed = true;
  }

  /** Takes a stream out for good, wherever it is. Its keys and values are kept for prompts that begin like it, if `keep`. */
  leave(stream: TokenStream, keep = false): void {
    if (stream.state === 'waiting') this.#waiting.remove(stream);
    if (keep) this.prefixes.keep(stream);
    this.#giveUpPlace(stream);
    this.#beside.remove(stream);
    stream.state = 'ended';
  }

  /** Whether those with a place, and one more, can have room for so many tokens more than they have. */
  #fits(growth = 0, more?: TokenStream, besideBytes = this.#beside.bytes): boolean {
    const lengths = this.#lengths;
    lengths.length = 0;
    for (const stream of this.#running) lengths.push(Math.min(stream.length + growth, stream.reserved));
    for (const stream of this.#prefilling) lengths.push(Math.min(stream.length + growth, stream.reserved));
    if (more) lengths.push(Math.min(more.length + growth, more.reserved));
    return this.#decoder.fits(lengths, besideBytes);
  }

  /** Nobody leaves the batch for one that wants in; but a reader that stalls must not keep others waiting, and somebody has to run. */
  #makeRoomFor(stream: TokenStream): boolean {
    if (this.runningCount >= this.#options.spec.maxSequences) return false;
    const own = stream.saved?.byteLength ?? 0;
    const isAlone = this.runningCount === 0;
    const { stalledBytes } = this.#beside;
    if (!isAlone && !this.#fits(LEAST_GROWTH, stream, this.#beside.bytes - own - stalledBytes)) return false;
    while (!this.#fits(LEAST_GROWTH, stream, this.#beside.bytes - own))
      if (!this.#beside.dropStalled() && !this.#beside.dropYoungest(stream)) break;
    return true;
  }

  #prefill(stream: TokenStream): void {
    this.#prefilling.add(stream);
    stream.state = 'prefilling';
  }

  #resume(stream: TokenStream): void {
    const saved = this.#beside.remove(stream);
    try {
      if (saved) stream.row = this.#decoder.restore(saved, saved.length);
      if (stream.remaining === 1 && stream.chosen > 0) this.run(stream);
      else this.#prefill(stream);
    } catch (error) {
      this.leave(stream);
      this.#fail(stream, error);
    }
  }

  #preempt(stream: TokenStream): void {
    if (stream.row) this.#preemptions++;
    const saved = this.#beside.copyOf(stream);
    this.#giveUpPlace(stream);
    this.#beside.preempt(stream, saved);
  }

  #youngest(): TokenStream {
    let youngest: TokenStream | undefined;
    for (const streams of [this.#running, this.#prefilling])
      for (const stream of streams) if (stream.order > (youngest?.order ?? -1)) youngest = stream;
    return youngest!;
  }

  #giveUpPlace(stream: TokenStream): void {
    this.#prefilling.delete(stream);
    if (this.#running.delete(stream)) this.#batch = undefined;
    if (stream.row) this.#decoder.remove(stream.row);
    stream.row = undefined;
    this.#changed = true;
  }

  #fail(stream: TokenStream, error: unknown): void {
    stream.state = 'ended';
    this.#options.onFailed(stream, failureOf(error, 'run'));
  }

  #neverFits({ promptLength, reserved }: TokenStream): string {
    const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
    const bytes = megabytes(reserved * this.#decoder.kvBytesPerToken);
    return `a prompt of ${promptLength} tokens and up to ${reserved - promptLength} more need ${bytes} of keys and values, of ${megabytes(this.#options.spec.kvCacheBytes)} that there are`;
  }
}
