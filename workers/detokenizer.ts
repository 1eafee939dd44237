/**
 * Tokens to text while they are being chosen: what is out stays, is never half a character, and all together is what Hugging Face's own
 * library (Python's `tokenizers`) decodes from all tokens at once.
 *
 * Called by the token-stream worker. Owns the vocabulary by id and remembers each token's bytes once it has come. A stream costs a
 * table look-up per token for vocabularies in GPT-2's alphabet, and a few steps (detokenizer-steps.ts) for others.
 */
import { invalid, printable } from '#src/base/errors';
import { ByteText, byteLevelBytes, textOfBytes, wholeText } from './detokenizer-bytes.js';
import { type Decoder, readDecoder } from './detokenizer-decoder.js';
import { fallbackByte, type Gathered, type Step } from './detokenizer-steps.js';
import { tokenizerFile } from './tokenizer-file.js';
import type { Component } from './tokenizer-json.js';

export interface TextStream {
  /** The text that has become certain with this token; '' while there is none. An id without a token has no text. */
  push(id: number): string;
  /** Characters that were pushed, have not come out and lie before those of token `id`, were that to be pushed next. */
  heldBefore(id: number): number;
  /** The rest: characters that stayed incomplete are U+FFFD. Nothing may be pushed afterwards. */
  flush(): string;
}

const NO_BYTES = new Uint8Array(0);

interface Added {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
}

export class Detokenizer {
  readonly #tokens: readonly (string | undefined)[];
  readonly #special: ReadonlySet<string>;
  readonly #decoder: Decoder;
  readonly #bytes: (Uint8Array | undefined)[] = [];
  /** Of tokens that are text by themselves; '' may be one. */
  readonly #texts: (string | undefined)[] = [];

  private constructor(tokens: readonly (string | undefined)[], special: ReadonlySet<string>, decoder: Decoder) {
    this.#tokens = tokens;
    this.#special = special;
    this.#decoder = decoder;
  }

  /** Throws INVALID_ARGUMENT naming the file and what is wrong with it. `tokenizerJson` may lie in shared memory. */
  static create(tokenizerJson: Uint8Array, tokenizerConfigJson: string): Detokenizer {
    const json = parse(() => JSON.parse(textOf(tokenizerJson)), 'tokenizer.json is not JSON');
    const config = parse(() => JSON.parse(tokenizerConfigJson), 'tokenizer_config.json is not JSON');
    return parse(() => {
      const file = tokenizerFile(json);
      const { added_tokens = [], decoder = null } = json as {
        added_tokens?: Added[] | null;
        decoder?: Component | null;
      };
      const added = (added_tokens ?? []).filter(({ content }) => content !== '');
      const special = added.filter((token) => token.special).map(({ content }) => content);
      return new Detokenizer(
        tokensById(file.model, added),
        new Set(special),
        readDecoder(decoder, cleansUp(file.model, config)),
      );
    }, "tokenizer.json can't be used");
  }

  /** What the token adds to a text in whose middle it stands. Empty for an id without a token. */
  tokenBytes(id: number): Uint8Array {
    const token = this.#tokens[id];
    if (token === undefined) return NO_BYTES;
    return (this.#bytes[id] ??= this.#bytesOf(token));
  }

  /** The same as text; U+FFFD for bytes that are no whole character by themselves. */
  tokenText(id: number): string {
    return textOfBytes(this.tokenBytes(id));
  }

  /** A stream begins with the first token that was generated: what decoders do to the first token, they do to that. */
  open({ skipSpecialTokens }: { skipSpecialTokens: boolean }): TextStream {
    return this.#decoder.isByteLevel ? this.#openBytes(skipSpecialTokens) : this.#openSteps(skipSpecialTokens);
  }

  #openBytes(skipSpecialTokens: boolean): TextStream {
    const text = new ByteText();
    return {
      push: (id) => {
        if (skipSpecialTokens && this.#isSpecial(id)) return '';
        const bytes = this.tokenBytes(id);
        // No character is kept back by a token without text.
        if (bytes.length === 0) return '';
        return text.push(bytes, (this.#texts[id] ??= wholeText(bytes)));
      },
      heldBefore: (id) => (skipSpecialTokens && this.#isSpecial(id) ? 0 : text.heldBefore(this.tokenBytes(id))),
      flush: () => text.flush(),
    };
  }

  #openSteps(skipSpecialTokens: boolean): TextStream {
    const { first, last } = this.#decoder.open();
    return {
      push: (id) => {
        const token = this.#tokens[id];
        if (token === undefined || (skipSpecialTokens && this.#special.has(token))) return '';
        first.piece(token, true);
        return last.take();
      },
      heldBefore: (id) => first.held(this.#tokens[id] ?? ''),
      flush: () => ended(first, last),
    };
  }

  #isSpecial(id: number): boolean {
    const token = this.#tokens[id];
    return token !== undefined && this.#special.has(token);
  }

  #bytesOf(token: string): Uint8Array {
    if (this.#decoder.isByteLevel) return byteLevelBytes(token);
    const byte = this.#decoder.hasByteFallback ? fallbackByte(token) : -1;
    if (byte >= 0) return Uint8Array.of(byte);
    const { first, last } = this.#decoder.open();
    first.piece('x', true);
    first.piece(token, true);
    return Buffer.from(ended(first, last).slice(1));
  }
}

function ended(first: Step, last: Gathered): string {
  first.end();
  return last.take();
}

/** Added tokens come first where two have the same id. */
function tokensById({ type, vocab }: Component, added: readonly Added[]): (string | undefined)[] {
  const tokens: (string | undefined)[] = [];
  if (type === 'Unigram') for (const [piece] of vocab as [string, number][]) tokens.push(piece);
  else for (const [token, id] of Object.entries(vocab as Record<string, number>)) tokens[id] = token;
  for (const { id, content } of added) tokens[id] = content;
  return tokens;
}

/**
 * What transformers does since version 5: BPE, to which everything belongs that is trained to write today, is left as it is, though many
 * files ask for the clean-up.
 */
function cleansUp(model: Component, config: unknown): boolean {
  const asked = (config as { clean_up_tokenization_spaces?: unknown } | null)?.clean_up_tokenization_spaces === true;
  return asked && model.type !== 'BPE';
}

/** Not a TextDecoder, which takes no shared memory. */
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();

function parse<Value>(read: () => Value, problem: string): Value {
  try {
    return read();
  } catch (error) {
    throw invalid(`${problem}: ${printable(error instanceof Error ? error.message : String(error), 200)}`);
  }
}
