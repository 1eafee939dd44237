/**
 * Finds the top-level members of a JSON object in its bytes without parsing them: a tokenizer.json is mostly vocabulary, up to tens of
 * megabytes, and parsing that on the main thread would hold up every request.
 *
 * Called by huggingface-tokenizer.ts. Gives the event loop a turn every quarter of a megabyte. Checks no more of the JSON than it needs to
 * find its way; the preprocess workers parse the whole file.
 */
import { setImmediate } from 'node:timers/promises';
import { invalid } from '../base/errors.js';

/** Bytes looked at between two turns of the event loop; a millisecond or two. */
const SLICE_BYTES = 1 << 18;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Bytes of each member's value by name. Throws INVALID_ARGUMENT for bytes that are no JSON object. */
export async function jsonSections(subject: string, bytes: Uint8Array): Promise<ReadonlyMap<string, Uint8Array>> {
  const scanner = new Scanner(bytes);
  for (let end = SLICE_BYTES; scanner.scan(Math.min(end, bytes.length)); end += SLICE_BYTES) await setImmediate();
  const first = bytes.find((byte) => byte > 0x20 && byte < 0x80);
  if (bytes.length < 1024 && Buffer.from(bytes).toString('latin1').startsWith('version https://git-lfs'))
    throw invalid(`${subject} is a pointer of Git LFS: fetch the file itself with 'git lfs pull'`);
  if (!scanner.isWhole || first !== OPEN_OBJECT) throw invalid(`${subject} is not valid JSON: it is no whole object`);
  return scanner.sections;
}

class Scanner {
  readonly sections = new Map<string, Uint8Array>();
  readonly #bytes: Uint8Array;
  #at = 0;
  #depth = 0;
  /** Where the current string began; -1 outside of strings. */
  #string = -1;
  /** The top-level string that ended last. */
  #last = '';
  /** The member whose value is being passed over. */
  #name: string | undefined;
  #valueAt = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Every bracket and every string has ended. */
  get isWhole(): boolean {
    return this.#depth === 0 && this.#string < 0;
  }

  /** Goes on up to `end`; false once that is the end of the bytes. */
  scan(end: number): boolean {
    // Locals, and inside of values no more than brackets and quotes: fields would make it several times slower.
    const bytes = this.#bytes;
    let at = this.#at;
    let depth = this.#depth;
    let string = this.#string;
    while (at < end) {
      const byte = bytes[at]!;
      if (string >= 0) {
        if (byte === BACKSLASH) at++;
        else if (byte === QUOTE) {
          if (depth === 1 && this.#name === undefined) {
            this.#last = new TextDecoder().decode(bytes.subarray(string + 1, at));
          }
          string = -1;
        }
      } else if (byte === QUOTE) string = at;
      else if (byte === OPEN_OBJECT || byte === OPEN_LIST) depth++;
      else if (byte === CLOSE_OBJECT || byte === CLOSE_LIST) {
        if (depth === 1) this.#close(at);
        depth--;
      } else if (depth === 1) {
        if (byte === COMMA) this.#close(at);
        else if (byte === COLON && this.#name === undefined) {
          this.#name = this.#last;
          this.#valueAt = at + 1;
        }
      }
      at++;
    }
    this.#at = at;
    this.#depth = depth;
    this.#string = string;
    return at < bytes.length;
  }

  #close(end: number): void {
    if (this.#name !== undefined) this.sections.set(this.#name, this.#bytes.subarray(this.#valueAt, end));
    this.#name = undefined;
  }
}
