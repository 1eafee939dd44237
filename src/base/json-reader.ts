/**
 * A strict JSON reader over bytes: the position, white space, strings, numbers, objects and arrays.
 *
 * Called by the tensor JSON parser. Never builds a tree: what nobody asked for is checked and skipped (`json-skip.ts`), so
 * hostile nesting costs one pass and no memory. The whole input must be UTF-8 ({@link createJsonReader} checks it once). Beyond RFC 8259 it takes the
 * bare tokens NaN, Infinity and -Infinity, as the protocol's clients write them.
 */
import { isUtf8 } from 'node:buffer';
import { invalid, type ServeError } from './errors.js';
import { JSON_LIMITS } from './tensor-json.js';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;

/** A reader at the start of `body`; throws INVALID_ARGUMENT when it is not UTF-8 or starts with a byte order mark. */
export function createJsonReader(body: Uint8Array): JsonReader {
  const reader = new JsonReader(Buffer.from(body.buffer, body.byteOffset, body.byteLength));
  if (!isUtf8(body)) throw reader.failure('invalid UTF-8');
  return reader;
}

export class JsonReader {
  readonly bytes: Buffer;
  /** Index of the next byte to read. */
  at = 0;
  /** After {@link scanString}: the raw bytes between the quotes, and whether they hold escapes. */
  stringStart = 0;
  stringStop = 0;
  stringEscaped = false;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** The error for malformed JSON at the present position. */
  failure(what: string): ServeError {
    return invalid(`failed to parse the request JSON buffer: ${what} at ${this.at}`);
  }

  /** Skips white space and returns the next byte without taking it; -1 at the end. */
  peek(): number {
    const bytes = this.bytes;
    let at = this.at;
    while (at < bytes.length) {
      const byte = bytes[at]!;
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) {
        this.at = at;
        return byte;
      }
      at++;
    }
    this.at = at;
    return -1;
  }

  /** Takes `byte` after white space, or throws naming `what` was expected. */
  take(byte: number, what: string): void {
    if (this.peek() !== byte) throw this.failure(`expected ${what}`);
    this.at++;
  }

  /** Calls `member` for each key of the object at the present position; `member` must read or skip the value. */
  readObject(what: string, member: (key: string) => void): void {
    this.take(0x7b, `an object for ${what}`);
    if (this.peek() === 0x7d) {
      this.at++;
      return;
    }
    for (;;) {
      if (this.peek() !== QUOTE) throw this.failure('expected a member name');
      const key = this.readString(JSON_LIMITS.nameBytes, 'member name');
      this.take(0x3a, "':'");
      member(key);
      if (this.peek() === 0x2c) this.at++;
      else break;
    }
    this.take(0x7d, "',' or '}'");
  }

  /** Calls `element` for each element of the array at the present position; `element` must read or skip it. */
  readArray(what: string, element: (index: number) => void): void {
    this.take(0x5b, `an array for ${what}`);
    if (this.peek() === 0x5d) {
      this.at++;
      return;
    }
    for (let index = 0; ; index++) {
      element(index);
      if (this.peek() === 0x2c) this.at++;
      else break;
    }
    this.take(0x5d, "',' or ']'");
  }

  /** The string at the present position; throws when it is none, malformed, or longer than `maxBytes` raw bytes. */
  readString(maxBytes: number, what: string): string {
    if (this.peek() !== QUOTE) throw this.failure(`expected a string for ${what}`);
    this.scanString();
    const length = this.stringStop - this.stringStart;
    if (length > maxBytes) throw invalid(`${what} of ${length} bytes is longer than ${maxBytes}`);
    if (!this.stringEscaped) return this.bytes.toString('utf8', this.stringStart, this.stringStop);
    const plain = Buffer.allocUnsafe(length);
    return plain.toString('utf8', 0, this.unescape(plain, 0));
  }

  /** Checks the string whose quote is the next byte, notes where it lies, and moves behind it. */
  scanString(): void {
    const bytes = this.bytes;
    const end = bytes.length;
    let at = this.at + 1;
    this.stringStart = at;
    this.stringEscaped = false;
    for (; at < end; at++) {
      const byte = bytes[at]!;
      if (byte === QUOTE) {
        this.stringStop = at;
        this.at = at + 1;
        return;
      }
      if (byte < 0x20) {
        this.at = at;
        throw this.failure('control character in string');
      }
      if (byte === BACKSLASH) {
        this.stringEscaped = true;
        at = this.scanEscape(at);
      }
    }
    this.at = end;
    throw this.failure('missing closing quote');
  }

  /** Checks the escape at `at`; returns the index of its last byte. */
  private scanEscape(at: number): number {
    const kind = this.bytes[at + 1];
    if (kind !== 0x75) {
      if (kind !== undefined && '"\\/bfnrt'.includes(String.fromCharCode(kind))) return at + 1;
      this.at = at;
      throw this.failure('invalid escape');
    }
    const unit = this.hex(at + 2);
    if ((unit & 0xf800) !== 0xd800) return at + 5;
    const paired = unit < 0xdc00 && this.bytes[at + 6] === BACKSLASH && this.bytes[at + 7] === 0x75;
    if (!paired || (this.hex(at + 8) & 0xfc00) !== 0xdc00) {
      this.at = at;
      throw this.failure('lone surrogate in string');
    }
    return at + 11;
  }

  private hex(at: number): number {
    let value = 0;
    for (let i = at; i < at + 4; i++) {
      const byte = this.bytes[i] ?? 0;
      const lower = byte | 0x20;
      if (byte >= 0x30 && byte <= 0x39) value = value * 16 + byte - 0x30;
      else if (lower >= 0x61 && lower <= 0x66) value = value * 16 + lower - 0x57;
      else {
        this.at = at;
        throw this.failure('invalid \\u escape');
      }
    }
    return value;
  }

  /** Writes the last scanned string as UTF-8 to `target` at `to`; returns where it ends. Never longer than its raw bytes. */
  unescape(target: Uint8Array, to: number): number {
    const bytes = this.bytes;
    for (let at = this.stringStart; at < this.stringStop; at++) {
      const byte = bytes[at]!;
      if (byte !== BACKSLASH) {
        target[to++] = byte;
        continue;
      }
      const kind = bytes[++at]!;
      if (kind !== 0x75) {
        target[to++] = SIMPLE_ESCAPES[kind] ?? kind;
        continue;
      }
      let code = this.hex(at + 1);
      at += 4;
      if ((code & 0xf800) === 0xd800) {
        code = 0x10000 + ((code - 0xd800) << 10) + this.hex(at + 3) - 0xdc00;
        at += 6;
      }
      to = writeUtf8(code, target, to);
    }
    return to;
  }

  /** Takes the literal `text`, which must not run on into another word. */
  word(text: string): void {
    const end = this.at + text.length;
    if (this.bytes.toString('latin1', this.at, end) !== text || isWordByte(this.bytes[end] ?? 0)) {
      throw this.failure('invalid value');
    }
    this.at = end;
  }

  /** Checks and passes over a number or one of the bare tokens; returns whether it was a plain integer. */
  scanNumber(): boolean {
    const bytes = this.bytes;
    if (bytes[this.at] === 0x2d) this.at++;
    const first = bytes[this.at] ?? 0;
    if (first === 0x4e || first === 0x49) {
      // "-NaN" is no token of any writer.
      this.word(first === 0x49 || bytes[this.at - 1] === 0x2d ? 'Infinity' : 'NaN');
      return false;
    }
    if (first < 0x30 || first > 0x39) throw this.failure('invalid value');
    this.at++;
    if (first !== 0x30) this.digits(0);
    let integer = true;
    if (bytes[this.at] === 0x2e) {
      integer = false;
      this.at++;
      this.digits(1);
    }
    if (((bytes[this.at] ?? 0) | 0x20) === 0x65) {
      integer = false;
      this.at++;
      if (bytes[this.at] === 0x2b || bytes[this.at] === 0x2d) this.at++;
      this.digits(1);
    }
    if (isWordByte(bytes[this.at] ?? 0)) throw this.failure('invalid number');
    return integer;
  }

  private digits(least: number): void {
    const start = this.at;
    let byte = this.bytes[this.at] ?? 0;
    while (byte >= 0x30 && byte <= 0x39) byte = this.bytes[++this.at] ?? 0;
    if (this.at - start < least) throw this.failure('expected a digit');
  }

  /** The number token at the present position as text, and whether it is a plain integer. */
  readNumberText(): { text: string; integer: boolean } {
    this.peek();
    const start = this.at;
    const integer = this.scanNumber();
    if (this.at - start > 1024) throw this.failure('number of more than 1024 characters');
    return { text: this.bytes.toString('latin1', start, this.at), integer };
  }
}

const SIMPLE_ESCAPES: Readonly<Record<number, number>> = {
  98: 0x08,
  102: 0x0c,
  110: 0x0a,
  114: 0x0d,
  116: 0x09,
};

function writeUtf8(code: number, target: Uint8Array, to: number): number {
  if (code < 0x80) target[to++] = code;
  else {
    if (code < 0x800) target[to++] = 0xc0 | (code >> 6);
    else {
      if (code < 0x10000) target[to++] = 0xe0 | (code >> 12);
      else {
        target[to++] = 0xf0 | (code >> 18);
        target[to++] = 0x80 | ((code >> 12) & 0x3f);
      }
      target[to++] = 0x80 | ((code >> 6) & 0x3f);
    }
    target[to++] = 0x80 | (code & 0x3f);
  }
  return to;
}

/** Letters, digits, '.', '+', '-', '_': what may not follow a number or a literal directly. */
function isWordByte(byte: number): boolean {
  const lower = byte | 0x20;
  return (
    (lower >= 0x61 && lower <= 0x7a) ||
    (byte >= 0x30 && byte <= 0x39) ||
    byte === 0x2e ||
    byte === 0x2b ||
    byte === 0x2d ||
    byte === 0x5f
  );
}
