/**
 * One stream in the worker: its tokens, its window, its place.
 *
 *   start ──▶ waiting ──▶ prefilling ──▶ running ──▶ ended
 *                           │ ▲ │          │ ▲ │
 *                           │ │ └▶ paused ◀┘ │ │       no credit left: the row is saved, the place is free
 *                           ▼ │       ▼      │ ▼
 *                           resuming ────────┘         credit came, or others needed the memory: waits for a place, before those that wait
 *
 * What was saved may be given up too: then its tokens are worked on as a prompt is.
 *
 * Called by the parts of the step loop, who change it; each field says who. Must not know the ring or the decoder.
 */
import type { Sampling, StartStream } from '#src/runtime/generation-messages';
import type { DecoderRow, SavedRow } from './decoder-types.js';
import { Sampler } from './sampler.js';
import type { TokenText } from './token-stream-text.js';

export type StreamState = 'waiting' | 'prefilling' | 'running' | 'paused' | 'resuming' | 'ended';

export class TokenStream {
  readonly number: number;
  readonly clientKey: string;
  readonly sampling: Sampling;
  readonly promptLength: number;
  /** Tokens that it will have at most. */
  readonly reserved: number;
  /** Ids after which it ends. */
  readonly endIds: ReadonlySet<number>;
  /** Credit at which a paused stream goes on: half its window, so that a slow reader doesn't have its row copied for each token. */
  readonly resumeCredit: number;
  /** Changed by token-stream-slots.ts alone. */
  state: StreamState = 'waiting';
  row: DecoderRow | undefined;
  saved: SavedRow | undefined;
  /** Those that were let in before have lower ones. */
  order = 0;
  cachedTokens = 0;
  scheduledMs = 0;
  prefillMs = 0;
  /** Deltas that may still be sent. */
  credit: number;
  chosen = 0;
  cumulativeLogprob = 0;
  text: TokenText | undefined;
  #tokens: Int32Array;
  #length: number;
  #sampler: Sampler | undefined;

  constructor({ stream, tokens, sampling, window, clientKey }: StartStream, contextLength: number) {
    this.number = stream;
    this.clientKey = clientKey;
    this.sampling = sampling;
    this.promptLength = tokens.length;
    this.reserved = Math.min(tokens.length + sampling.maxTokens, contextLength);
    this.endIds = new Set([...sampling.eosTokenIds, ...sampling.stopTokenIds]);
    this.credit = Math.max(1, window);
    this.resumeCredit = Math.max(1, window >> 1);
    this.#tokens = tokens;
    this.#length = tokens.length;
  }

  /** Prompt and chosen tokens. */
  get length(): number {
    return this.#length;
  }

  /** Prompt and chosen tokens, as a view. */
  get tokens(): Int32Array {
    return this.#tokens.subarray(0, this.#length);
  }

  /** Tokens that its row does not have yet; the last one's logits give the next. */
  get remaining(): number {
    return this.#length - (this.row?.length ?? 0);
  }

  /** Those whose keys and values its row has, or what was saved of it, as a view. */
  get inRow(): Int32Array {
    return this.#tokens.subarray(0, (this.row ?? this.saved)?.length ?? 0);
  }

  get prompt(): Int32Array {
    return this.#tokens.subarray(0, this.promptLength);
  }

  get lastToken(): number {
    return this.#tokens[this.#length - 1]!;
  }

  push(token: number): void {
    if (this.#length === this.#tokens.length) {
      const grown = new Int32Array(Math.max(32, Math.min(this.reserved, this.#length * 2)));
      grown.set(this.#tokens);
      this.#tokens = grown;
    }
    this.#tokens[this.#length++] = token;
    this.chosen++;
  }

  /** Made when the first token is chosen: streams that wait are kept small. */
  sampler(vocabularySize: number): Sampler {
    return (this.#sampler ??= new Sampler(this.sampling, this.prompt, vocabularySize));
  }
}
