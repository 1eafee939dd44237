/**
 * What a stream can take over of others that begin alike: of those that have ended, from a cache, and of those in the batch, from their rows.
 *
 * Called by workers/token-stream-slots.ts. Owns the cache. Makes rows of the decoder and copies of rows; changes no stream.
 */
import type { Decoder, DecoderRow } from './decoder-types.js';
import { commonPrefix, LEAST_PREFIX, PrefixCache } from './prefix-cache.js';
import type { TokenStream } from './token-stream-state.js';

export class SharedPrefixes {
  readonly #decoder: Decoder;
  readonly #maxBytes: number;
  readonly #cache: PrefixCache;

  constructor(decoder: Decoder, maxBytes: number) {
    this.#decoder = decoder;
    this.#maxBytes = maxBytes;
    this.#cache = new PrefixCache(maxBytes, decoder.canCut);
  }

  get bytes(): number {
    return this.#cache.bytes;
  }

  /** A row with the longest beginning of the stream's tokens that an ended one has, or one of `batches`. One token is left to run: its logits are wanted. */
  begin({ tokens }: TokenStream, ...batches: readonly Iterable<TokenStream>[]): DecoderRow | undefined {
    if (this.#maxBytes === 0) return undefined;
    const most = tokens.length - 1;
    const found = this.#cache.find(tokens, most);
    let length = Math.max(found?.length ?? 0, LEAST_PREFIX - 1);
    let donor: TokenStream | undefined;
    for (const streams of batches)
      for (const other of streams) {
        const same = commonPrefix(other.inRow, tokens, most);
        if (same <= length || (!this.#decoder.canCut && same < other.inRow.length)) continue;
        donor = other;
        length = same;
      }
    if (donor?.row) return this.#decoder.restore(this.#decoder.save(donor.row, length), length);
    return found && this.#decoder.restore(found.saved, found.length);
  }

  /** Keeps what a stream that leaves has. */
  keep(stream: TokenStream): void {
    const { row, saved } = stream;
    if (!(row ?? saved) || this.#maxBytes === 0) return;
    const tokens = stream.inRow;
    if (!this.#cache.wants(tokens, tokens.length * this.#decoder.kvBytesPerToken)) return;
    try {
      this.#cache.add(tokens.slice(), row ? this.#decoder.save(row, row.length) : saved!);
    } catch {
      // Only a cache: a stream that has ended well has done so without it, too.
      this.#cache.clear();
    }
  }

  clear(): void {
    this.#cache.clear();
  }
}
