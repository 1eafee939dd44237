/**
 * The text of one stream, token by token, and whether a stop string has ended it.
 *
 * Called by workers/token-stream-writer.ts. Puts the detokenizer and the search for stop strings behind each other; owns neither's rules.
 */
import type { Sampling } from '#src/runtime/generation-messages';
import { charactersOf } from './characters.js';
import type { Detokenizer, TextStream } from './detokenizer.js';
import { StopText } from './stop-text.js';

export class TokenText {
  readonly #text: TextStream;
  readonly #stop: StopText | undefined;
  /** Characters that the detokenizer has given; counted where somebody asks for offsets. */
  #characters = 0;
  readonly #counts: boolean;
  /** The stop string that ended it. */
  stopped: string | undefined;

  constructor(detokenizer: Detokenizer, { skipSpecialTokens, stop, includeStop, logprobs }: Sampling) {
    this.#counts = logprobs >= 0;
    this.#text = detokenizer.open({ skipSpecialTokens });
    if (stop.length > 0) this.#stop = new StopText(stop, includeStop);
  }

  /** What has become certain with token `id`; `stopped` may be set then. */
  push(id: number): string {
    const text = this.#text.push(id);
    if (this.#counts) this.#characters += charactersOf(text);
    return this.#search(text);
  }

  /**
   * Where the text of token `id` begins that is to be pushed next, in characters of all that was generated, held back or not. Only with
   * log probabilities.
   */
  offsetOf(id: number): number {
    return this.#characters + this.#text.heldBefore(id);
  }

  /** What was held back; nothing comes after it. `stopped` may be set here too. */
  flush(): string {
    const text = this.#search(this.#text.flush());
    return this.#stop && this.stopped === undefined ? text + this.#stop.flush() : text;
  }

  #search(text: string): string {
    if (!this.#stop || text === '') return text;
    const found = this.#stop.push(text);
    this.stopped = found.stopped;
    return found.text;
  }
}
