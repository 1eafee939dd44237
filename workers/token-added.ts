/**
 * How added tokens are found in a text: `single_word`, `lstrip` and `rstrip` as Hugging Face's own library reads them.
 *
 * Called by workers/tokenizer.ts. @huggingface/tokenizers knows no `single_word`, and takes JavaScript's spaces for Unicode's. Its splitters
 * keep their tries and get another walk over them. One case stays: a word that may not stand for itself, alone between two added tokens.
 */
import type { Tokenizer } from '@huggingface/tokenizers';

/** The package's tree of characters; `end` is the token that ends there. */
interface TrieNode {
  readonly end?: string;
  readonly [character: string]: TrieNode | string | undefined;
}

interface PackageSplitter {
  readonly trie: TrieNode;
  split(text: string): string[];
}

interface PackageToken {
  readonly single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
}

/** The tokenizer, as far as it is touched here. */
interface PackageTokenizer {
  readonly added_tokens_map: ReadonlyMap<string, PackageToken>;
  readonly splitter_normalized: PackageSplitter;
  readonly splitter_unnormalized: PackageSplitter;
}

type Rules = Readonly<PackageToken>;

/** Does nothing where no token has one of the three. */
export function replaceSplitters(tokenizer: Tokenizer): void {
  const { added_tokens_map, splitter_normalized, splitter_unnormalized } = tokenizer as unknown as PackageTokenizer;
  const rules = new Map<string, Rules>();
  for (const [content, token] of added_tokens_map) rules.set(content, { ...token });
  if (![...rules.values()].some((token) => token.single_word || token.lstrip || token.rstrip)) return;
  // What is left for the package to strip is nothing.
  for (const token of added_tokens_map.values()) token.lstrip = token.rstrip = false;
  for (const splitter of [splitter_unnormalized, splitter_normalized])
    splitter.split = (text) => sectionsOf(text, splitter.trie, rules);
}

/** Tokens and the text between them; spaces that a token strips are in neither. */
function sectionsOf(text: string, trie: TrieNode, rules: ReadonlyMap<string, Rules>): string[] {
  const sections: string[] = [];
  let from = 0;
  for (let at = 0; at < text.length; ) {
    const token = longestAt(text, at, trie);
    if (token === undefined) {
      at++;
      continue;
    }
    let [start, end] = [at, at + token.length];
    at = end;
    const { single_word, lstrip, rstrip } = rules.get(token)!;
    if (single_word && (endsInWord(text, start) || beginsWord(text, end))) continue;
    if (lstrip) while (start > from && SPACE.test(text[start - 1]!)) start--;
    if (rstrip) while (end < text.length && SPACE.test(text[end]!)) end++;
    if (start > from) sections.push(text.slice(from, start));
    sections.push(token);
    from = end;
    at = Math.max(at, end);
  }
  if (from < text.length) sections.push(text.slice(from));
  return sections;
}

function longestAt(text: string, at: number, trie: TrieNode): string | undefined {
  let longest: string | undefined;
  let node: TrieNode | undefined = trie;
  for (let i = at; i < text.length; i++) {
    node = node[text[i]!] as TrieNode | undefined;
    if (node === undefined) break;
    longest = node.end ?? longest;
  }
  return longest;
}

/** All of them are single UTF-16 units. */
const SPACE = /\p{White_Space}/u;
const WORD = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]/u;

function endsInWord(text: string, end: number): boolean {
  if (end === 0) return false;
  const low = text.charCodeAt(end - 1);
  const isPair = end > 1 && low >= 0xdc00 && low <= 0xdfff;
  return WORD.test(text.slice(end - (isPair ? 2 : 1), end));
}

const beginsWord = (text: string, start: number): boolean =>
  start < text.length && WORD.test(String.fromCodePoint(text.codePointAt(start)!));
