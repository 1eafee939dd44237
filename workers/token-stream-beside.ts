/**
 * Streams that had a place in the batch and have none: those whose readers stall, and those that wait to come back; and what is kept of them.
 *
 * Called by workers/token-stream-slots.ts. Owns the saved rows and tells the decoder how much of the bound they have. What it gives up is
 * computed again when its stream comes back.
 */
import type { Decoder, SavedRow } from './decoder-types.js';
import type { TokenStream } from './token-stream-state.js';

export class StreamsBeside {
  readonly #decoder: Decoder;
  /** The one that has stalled longest first. */
  readonly #stalled = new Set<TokenStream>();
  readonly #returning = new Set<TokenStream>();
  #bytes = 0;
  #stalledBytes = 0;

  constructor(decoder: Decoder) {
    this.#decoder = decoder;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Those of streams whose readers stall. */
  get stalledBytes(): number {
    return this.#stalledBytes;
  }

  get stalledCount(): number {
    return this.#stalled.size;
  }

  get returningCount(): number {
    return this.#returning.size;
  }

  /** The one that comes back next. */
  get oldest(): TokenStream | undefined {
    let oldest: TokenStream | undefined;
    for (const stream of this.#returning) if (!oldest || stream.order < oldest.order) oldest = stream;
    return oldest;
  }

  /** A copy of what the stream's row has; undefined where there is nothing, or no memory for it. */
  copyOf({ row }: TokenStream): SavedRow | undefined {
    try {
      return row && row.length > 0 ? this.#decoder.save(row, row.length) : undefined;
    } catch {
      return undefined;
    }
  }

  /** The stream has given up its row, of which there is `saved`, because its reader stalls. */
  stall(stream: TokenStream, saved: SavedRow | undefined): void {
    this.#stalled.add(stream);
    this.#stalledBytes += saved?.byteLength ?? 0;
    this.#set(stream, saved);
    stream.state = 'paused';
  }

  /** The same, because others need the memory. */
  preempt(stream: TokenStream, saved: SavedRow | undefined): void {
    this.#returning.add(stream);
    this.#set(stream, saved);
    stream.state = 'resuming';
  }

  /** Its reader goes on; false if it did not stall. */
  wake(stream: TokenStream): boolean {
    if (!this.#stalled.delete(stream)) return false;
    this.#stalledBytes -= stream.saved?.byteLength ?? 0;
    this.#returning.add(stream);
    stream.state = 'resuming';
    return true;
  }

  /** It comes back, or has ended; gives what was kept of it. */
  remove(stream: TokenStream): SavedRow | undefined {
    const { saved } = stream;
    if (this.#stalled.delete(stream)) this.#stalledBytes -= saved?.byteLength ?? 0;
    this.#returning.delete(stream);
    this.#set(stream, undefined);
    return saved;
  }

  /** Gives up what is kept of the stream that has stalled longest; false where there is nothing. */
  dropStalled(): boolean {
    if (this.#stalledBytes === 0) return false;
    for (const stream of this.#stalled) {
      if (!stream.saved) continue;
      this.#stalledBytes -= stream.saved.byteLength;
      this.#set(stream, undefined);
      return true;
    }
    return false;
  }

  /** Gives up what is kept of the youngest stream that waits to come back, but not of `other`. */
  dropYoungest(other?: TokenStream): boolean {
    let youngest: TokenStream | undefined;
    for (const stream of this.#returning)
      if (stream.saved && stream !== other && stream.order > (youngest?.order ?? -1)) youngest = stream;
    if (youngest) this.#set(youngest, undefined);
    return youngest !== undefined;
  }

  #set(stream: TokenStream, saved: SavedRow | undefined): void {
    const more = (saved?.byteLength ?? 0) - (stream.saved?.byteLength ?? 0);
    stream.saved = saved;
    if (more === 0) return;
    this.#bytes += more;
    this.#decoder.keepBeside(this.#bytes);
  }
}
