/**
 * The text of one stream, token by token, and whether a stop string has ended it.
 *
 * Called by workers/token-stream-writer.ts. Puts the detokenizer and the search for stop strings behind each other; owns neither's rules.
 */
import type { Sampling } from '#src/runtime/generation-messages';
import type { Detokenizer, TextStream } from './detokenizer.js';
import { StopText } from './stop-text.js';

export class TokenText {
  readonly #text: TextStream;
  readonly #stop: StopText | undefined;
  /** The stop string that ended it. */
  stopped: string | undefined;

  constructor(detokenizer: Detokenizer, { skipSpecialTokens, stop, includeStop }: Sampling) {
    this.#text = detokenizer.open({ skipSpecialTokens });
    if (stop.length > 0) this.#stop = new StopText(stop, includeStop);
  }

  /** What has become certain with token `id`; `stopped` may be set then. */
  push(id: number): string {
    return this.#search(this.#text.push(id));
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
