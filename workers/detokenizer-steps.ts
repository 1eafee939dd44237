/**
 * The decoders of a tokenizer.json as steps through which tokens pass one by one, so that text comes out while tokens come in, and all of
 * it together is what Hugging Face's own library gives for all tokens together.
 *
 * Called by workers/detokenizer.ts. A step gets tokens as pieces: `begins` says that a new token begins, for behind Fuse all is one
 * token that comes bit by bit. Steps keep back what later tokens may change, and no more.
 */
import { isUtf8 } from 'node:buffer';
import { charactersOf } from './characters.js';
import { ByteText, byteLevelBytes, textOfBytes, wholeText } from './detokenizer-bytes.js';

export interface Step {
  piece(text: string, begins: boolean): void;
  /** No token comes any more. */
  end(): void;
  /**
   * Characters that are kept back here and behind it, and lie before those of `token`, were that to come next. A row of bytes that is
   * text so far is taken to stay that.
   */
  held(token: string): number;
}

/** The last step: gathers the text. */
export class Gathered implements Step {
  #text = '';

  piece(text: string): void {
    this.#text += text;
  }

  end(): void {}

  held(): number {
    return 0;
  }

  take(): string {
    const text = this.#text;
    this.#text = '';
    return text;
  }
}

/** Each token becomes another, which may depend on its place. */
export class EachToken implements Step {
  #index = 0;

  constructor(
    private readonly next: Step,
    private readonly become: (token: string, index: number) => string,
  ) {}

  piece(text: string): void {
    this.next.piece(this.become(text, this.#index++), true);
  }

  end(): void {
    this.next.end();
  }

  held(token: string): number {
    return this.next.held(token);
  }
}

/** All becomes one token. */
export class Fuse implements Step {
  #begins = true;

  constructor(private readonly next: Step) {}

  piece(text: string): void {
    this.next.piece(text, this.#begins);
    this.#begins = false;
  }

  end(): void {
    this.next.end();
  }

  held(token: string): number {
    return this.next.held(token);
  }
}

/** Tokens in GPT-2's alphabet become one of text. */
export class ByteLevel implements Step {
  readonly #text = new ByteText();
  #begins = true;

  constructor(private readonly next: Step) {}

  piece(token: string): void {
    const bytes = byteLevelBytes(token);
    this.#give(this.#text.push(bytes, wholeText(bytes)));
  }

  end(): void {
    this.#give(this.#text.flush());
    this.next.end();
  }

  held(token: string): number {
    return this.#text.heldBefore(byteLevelBytes(token)) + this.next.held(token);
  }

  #give(text: string): void {
    if (text === '') return;
    this.next.piece(text, this.#begins);
    this.#begins = false;
  }
}

/** `<0xE2>` and its like: the byte; -1 for other tokens. */
export function fallbackByte(token: string): number {
  if (token.length !== 6 || !token.startsWith('<0x') || !token.endsWith('>')) return -1;
  const digits = token.slice(3, 5);
  // Rust reads '+A' as a number too.
  return /^(?:\+|[0-9a-f])[0-9a-f]$/i.test(digits) ? Number.parseInt(digits, 16) : -1;
}

/**
 * Bytes that have tokens of their own. A row of them is text only if all of it is: one wrong byte makes U+FFFD of each. So a row is kept
 * back until it ends.
 */
export class ByteFallback implements Step {
  readonly #bytes: number[] = [];

  constructor(private readonly next: Step) {}

  piece(token: string): void {
    const byte = fallbackByte(token);
    if (byte >= 0) {
      this.#bytes.push(byte);
      return;
    }
    this.#give();
    this.next.piece(token, true);
  }

  end(): void {
    this.#give();
    this.next.end();
  }

  held(token: string): number {
    return this.#heldBefore(fallbackByte(token)) + this.next.held(token);
  }

  #heldBefore(byte: number): number {
    const { length } = this.#bytes;
    if (length === 0) return 0;
    const bytes = Uint8Array.from(this.#bytes);
    if (isUtf8(bytes)) return charactersOf(textOfBytes(bytes));
    if (byte < 0) return length;
    // An incomplete character is no text, but may become some with this byte.
    const text = new ByteText();
    const whole = text.push(bytes, undefined);
    return whole.includes('\ufffd') ? length : charactersOf(whole) + text.heldBefore(Uint8Array.of(byte));
  }

  #give(): void {
    if (this.#bytes.length === 0) return;
    const bytes = Uint8Array.from(this.#bytes);
    this.#bytes.length = 0;
    if (isUtf8(bytes)) this.next.piece(textOfBytes(bytes), true);
    else for (const _ of bytes) this.next.piece('\ufffd', true);
  }
}

/** Behind Fuse: takes `character` off the two ends of the text, so many times at most. */
export class StripEnds implements Step {
  #start: number;
  #kept = '';

  constructor(
    private readonly next: Step,
    private readonly character: string,
    start: number,
    private readonly stop: number,
  ) {
    this.#start = start;
  }

  piece(text: string): void {
    let from = 0;
    while (this.#start > 0 && text.startsWith(this.character, from)) {
      from += this.character.length;
      this.#start--;
    }
    if (from < text.length) this.#start = 0;
    const all = this.#kept + text.slice(from);
    let end = all.length;
    for (let i = 0; i < this.stop && all.endsWith(this.character, end); i++) end -= this.character.length;
    this.#kept = all.slice(end);
    if (end > 0) this.next.piece(all.slice(0, end), false);
  }

  end(): void {
    this.next.end();
  }

  held(token: string): number {
    return charactersOf(this.#kept) + this.next.held(token);
  }
}

/** `</w>` and its like become spaces, but for the last token's. */
export class EndOfWord implements Step {
  #last: string | undefined;

  constructor(
    private readonly next: Step,
    private readonly suffix: string,
  ) {}

  piece(token: string): void {
    if (this.#last !== undefined) this.next.piece(this.#last.replaceAll(this.suffix, ' '), true);
    this.#last = token;
  }

  end(): void {
    if (this.#last !== undefined) this.next.piece(this.#last.replaceAll(this.suffix, ''), true);
    this.#last = undefined;
    this.next.end();
  }

  held(token: string): number {
    const last = this.#last?.replaceAll(this.suffix, ' ') ?? '';
    return charactersOf(last) + this.next.held(token);
  }
}

/** A token that comes again at once counts once. */
export class Different implements Step {
  #last: string | undefined;

  constructor(private readonly next: Step) {}

  piece(token: string): void {
    if (token !== this.#last) this.next.piece(token, true);
    this.#last = token;
  }

  end(): void {
    this.next.end();
  }

  held(token: string): number {
    return this.next.held(token);
  }
}
