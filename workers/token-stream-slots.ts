/**
 * The places of the batch: who has one, who waits, whose keys and values are kept beside.
 *
 * Called by workers/token-stream.ts between runs. Owns the decoder's rows and every stream's state; a stream has a row from the first run
 * of its prompt on. Never runs the decoder, writes no records: streams that can't be served are told to `onFailed`.
 */

import { ServeError } from '#src/base/errors';
import type { GenerationSpec } from '#src/runtime/generation-messages';
import type { Failure } from '#src/runtime/messages';
import type { Decoder, DecoderRow } from './decoder-types.js';
import { failureOf } from './ort-error.js';
import { commonPrefix, LEAST_PREFIX, PrefixCache } from './prefix-cache.js';
import type { TokenStream } from './token-stream-state.js';
import { WaitingLine } from './waiting-line.js';

export interface TokenSlotsOptions {
  readonly decoder: Decoder;
  readonly spec: Pick<GenerationSpec, 'maxSequences' | 'kvCacheBytes' | 'prefixCacheBytes'>;
  /** The stream has left already. */
  readonly onFailed: (stream: TokenStream, failure: Failure) => void;
}

export class TokenSlots {
  readonly prefixes: PrefixCache;
  readonly #decoder: Decoder;
  readonly #options: TokenSlotsOptions;
  readonly #waiting = new WaitingLine<TokenStream>();
  readonly #resuming = new Set<TokenStream>();
  readonly #paused = new Set<TokenStream>();
  /** With a place, the one that came first first. */
  readonly #prefilling = new Set<TokenStream>();
  readonly #running = new Set<TokenStream>();
  #pausedBytes = 0;
  /** Someone left or came since nobody could be let in. */
  #changed = false;
  /** The running streams in order, until one comes or leaves. */
  #batch: readonly TokenStream[] | undefined;

  constructor(options: TokenSlotsOptions) {
    this.#options = options;
    this.#decoder = options.decoder;
    this.prefixes = new PrefixCache(options.spec.prefixCacheBytes, options.decoder.canCut);
  }

  get runningCount(): number {
    return this.#running.size + this.#prefilling.size;
  }

  get waitingCount(): number {
    return this.#waiting.size + this.#resuming.size;
  }

  get pausedCount(): number {
    return this.#paused.size;
  }

  /** Keys and values of streams, in the batch and beside it. */
  get usedBytes(): number {
    return this.#decoder.usedBytes + this.#pausedBytes;
  }

  get heldBytes(): number {
    return this.#decoder.heldBytes + this.#pausedBytes;
  }

  /** Streams that decode; the same array until that changes. */
  get batch(): readonly TokenStream[] {
    return (this.#batch ??= [...this.#running]);
  }

  /** The stream whose prompt is worked on. */
  get prefilling(): TokenStream | undefined {
    for (const stream of this.#prefilling) return stream;
    return undefined;
  }

  wait(stream: TokenStream): void {
    this.#waiting.push(stream);
    this.#changed = true;
  }

  /** Lets in whom there is room for: those who had a place before, then those who wait, in turn. */
  admit(now: number): void {
    if (!this.#changed) return;
    this.#changed = false;
    for (const stream of this.#resuming) {
      if (!this.#hasRoom(stream)) return;
      this.#resume(stream);
    }
    for (let stream = this.#waiting.peek(); stream; stream = this.#waiting.peek()) {
      if (!this.#decoder.fits(stream.reserved, [])) {
        this.#waiting.remove(stream);
        this.#fail(stream, new ServeError('RESOURCE_EXHAUSTED', this.#neverFits(stream)));
        continue;
      }
      // What stalled readers hold is bounded too: until they read, nobody new comes in.
      if (this.#pausedBytes >= this.#options.spec.kvCacheBytes || !this.#hasRoom(stream)) return;
      this.#waiting.shift();
      stream.state = 'prefilling';
      stream.scheduledMs = now;
      this.#prefilling.add(stream);
    }
  }

  /** Gives a stream whose prompt is to be worked on its row, with what is known of its prompt already in it; false if that failed. */
  open(stream: TokenStream, now: number): boolean {
    stream.prefillMs = now;
    try {
      stream.row = this.#begin(stream) ?? this.#decoder.add();
      stream.cachedTokens = stream.row.length;
      return true;
    } catch (error) {
      this.leave(stream);
      this.#fail(stream, error);
      return false;
    }
  }

  /** The prompt is done and the first token chosen. */
  run(stream: TokenStream): void {
    this.#prefilling.delete(stream);
    this.#running.add(stream);
    this.#batch = undefined;
    stream.state = 'running';
  }

  /** Takes a stream without credit out of the batch. */
  pause(stream: TokenStream): void {
    const { row } = stream;
    try {
      if (row) stream.saved = this.#decoder.save(row, row.length);
    } catch (error) {
      this.leave(stream);
      this.#fail(stream, error);
      return;
    }
    this.#pausedBytes += stream.saved?.byteLength ?? 0;
    this.#giveUpPlace(stream);
    this.#paused.add(stream);
    stream.state = 'paused';
  }

  /** A paused stream has credit again. */
  wake(stream: TokenStream): void {
    if (!this.#paused.delete(stream)) return;
    this.#resuming.add(stream);
    stream.state = 'resuming';
    this.#changed = true;
  }

  /** Takes a stream out for good, wherever it is. Its keys and values are kept for prompts that begin like it, if `keep`. */
  leave(stream: TokenStream, keep = false): void {
    if (stream.state === 'waiting') this.#waiting.remove(stream);
    if (this.#paused.delete(stream) || this.#resuming.delete(stream))
      this.#pausedBytes -= stream.saved?.byteLength ?? 0;
    if (keep) this.#keep(stream);
    this.#giveUpPlace(stream);
    stream.saved = undefined;
    stream.state = 'ended';
  }

  #hasRoom({ reserved }: TokenStream): boolean {
    if (this.runningCount >= this.#options.spec.maxSequences) return false;
    const lengths = [...this.#running, ...this.#prefilling].map((other) => other.reserved);
    return this.#decoder.fits(reserved, lengths);
  }

  #resume(stream: TokenStream): void {
    const { saved } = stream;
    this.#resuming.delete(stream);
    this.#pausedBytes -= saved?.byteLength ?? 0;
    stream.saved = undefined;
    try {
      if (saved) stream.row = this.#decoder.restore(saved, saved.length);
      this.run(stream);
    } catch (error) {
      this.leave(stream);
      this.#fail(stream, error);
    }
  }

  /** A row with the longest beginning of the prompt that an ended or running stream has. One token is left to run: its logits are wanted. */
  #begin(stream: TokenStream): DecoderRow | undefined {
    if (this.#options.spec.prefixCacheBytes === 0) return undefined;
    const { prompt } = stream;
    const most = prompt.length - 1;
    const found = this.prefixes.find(prompt, most);
    let length = Math.max(found?.length ?? 0, LEAST_PREFIX - 1);
    let donor: TokenStream | undefined;
    for (const streams of [this.#running, this.#prefilling])
      for (const other of streams) {
        const same = commonPrefix(other.inRow, prompt, most);
        if (same <= length || (!this.#decoder.canCut && same < other.inRow.length)) continue;
        donor = other;
        length = same;
      }
    if (donor?.row) return this.#decoder.restore(this.#decoder.save(donor.row, length), length);
    return found && this.#decoder.restore(found.saved, found.length);
  }

  #keep(stream: TokenStream): void {
    const { row, saved } = stream;
    if (!(row ?? saved) || this.#options.spec.prefixCacheBytes === 0) return;
    const tokens = stream.inRow;
    if (!this.prefixes.wants(tokens, tokens.length * this.#decoder.kvBytesPerToken)) return;
    try {
      this.prefixes.add(tokens.slice(), row ? this.#decoder.save(row, row.length) : saved!);
    } catch {
      // Only a cache: a stream that has ended well has done so without it, too.
      this.prefixes.clear();
    }
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
