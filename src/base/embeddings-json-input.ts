/**
 * The member `input` of an embeddings request: a text, texts, tokens or arrays of tokens, written out in the protocol's raw layout.
 *
 * Called by `embeddings-json-parse.ts`. A text goes from its escaped bytes to where it will be read, without becoming a string.
 * Little-endian machines only, as everything that ONNX Runtime runs on.
 */
import { EMBEDDINGS_LIMITS, type EmbeddingsRequest } from './embeddings-json.js';
import type { JsonReader } from './json-reader.js';
import { MemberError, wrongType } from './member-error.js';

export type EmbeddingsInput = Pick<EmbeddingsRequest, 'kind' | 'data' | 'ends'>;

const QUOTE = 0x22;
const OPEN = 0x5b;
const CLOSE = 0x5d;
/** No vocabulary is larger, and Hugging Face's token ids are 32-bit. */
const MAX_TOKEN = 2 ** 31 - 1;
const FIRST_TOKENS = 256;
const TYPES = "'input' must be a string, an array of strings, an array of token ids or an array of such arrays";

/** The value at the reader's position. Throws MemberError for anything but 1 to 2048 inputs, all of one kind and none empty. */
export function readEmbeddingsInput(reader: JsonReader): EmbeddingsInput {
  const byte = reader.peek();
  if (byte === QUOTE) {
    const texts = new Texts(reader);
    texts.read();
    return texts.finish();
  }
  if (byte !== OPEN) throw wrongInput(reader, TYPES);
  const open = reader.at;
  reader.at++;
  const first = reader.peek();
  reader.at = open;
  if (first === CLOSE) throw refusal("'input' is an empty array, send at least one text");
  if (first === QUOTE) return readTexts(reader);
  return readTokenArrays(reader, first === OPEN);
}

function refusal(message: string): MemberError {
  return new MemberError('input', message);
}

function wrongInput(reader: JsonReader, message: string): Error {
  return wrongType(reader, 'input', message);
}

function checkCount(index: number): void {
  if (index >= EMBEDDINGS_LIMITS.inputs) {
    throw refusal(`'input' has more than ${EMBEDDINGS_LIMITS.inputs} entries, send them in several requests`);
  }
}

function readTexts(reader: JsonReader): EmbeddingsInput {
  const texts = new Texts(reader);
  reader.readArray("'input'", (index) => {
    checkCount(index);
    if (reader.peek() !== QUOTE)
      throw wrongInput(reader, `'input[${index}]' is no string, while the entries before it are`);
    texts.read();
  });
  return texts.finish();
}

class Texts {
  readonly #reader: JsonReader;
  readonly #ends: number[] = [];
  #data = Buffer.allocUnsafeSlow(0);
  #at = 0;

  constructor(reader: JsonReader) {
    this.#reader = reader;
  }

  /** The string at the reader's position. */
  read(): void {
    const reader = this.#reader;
    reader.scanString();
    const most = reader.stringStop - reader.stringStart;
    if (most === 0) {
      const name = this.#ends.length > 0 ? `'input[${this.#ends.length}]'` : "'input'";
      throw refusal(`${name} is an empty string, there is nothing to embed`);
    }
    this.#reserve(4 + most);
    const start = this.#at + 4;
    if (reader.stringEscaped) this.#at = reader.unescape(this.#data, start);
    else this.#at = start + reader.bytes.copy(this.#data, start, reader.stringStart, reader.stringStop);
    this.#data.writeUInt32LE(this.#at - start, start - 4);
    this.#ends.push(this.#at);
  }

  #reserve(bytes: number): void {
    const needed = this.#at + bytes;
    if (needed <= this.#data.length) return;
    // What is left of the body is the most that can follow, with a length for a pair of quotes.
    const { bytes: body, stringStop } = this.#reader;
    const rest = body.length - stringStop + 4 * EMBEDDINGS_LIMITS.inputs;
    const grown = Buffer.allocUnsafeSlow(needed + Math.min(rest, needed));
    this.#data.copy(grown, 0, 0, this.#at);
    this.#data = grown;
  }

  finish(): EmbeddingsInput {
    return { kind: 'text', data: this.#data.subarray(0, this.#at), ends: this.#ends };
  }
}

/** One array of tokens, or with `nested` an array of them. */
function readTokenArrays(reader: JsonReader, nested: boolean): EmbeddingsInput {
  const tokens = new Tokens(reader);
  const ends: number[] = [];
  const readArray = (name: string): void => {
    reader.readArray(name, (index) => tokens.read(name, index));
    ends.push(8 * tokens.count);
  };
  if (!nested) readArray('input');
  else {
    reader.readArray("'input'", (index) => {
      checkCount(index);
      if (reader.peek() !== OPEN)
        throw wrongInput(reader, `'input[${index}]' is no array of token ids, while the entries before it are`);
      const before = tokens.count;
      readArray(`input[${index}]`);
      if (tokens.count === before) throw refusal(`'input[${index}]' is an empty array, there is nothing to embed`);
    });
  }
  return { kind: 'tokens', data: tokens.finish(), ends };
}

class Tokens {
  readonly #reader: JsonReader;
  /** Low and high word of each. */
  #words = new Int32Array(2 * FIRST_TOKENS);
  count = 0;

  constructor(reader: JsonReader) {
    this.#reader = reader;
  }

  /** The number at the reader's position, which is `name[index]`. */
  read(name: string, index: number): void {
    const reader = this.#reader;
    const byte = reader.peek();
    const isNumber = byte === 0x2d || (byte >= 0x30 && byte <= 0x39);
    // The first entry decides what the array is of, so it alone may be meant as anything.
    if (!isNumber) {
      throw wrongInput(reader, name === 'input' && index === 0 ? TYPES : `'${name}[${index}]' is no token id`);
    }
    const start = reader.at;
    const integer = reader.scanNumber();
    let value = 0;
    for (let at = start; at < reader.at; at++) value = value * 10 + reader.bytes[at]! - 0x30;
    if (!integer || byte === 0x2d || value > MAX_TOKEN) {
      throw refusal(`'${name}[${index}]' is no token id, which is a whole number from 0 to ${MAX_TOKEN}`);
    }
    if (this.count === EMBEDDINGS_LIMITS.tokens) {
      throw refusal(`'input' has more than ${EMBEDDINGS_LIMITS.tokens} tokens, send them in several requests`);
    }
    if (2 * this.count === this.#words.length) {
      const grown = new Int32Array(2 * this.#words.length);
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[2 * this.count++] = value;
  }

  finish(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#words.buffer, 0, 8 * this.count);
  }
}
