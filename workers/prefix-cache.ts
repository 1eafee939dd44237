/**
 * Keys and values of streams that have ended, for prompts that begin like them: the least recently used go first.
 *
 *   tokens   | block 0 | block 1 | block 2 | rest      a block is 8 tokens
 *   names    | hash of 0 | of 0-1 | of 0-2 |           each names the rows that begin so
 *
 * Called by workers/token-stream.ts. Owns the saved rows and bounds their bytes; must not know a decoder or a stream. A look-up costs one
 * hash for each block that is found and one comparison of the tokens: equal hashes alone prove nothing.
 */
import type { SavedRow } from './decoder-types.js';

const BLOCK = 8;
/** Fewer tokens than this are computed again sooner than copied. */
export const LEAST_PREFIX = BLOCK;
/** Rows with a block in common that are compared: the newest. */
const COMPARED = 8;

interface Entry {
  readonly tokens: Int32Array;
  readonly saved: SavedRow;
}

export interface PrefixHit {
  readonly saved: SavedRow;
  /** Tokens that are the same; all of `saved` where it can't be cut. */
  readonly length: number;
}

interface EntryHit {
  readonly entry: Entry;
  readonly length: number;
}

export class PrefixCache {
  readonly #maxBytes: number;
  readonly #canCut: boolean;
  /** Oldest use first. */
  readonly #entries = new Set<Entry>();
  readonly #byBlock = new Map<number, Set<Entry>>();
  #bytes = 0;

  constructor(maxBytes: number, canCut: boolean) {
    this.#maxBytes = maxBytes;
    this.#canCut = canCut;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** The longest row that `tokens` begin with, if that is worth it, at most `most` tokens of it; it counts as used. */
  find(tokens: Int32Array, most: number): PrefixHit | undefined {
    const hit = this.#find(tokens, most);
    if (!hit) return undefined;
    this.#entries.delete(hit.entry);
    this.#entries.add(hit.entry);
    return { saved: hit.entry.saved, length: hit.length };
  }

  /** Whether a row of `tokens` would add anything; if not, the one that covers it counts as used. Asked before the row is copied. */
  wants(tokens: Int32Array, bytes: number): boolean {
    if (tokens.length < LEAST_PREFIX || bytes > this.#maxBytes) return false;
    return (this.find(tokens, tokens.length)?.length ?? 0) < tokens.length;
  }

  /** Keeps `saved`, whose tokens are `tokens`; what it makes room for or covers goes. `tokens` must not change from now on. */
  add(tokens: Int32Array, saved: SavedRow): void {
    if (saved.byteLength > this.#maxBytes) return;
    const before = this.#canCut ? this.#find(tokens, tokens.length) : undefined;
    if (before && before.length === before.entry.tokens.length) this.#drop(before.entry);
    for (const oldest of this.#entries) {
      if (this.#bytes + saved.byteLength <= this.#maxBytes) break;
      this.#drop(oldest);
    }
    const entry: Entry = { tokens, saved };
    this.#entries.add(entry);
    this.#bytes += saved.byteLength;
    for (const hash of hashes(tokens)) {
      const named = this.#byBlock.get(hash);
      if (named) named.add(entry);
      else this.#byBlock.set(hash, new Set([entry]));
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#byBlock.clear();
    this.#bytes = 0;
  }

  #find(tokens: Int32Array, most: number): EntryHit | undefined {
    const blocks: Set<Entry>[] = [];
    for (let hash = SEED, start = 0; start + BLOCK <= most; start += BLOCK) {
      hash = hashBlock(hash, tokens, start);
      const named = this.#byBlock.get(hash);
      if (!named) break;
      blocks.push(named);
    }
    // Those that share most blocks share most tokens. A row that can't be cut may be shorter than its neighbours.
    for (let named = blocks.pop(); named; named = blocks.pop()) {
      const hit = this.#best(named, tokens, most);
      if (hit) return hit;
    }
    return undefined;
  }

  #best(named: Set<Entry>, tokens: Int32Array, most: number): EntryHit | undefined {
    let best: EntryHit | undefined;
    let older = named.size - COMPARED;
    for (const entry of named) {
      if (this.#canCut && older-- > 0) continue;
      const length = commonPrefix(entry.tokens, tokens, most);
      if (length < LEAST_PREFIX || length <= (best?.length ?? 0)) continue;
      if (this.#canCut || length === entry.tokens.length) best = { entry, length };
    }
    return best;
  }

  #drop(entry: Entry): void {
    this.#entries.delete(entry);
    this.#bytes -= entry.saved.byteLength;
    for (const hash of hashes(entry.tokens)) {
      const named = this.#byBlock.get(hash);
      named?.delete(entry);
      if (named?.size === 0) this.#byBlock.delete(hash);
    }
  }
}

/** How many tokens `a` and `b` begin with alike, at most `most`. */
export function commonPrefix(a: Int32Array, b: Int32Array, most: number): number {
  const end = Math.min(a.length, b.length, most);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}

const SEED = 0x811c9dc5;

/** FNV-1a over whole tokens, with what came before as its start. */
function hashBlock(hash: number, tokens: Int32Array, start: number): number {
  for (let index = start; index < start + BLOCK; index++) {
    hash = Math.imul(hash ^ tokens[index]!, 0x01000193);
    hash ^= hash >>> 15;
  }
  return hash;
}

function* hashes(tokens: Int32Array): Generator<number> {
  for (let hash = SEED, start = 0; start + BLOCK <= tokens.length; start += BLOCK) {
    hash = hashBlock(hash, tokens, start);
    yield hash;
  }
}
