/**
 * The queue on which a token-stream worker tells main of tokens: a ring in shared memory, one writer, one reader.
 *
 *   | head        | tail        | writer waits | woken        |  records ...                           |
 *   ^ 0           ^ 64          ^ 128          ^ 192          ^ 256                                    ^ 256 + capacity
 *
 *   records:   tail ──▶ | record | record | record |  free ...  | filler |   (a record never lies across the end: a filler does)
 *                                          ▲ head
 *
 * `head` and `tail` count units of 8 bytes since the start, modulo 2^32; a place is the count modulo the capacity, a power of two. Only
 * the writer moves `head`, once for all records of a step; only main moves `tail`. So neither needs a lock, and what lies between the two
 * belongs to main, the rest to the writer. `woken` is 1 from the writer's wake-up until main looks: while main is behind, no more come.
 *
 * The wake-up is an empty message on the worker's port. Measured by turns (bench/token-queue.ts; both threads together, 1, 8 and 32 streams
 * a step): with Atomics.waitAsync in its place 1.02, 1.03 and 1.08 times as much; a plain port with one flat array a step 1.07, 0.90 and
 * 1.05; with objects 1.13, 1.13 and 1.66.
 *
 * Called by `runtime/token-stream-worker.ts` (reader) and `workers/token-stream-worker.ts` (writer). Owns the bytes; must not know what a
 * stream is. Records as `generation-messages.ts` lays them out.
 */
import { ServeError } from '../base/errors.js';
import { FLAG_FAILED, FLAG_TOKEN, RECORD, type RecordDetail } from './generation-messages.js';
import type { StreamRecord } from './token-streams.js';

/** Words of 32 bits; each on a cache line of its own, since the two threads write them in turn. */
const HEAD = 0;
const TAIL = 16;
const WRITER_WAITS = 32;
const WOKEN = 48;
const HEADER_BYTES = 256;

const FIXED_BYTES = RECORD.words * 4;
/** Stream number of a record that only fills the ring's end. */
const FILLER = -1;
/** Main takes records whenever its event loop turns; a ring that stays full this long belongs to a main thread that is gone. */
const FULL_MS = 60_000;
/** Most text whose bytes are written one by one: shorter than this a call into Buffer costs more. */
const SHORT_TEXT = 24;
/** Texts that main remembers, so that a token that comes again is no new string; a power of two. */
const REMEMBERED_TEXTS = 4096;

/** What fits a few thousand records: many more than all windows of all streams together should hold. */
export const DEFAULT_RING_BYTES = 1 << 20;

/** Memory for a ring of at least `bytes`, empty. */
export function createRing(bytes = DEFAULT_RING_BYTES): SharedArrayBuffer {
  const capacity = 2 ** Math.ceil(Math.log2(Math.max(bytes, 1024)));
  return new SharedArrayBuffer(HEADER_BYTES + capacity);
}

/** The same memory as the threads see it. */
class RingViews {
  readonly control: Int32Array;
  readonly words: Int32Array;
  readonly floats: Float32Array;
  readonly doubles: Float64Array;
  readonly bytes: Buffer;
  /** Of the records; a power of two. */
  readonly capacity: number;

  constructor(ring: SharedArrayBuffer) {
    this.capacity = ring.byteLength - HEADER_BYTES;
    this.control = new Int32Array(ring, 0, HEADER_BYTES / 4);
    this.words = new Int32Array(ring, HEADER_BYTES);
    this.floats = new Float32Array(ring, HEADER_BYTES);
    this.doubles = new Float64Array(ring, HEADER_BYTES);
    this.bytes = Buffer.from(ring, HEADER_BYTES);
  }
}

/** The worker's end. */
export class RingWriter {
  readonly #views: RingViews;
  readonly #wake: () => void;
  /** Where the next record goes, and what main has been told; both in bytes modulo 2^35, as units of 8 modulo 2^32. */
  #written: number;
  #published: number;
  /** Free bytes behind `#written` at least; asked for again when they are used up. */
  #free = 0;

  /** `wake` has main call `RingReader.drain` soon. */
  constructor(ring: SharedArrayBuffer, wake: () => void) {
    this.#views = new RingViews(ring);
    this.#wake = wake;
    this.#written = this.#published = Atomics.load(this.#views.control, HEAD);
  }

  /**
   * Appends a record that main sees at the next `publish`. Waits while the ring is full. `detail` is JSON or ''. A record of more than half
   * the ring, which no text and no log probabilities make, becomes one that ends the stream with an error; false is returned then.
   */
  write(
    stream: number,
    flags: number,
    tokenId: number,
    logit: number,
    timeMs: number,
    text: string,
    detail: string,
  ): boolean {
    const textBytes = byteLength(text);
    const detailBytes = detail === '' ? 0 : Buffer.byteLength(detail);
    const size = align(FIXED_BYTES + pad(textBytes) + detailBytes);
    const { capacity, words, floats, doubles, bytes } = this.#views;
    if (size > capacity / 2) {
      const failure = { code: 'RESOURCE_EXHAUSTED', message: `a token came with ${size} bytes of text and details` };
      this.write(stream, FLAG_FAILED, 0, 0, timeMs, '', JSON.stringify({ failure }));
      return false;
    }
    const at = this.#reserve(size);
    const word = at >> 2;
    words[word + RECORD.byteLength] = size;
    words[word + RECORD.stream] = stream;
    words[word + RECORD.flags] = flags;
    words[word + RECORD.tokenId] = tokenId;
    floats[word + RECORD.logit] = logit;
    words[word + RECORD.textBytes] = textBytes;
    words[word + RECORD.detailBytes] = detailBytes;
    doubles[(word + RECORD.timeMs) >> 1] = timeMs;
    const start = at + FIXED_BYTES;
    if (textBytes === text.length && textBytes <= SHORT_TEXT)
      for (let index = 0; index < textBytes; index++) bytes[start + index] = text.charCodeAt(index);
    else bytes.write(text, start, textBytes, 'utf8');
    if (detailBytes > 0) bytes.write(detail, start + pad(textBytes), detailBytes, 'utf8');
    this.#written = (this.#written + (size >> 3)) | 0;
    this.#free -= size;
    return true;
  }

  /** Shows main what was written, and wakes it unless it is about to look. Returns whether there was anything. */
  publish(): boolean {
    if (this.#published === this.#written) return false;
    this.#published = this.#written;
    const { control } = this.#views;
    Atomics.store(control, HEAD, this.#written);
    if (Atomics.exchange(control, WOKEN, 1) === 0) this.#wake();
    return true;
  }

  /** The offset of `size` contiguous free bytes. */
  #reserve(size: number): number {
    const { capacity, words } = this.#views;
    const at = (this.#written << 3) & (capacity - 1);
    if (at + size <= capacity) {
      if (this.#free < size) this.#waitFor(size);
      return at;
    }
    const rest = capacity - at;
    if (this.#free < rest + size) this.#waitFor(rest + size);
    words[at >> 2] = rest;
    words[(at >> 2) + RECORD.stream] = FILLER;
    this.#written = (this.#written + (rest >> 3)) | 0;
    this.#free -= rest;
    return 0;
  }

  /** Main can only make room by what it has been shown. */
  #waitFor(size: number): void {
    const { control, capacity } = this.#views;
    const free = () => capacity - (((this.#written - Atomics.load(control, TAIL)) | 0) << 3);
    for (this.#free = free(); this.#free < size; this.#free = free()) {
      this.publish();
      Atomics.store(control, WRITER_WAITS, 1);
      const tail = Atomics.load(control, TAIL);
      // Asked again behind the store: main looks at WRITER_WAITS behind its own store.
      if (capacity - (((this.#written - tail) | 0) << 3) < size) {
        if (Atomics.wait(control, TAIL, tail, FULL_MS) === 'timed-out')
          throw new ServeError('INTERNAL', `the main thread has taken no tokens for ${FULL_MS / 1000} s`);
      }
      Atomics.store(control, WRITER_WAITS, 0);
    }
  }
}

/** Main's end. */
export class RingReader {
  readonly #views: RingViews;
  readonly #onRecord: (stream: number, record: StreamRecord) => void;
  /** Used again for each record: nothing is allocated for a token but its text. */
  readonly #record = {
    flags: FLAG_TOKEN,
    tokenId: 0,
    logit: 0,
    text: '',
    timeMs: 0,
    detail: undefined as RecordDetail | undefined,
  };
  /** By the last bits of the token's id. */
  readonly #texts: string[] = new Array<string>(REMEMBERED_TEXTS).fill('');
  #tail: number;

  /** `onRecord` gets each record, lent, in order; it must not throw. */
  constructor(ring: SharedArrayBuffer, onRecord: (stream: number, record: StreamRecord) => void) {
    this.#views = new RingViews(ring);
    this.#onRecord = onRecord;
    this.#tail = Atomics.load(this.#views.control, TAIL);
  }

  /** Reads what is there; called at each wake-up. */
  drain(): void {
    const { control } = this.#views;
    // Before looking: what is published behind the last look wakes again.
    Atomics.store(control, WOKEN, 0);
    for (let head = Atomics.load(control, HEAD); head !== this.#tail; head = Atomics.load(control, HEAD)) {
      while (this.#tail !== head) this.#read();
      Atomics.store(control, TAIL, this.#tail);
      if (Atomics.load(control, WRITER_WAITS) === 1) Atomics.notify(control, TAIL);
    }
  }

  #read(): void {
    const { capacity, words, floats, doubles, bytes } = this.#views;
    const at = (this.#tail << 3) & (capacity - 1);
    const word = at >> 2;
    this.#tail = (this.#tail + (words[word + RECORD.byteLength]! >> 3)) | 0;
    const stream = words[word + RECORD.stream]!;
    if (stream === FILLER) return;
    const record = this.#record;
    record.flags = words[word + RECORD.flags]!;
    record.tokenId = words[word + RECORD.tokenId]!;
    record.logit = floats[word + RECORD.logit]!;
    record.timeMs = doubles[(word + RECORD.timeMs) >> 1]!;
    const textBytes = words[word + RECORD.textBytes]!;
    const detailBytes = words[word + RECORD.detailBytes]!;
    const start = at + FIXED_BYTES;
    record.text = textBytes === 0 ? '' : this.#text(record.tokenId, start, textBytes);
    const detail = start + pad(textBytes);
    record.detail =
      detailBytes === 0
        ? undefined
        : (JSON.parse(bytes.toString('utf8', detail, detail + detailBytes)) as RecordDetail);
    this.#onRecord(stream, record);
  }

  /** The token's text of the last time, if it is the same: most tokens always have the same one. */
  #text(tokenId: number, start: number, length: number): string {
    const { bytes } = this.#views;
    const place = tokenId & (REMEMBERED_TEXTS - 1);
    const known = this.#texts[place]!;
    if (known.length === length && length <= SHORT_TEXT) {
      let index = 0;
      while (index < length && known.charCodeAt(index) === bytes[start + index]) index++;
      if (index === length) return known;
    }
    const text = bytes.toString('utf8', start, start + length);
    // Of ASCII alone: only then characters are bytes.
    if (text.length === length && length <= SHORT_TEXT) this.#texts[place] = text;
    return text;
  }
}

/** UTF-8 bytes of `text`; most tokens are a few ASCII characters. */
function byteLength(text: string): number {
  const { length } = text;
  if (length > SHORT_TEXT) return Buffer.byteLength(text);
  for (let index = 0; index < length; index++) if (text.charCodeAt(index) > 127) return Buffer.byteLength(text);
  return length;
}

const pad = (bytes: number): number => (bytes + 3) & ~3;
const align = (bytes: number): number => (bytes + 7) & ~7;
