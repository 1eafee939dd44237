/**
 * SentencePiece's precompiled normalization: a trie from UTF-8 sequences to what they are replaced by, as tokenizer.json carries it.
 *
 * Called by workers/tokenizer.ts in place of the package's own `Precompiled`, which guesses it with NFKC. The file's bytes are a
 * little-endian uint32 with the trie's size, the trie (a double array of uint32) and the replacements, each ended by a zero byte.
 */

/** Text that no map changes if it changes none of its characters; the rest goes through grapheme by grapheme. */
const PLAIN_OR_NOT = /[\x20-\x7e]+|[^\x20-\x7e]+/g;
/** Longer graphemes are looked up character by character, as the Rust library does. */
const MAX_GRAPHEME_BYTES = 5;

export class Charsmap {
  readonly #trie: Uint32Array;
  readonly #replacements: Buffer;
  readonly #graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' });
  readonly #plainIsUnchanged: boolean;
  /** What single graphemes become; null = themselves. Texts use few of them. */
  readonly #known = new Map<string, string | null>();

  /** `base64` is `precompiled_charsmap`. Throws where it is no such map. */
  constructor(base64: string) {
    const bytes = Buffer.from(base64, 'base64');
    const trieBytes = bytes.length >= 4 ? bytes.readUInt32LE(0) : 0;
    if (trieBytes === 0 || trieBytes % 4 !== 0 || 4 + trieBytes > bytes.length)
      throw new Error('normalizer: precompiled_charsmap is not a map of SentencePiece');
    this.#trie = new Uint32Array(trieBytes / 4);
    for (let i = 0; i < this.#trie.length; i++) this.#trie[i] = bytes.readUInt32LE(4 + 4 * i);
    this.#replacements = bytes.subarray(4 + trieBytes);
    let unchanged = true;
    for (let code = 0x20; code < 0x7f; code++) unchanged &&= this.#replacement(String.fromCharCode(code)) === undefined;
    this.#plainIsUnchanged = unchanged;
  }

  normalize(text: string): string {
    if (!this.#plainIsUnchanged) return this.#replaceAll(text);
    let out = '';
    // The last letter of a plain run: a mark behind it belongs to it. Taken off what is out already, it would be copied each time.
    let letter = '';
    for (const [run] of text.matchAll(PLAIN_OR_NOT)) {
      const isPlain = run.charCodeAt(0) >= 0x20 && run.charCodeAt(0) <= 0x7e;
      out += isPlain ? run.slice(0, -1) : this.#replaceAll(letter + run);
      letter = isPlain ? run.slice(-1) : '';
    }
    out += letter;
    return out;
  }

  #replaceAll(text: string): string {
    let out = '';
    for (const { segment } of this.#graphemes.segment(text)) {
      let known = this.#known.get(segment);
      if (known === undefined) {
        known = this.#replaceGrapheme(segment);
        if (segment.length <= MAX_GRAPHEME_BYTES && this.#known.size < 10_000) this.#known.set(segment, known);
      }
      out += known ?? segment;
    }
    return out;
  }

  /** What `grapheme` becomes; null where it stays. */
  #replaceGrapheme(grapheme: string): string | null {
    if (Buffer.byteLength(grapheme) <= MAX_GRAPHEME_BYTES) {
      const whole = this.#replacement(grapheme);
      if (whole !== undefined) return whole;
    }
    let out = '';
    for (const character of grapheme) out += this.#replacement(character) ?? character;
    return out === grapheme ? null : out;
  }

  /** The replacement of the shortest beginning of `text` that has one: it stands for all of it. */
  #replacement(text: string): string | undefined {
    const trie = this.#trie;
    let position = offsetOf(trie[0]!);
    for (const byte of Buffer.from(text)) {
      if (byte === 0) return undefined;
      position ^= byte;
      const unit = trie[position];
      if (unit === undefined || (unit & 0x8000_00ff) !== byte) return undefined;
      position ^= offsetOf(unit);
      if ((unit >>> 8) & 1) return this.#stringAt((trie[position] ?? 0) & 0x7fff_ffff);
    }
    return undefined;
  }

  #stringAt(start: number): string {
    const end = this.#replacements.indexOf(0, start);
    return this.#replacements.toString('utf8', start, end < 0 ? undefined : end);
  }
}

/** Where the children of a unit of the double array lie, relative to it. */
const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);
