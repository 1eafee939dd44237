/**
 * The spaces that transformers takes out before punctuation and English contractions (`clean_up_tokenization_spaces`).
 *
 * Called by workers/detokenizer-decoder.ts, for whole tokens and as a step for text that comes in pieces.
 */
import { charactersOf } from './characters.js';
import type { Step } from './detokenizer-steps.js';

/** In transformers' order; each is looked for in what the one before has left. */
const TEXTS: readonly (readonly [string, string])[] = [
  [' .', '.'],
  [' ?', '?'],
  [' !', '!'],
  [' ,', ','],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];
/** The tokenizers library has one more, in this place. */
const TOKENS = TEXTS.toSpliced(7, 0, [' do not', " don't"]);

const replaced = (text: string, pairs: typeof TEXTS): string =>
  text.includes(' ') ? pairs.reduce((all, [from, to]) => all.replaceAll(from, to), text) : text;

/** What WordPiece's decoder does to each token. */
export const cleanToken = (token: string): string => replaced(token, TOKENS);

/** The end of a text at which something may be cut: nothing that is replaced reaches over it, for all of that is in one of these two. */
const MAY_GO_ON = /[ .?!,'ntmsver]*$/;
const NO_SPACE_AT_THE_END = /[^ ]{3}$/;

/** Behind everything else: cleans the text as a whole. */
export class CleanUp implements Step {
  #kept = '';

  constructor(private readonly next: Step) {}

  piece(text: string): void {
    this.#kept += text;
    const at = NO_SPACE_AT_THE_END.test(this.#kept) ? this.#kept.length : this.#kept.search(MAY_GO_ON);
    if (at > 0) this.next.piece(replaced(this.#kept.slice(0, at), TEXTS), false);
    this.#kept = this.#kept.slice(at);
  }

  end(): void {
    this.next.piece(replaced(this.#kept, TEXTS), false);
    this.#kept = '';
    this.next.end();
  }

  held(token: string): number {
    return charactersOf(replaced(this.#kept, TEXTS)) + this.next.held(token);
  }
}
