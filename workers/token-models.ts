/**
 * Encoders that stand in for those of @huggingface/tokenizers: same tokens as Hugging Face's own library, in time that grows with the
 * text and no faster.
 *
 * Called by workers/tokenizer.ts. WordPiece looks at no piece that is longer than any of the vocabulary; Unigram keeps one best path
 * instead of a lattice of objects, and fuses unknown characters within a word only. Each takes words and gives tokens.
 */

export type Encoder = (words: readonly string[]) => string[];

export interface WordPieceOptions {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly unknown: string;
  /** Before what continues a word: `##`. */
  readonly prefix: string;
  /** Characters of a longer word are not looked at. */
  readonly maxCharacters: number;
}

/** The longest piece that fits, again and again; a word that can't be made up whole is unknown. */
export function wordPieceEncoder({ vocabulary, unknown, prefix, maxCharacters }: WordPieceOptions): Encoder {
  let longest = 1;
  for (const piece of vocabulary.keys()) longest = Math.max(longest, piece.length);
  return (words) => {
    const tokens: string[] = [];
    for (const word of words) {
      const before = tokens.length;
      let start = isLonger(word, maxCharacters) ? -1 : 0;
      while (start >= 0 && start < word.length) {
        let end = Math.min(word.length, start + longest);
        let piece: string | undefined;
        for (; end > start; end--) {
          const candidate = start > 0 ? prefix + word.slice(start, end) : word.slice(start, end);
          if (vocabulary.has(candidate)) {
            piece = candidate;
            break;
          }
        }
        if (piece !== undefined) tokens.push(piece);
        start = piece === undefined ? -1 : end;
      }
      if (start < 0) {
        tokens.length = before;
        tokens.push(unknown);
      }
    }
    return tokens;
  };
}

function isLonger(word: string, maxCharacters: number): boolean {
  if (word.length <= maxCharacters) return false;
  let characters = 0;
  for (const _ of word) if (++characters > maxCharacters) return true;
  return false;
}

export interface UnigramOptions {
  readonly vocabulary: readonly string[];
  readonly scores: ArrayLike<number>;
  readonly unknownId: number;
  /** Unknown characters become tokens such as `<0xE2>` where the vocabulary has them. */
  readonly byteFallback: boolean;
}

/** How much less likely than the least likely piece an unknown character is. */
const UNKNOWN_PENALTY = 10;
/** Code points have less than this many values. */
const CODE_POINTS = 0x11_0000;

/** The likeliest way to make up each word from pieces (Viterbi). */
export function unigramEncoder({ vocabulary, scores, unknownId, byteFallback }: UnigramOptions): Encoder {
  const trie = new PieceTrie(vocabulary);
  const known = new Set(vocabulary);
  let least = Number.POSITIVE_INFINITY;
  for (let id = 0; id < vocabulary.length; id++) least = Math.min(least, scores[id]!);
  const unknownScore = least - UNKNOWN_PENALTY;

  return (words) => {
    const tokens: string[] = [];
    for (const word of words) {
      for (const piece of bestPieces(word)) {
        const bytes = byteFallback && !known.has(piece) ? byteTokens(piece) : undefined;
        if (bytes?.every((token) => known.has(token))) for (const token of bytes) tokens.push(token);
        else tokens.push(piece);
      }
    }
    return tokens;
  };

  function bestPieces(word: string): string[] {
    const length = word.length;
    const best = new Float64Array(length + 1);
    const from = new Int32Array(length + 1).fill(-1);
    const ids = new Int32Array(length + 1);
    const offer = (start: number, end: number, id: number, score: number): void => {
      if (from[end] !== -1 && score <= best[end]!) return;
      best[end] = score;
      from[end] = start;
      ids[end] = id;
    };
    for (let start = 0; start < length; ) {
      const next = start + (word.codePointAt(start)! > 0xffff ? 2 : 1);
      let isCovered = false;
      let node = 0;
      for (let end = start; end < length; ) {
        const code = word.codePointAt(end)!;
        const child = trie.child(node, code);
        if (child === undefined) break;
        node = child;
        end += code > 0xffff ? 2 : 1;
        const id = trie.idAt(node);
        if (id < 0) continue;
        offer(start, end, id, best[start]! + scores[id]!);
        if (end === next) isCovered = true;
      }
      if (!isCovered) offer(start, next, unknownId, best[start]! + unknownScore);
      start = next;
    }
    const pieces: string[] = [];
    for (let end = length; end > 0; ) {
      let start = from[end]!;
      // Unknown characters that follow each other are one piece.
      if (ids[end] === unknownId) while (start > 0 && ids[start] === unknownId) start = from[start]!;
      pieces.push(word.slice(start, end));
      end = start;
    }
    return pieces.reverse();
  }
}

/** Pieces by their code points: one map for all edges, which is smaller and faster than a map per node. */
class PieceTrie {
  readonly #edges = new Map<number, number>();
  readonly #ids: number[] = [-1];

  constructor(vocabulary: readonly string[]) {
    vocabulary.forEach((piece, id) => {
      let node = 0;
      for (const character of piece) {
        const edge = node * CODE_POINTS + character.codePointAt(0)!;
        let child = this.#edges.get(edge);
        if (child === undefined) {
          child = this.#ids.length;
          this.#ids.push(-1);
          this.#edges.set(edge, child);
        }
        node = child;
      }
      if (node > 0) this.#ids[node] = id;
    });
  }

  child(node: number, code: number): number | undefined {
    return this.#edges.get(node * CODE_POINTS + code);
  }

  /** The piece that ends at `node`, or -1. */
  idAt(node: number): number {
    return this.#ids[node]!;
  }
}

function byteTokens(piece: string): string[] {
  return Array.from(Buffer.from(piece), (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
}
