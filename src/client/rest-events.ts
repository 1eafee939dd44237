/**
 * Server-sent events out of the bytes of an answer, however those are cut: the `data` of each, in order.
 *
 * Used by `rest-stream.ts`, one reader a stream. Takes all three line ends, comments, and characters split between two chunks; other
 * fields than `data` mean nothing here. Must not know what the events say.
 */
import { StringDecoder } from 'node:string_decoder';

/** Called with the data of each event; lines of one event are joined by line breaks. */
export type EventListener = (data: string) => void;

export class EventReader {
  readonly #listener: EventListener;
  readonly #maxChars: number;
  readonly #decoder = new StringDecoder('utf8');
  /** The line that is not complete, and how much of it is known to hold no line end. */
  #line = '';
  #scanned = 0;
  /** The last line ended with a carriage return: a line feed that follows belongs to it. */
  #returned = false;
  #data: string | undefined;
  #begun = false;

  /** `maxChars` bounds what is kept of one event: `push` throws RangeError beyond it. */
  constructor(listener: EventListener, maxChars: number) {
    this.#listener = listener;
    this.#maxChars = maxChars;
  }

  push(chunk: Buffer): void {
    this.#take(this.#decoder.write(chunk));
  }

  /** The bytes have ended; an event that nothing but its blank line is missing from counts. */
  end(): void {
    this.#take(this.#decoder.end());
    if (this.#line !== '') this.#take('\n');
    this.#returned = false;
    this.#take('\n');
  }

  #take(text: string): void {
    let rest = this.#line + text;
    if (!this.#begun && rest !== '') {
      this.#begun = true;
      if (rest.startsWith('\ufeff')) rest = rest.slice(1);
    }
    let start = 0;
    let at = this.#scanned;
    for (; at < rest.length; at++) {
      const char = rest.charCodeAt(at);
      if (char !== LINE_FEED && char !== CARRIAGE_RETURN) continue;
      const second = char === LINE_FEED && this.#returned && at === start;
      if (!second) this.#endLine(rest.slice(start, at));
      this.#returned = char === CARRIAGE_RETURN;
      start = at + 1;
    }
    this.#line = rest.slice(start);
    this.#scanned = this.#line.length;
    if (this.#line.length + (this.#data?.length ?? 0) > this.#maxChars) {
      throw new RangeError(`an event is longer than ${this.#maxChars} characters`);
    }
  }

  #endLine(line: string): void {
    if (line === '') {
      const data = this.#data;
      this.#data = undefined;
      if (data !== undefined) this.#listener(data);
      return;
    }
    const colon = line.indexOf(':');
    if ((colon < 0 ? line : line.slice(0, colon)) !== 'data') return;
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    this.#data = this.#data === undefined ? value : `${this.#data}\n${value}`;
  }
}

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
