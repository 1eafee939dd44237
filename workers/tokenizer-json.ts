/**
 * Rewrites the parts of a tokenizer.json that @huggingface/tokenizers reads otherwise than Hugging Face's own library (Python's
 * `tokenizers`, written in Rust), which is what models were trained with. Each rewrite says the same in words that both read alike.
 *
 * Called by workers/tokenizer.ts. Data in, data out. What is rewritten, and why:
 *
 *   `\s`, `\w`, `\d` of JavaScript are not Unicode's: U+0085 is no space and U+FEFF is one, words and digits are ASCII
 *   lower case per text makes a final sigma of the last Σ of a word; Rust's is per character
 *   BertNormalizer looks at UTF-16 units, and so misses Chinese characters beyond U+FFFF
 *   the behaviours of Punctuation and Split are not all there, and Metaspace does not split
 *   `$` in the content of Replace has a meaning
 *   Nmt and CharDelimiterSplit are not there
 */

/** Parsed JSON that has a `type`. */
export interface Component {
  readonly type?: string;
  readonly [key: string]: unknown;
}

/** As many code points as the crates in Rust know; `\s` is rewritten by the package to Unicode's White_Space. */
const PUNCTUATION = '\\p{P}\\x{21}-\\x{2F}\\x{3A}-\\x{40}\\x{5B}-\\x{60}\\x{7B}-\\x{7E}';
const WORD = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200C}\\x{200D}';
/** The blocks that BERT puts spaces around, as the Rust library has them. */
const CHINESE =
  '\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{20000}-\\x{2A6DF}\\x{2A700}-\\x{2B73F}\\x{2B740}-\\x{2B81F}\\x{2B920}-\\x{2CEAF}\\x{F900}-\\x{FAFF}\\x{2F800}-\\x{2FA1F}';
/** Byte-level BPE's words, as GPT-2 has them. */
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const replace = (regex: string, content: string): Component => ({
  type: 'Replace',
  pattern: { Regex: regex },
  content,
});
/** Whatever `regex` matches is a piece, the rest is dropped. */
const pieces = (regex: string): Component => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Removed',
  invert: true,
});

/** A normalizer that gives the Rust library's text. */
export function rewriteNormalizer(normalizer: Component): Component {
  switch (normalizer.type) {
    case 'Sequence':
      return sequence('normalizers', stepsOf(normalizer, 'normalizers').map(rewriteNormalizer));
    case 'BertNormalizer':
      return sequence('normalizers', bertNormalizers(normalizer));
    case 'Lowercase':
      return sequence('normalizers', LOWERCASE);
    case 'Strip': {
      const steps: Component[] = [];
      if (normalizer.strip_left) steps.push(replace('\\A\\s+', ''));
      // Looked for at the start of a run only: from inside each run again it would be quadratic.
      if (normalizer.strip_right) steps.push(replace('(?<!\\s)\\s+\\z', ''));
      return sequence('normalizers', steps);
    }
    case 'Nmt':
      return sequence('normalizers', NMT);
    case 'Replace':
      return { ...normalizer, content: String(normalizer.content ?? '').replaceAll('$', '$$$$') };
    default:
      return normalizer;
  }
}

/** A pre-tokenizer that gives the Rust library's pieces. */
export function rewritePreTokenizer(preTokenizer: Component): Component {
  switch (preTokenizer.type) {
    case 'Sequence':
      return sequence('pretokenizers', stepsOf(preTokenizer, 'pretokenizers').map(rewritePreTokenizer));
    case 'BertPreTokenizer':
      return pieces(`[^\\s${PUNCTUATION}]+|[${PUNCTUATION}]`);
    case 'Whitespace':
      return pieces(`[${WORD}]+|[^${WORD}\\s]+`);
    case 'WhitespaceSplit':
      return pieces('\\S+');
    case 'Digits':
      return split(preTokenizer.individual_digits ? '\\p{N}' : '\\p{N}+', 'Isolated');
    case 'Punctuation':
      return split(`[${PUNCTUATION}]`, String(preTokenizer.behavior ?? 'Isolated'));
    case 'FixedLength':
      return pieces(`[\\s\\S]{1,${Number(preTokenizer.length)}}`);
    case 'Split':
      return rewriteSplit(preTokenizer);
    case 'CharDelimiterSplit':
      return rewriteSplit({ pattern: { String: String(preTokenizer.delimiter) }, behavior: 'Removed' });
    case 'Metaspace':
      return rewriteMetaspace(preTokenizer);
    case 'ByteLevel':
      return rewriteByteLevel(preTokenizer);
    default:
      return preTokenizer;
  }
}

function stepsOf(component: Component, key: string): readonly Component[] {
  const steps = component[key];
  if (!Array.isArray(steps)) throw new Error(`a Sequence has no list "${key}"`);
  return steps as Component[];
}

const sequence = (key: string, steps: readonly Component[]): Component => ({ type: 'Sequence', [key]: steps });

/** Σ is the one character whose lower case depends on its neighbours. */
const LOWERCASE: readonly Component[] = [replace('Σ', 'σ'), { type: 'Lowercase' }];

/** SentencePiece's rules for machine translation: no control characters, and spaces for what separates and for marks without width. */
const NMT: readonly Component[] = [
  replace('[\\x{1}-\\x{8}\\x{B}\\x{E}-\\x{1F}\\x{7F}\\x{8F}\\x{9F}]', ''),
  replace('[\\t\\n\\f\\r\\x{1680}\\x{200B}-\\x{200F}\\x{2028}\\x{2029}\\x{2581}\\x{FEFF}\\x{FFFD}]', ' '),
];

function bertNormalizers(bert: Component): Component[] {
  const steps: Component[] = [];
  if (bert.clean_text) steps.push(replace('(?![\\t\\n\\r])[\\p{Cc}\\p{Cf}\\p{Co}\\x{FFFD}]', ''), replace('\\s', ' '));
  if (bert.handle_chinese_chars) steps.push(replace(`[${CHINESE}]`, ' $& '));
  if (bert.strip_accents ?? bert.lowercase) steps.push({ type: 'NFD' }, replace('\\p{Mn}', ''));
  if (bert.lowercase) steps.push(...LOWERCASE);
  return steps;
}

function rewriteSplit(component: Component): Component {
  const pattern = component.pattern as { Regex?: string; String?: string } | undefined;
  const behavior = String(component.behavior ?? 'Isolated');
  if (component.invert && behavior !== 'Isolated' && behavior !== 'Removed')
    throw new Error(`a Split with invert and behavior ${behavior} is not supported`);
  if (component.invert && behavior === 'Removed') return component;
  const regex = pattern?.Regex ?? pattern?.String?.replace(/[.*+?^${}()|[\]\\/#-]/g, '\\$&');
  if (regex === undefined) throw new Error('a Split has no pattern');
  return split(regex, behavior);
}

/** A Split at what `regex` matches; every behaviour of the Rust library by the two that the package has. */
function split(regex: string, behavior: string): Component {
  switch (behavior) {
    case 'Isolated':
    case 'Removed':
      return { type: 'Split', pattern: { Regex: regex }, behavior, invert: false };
    case 'Contiguous':
      return { type: 'Split', pattern: { Regex: `(?:${regex})+` }, behavior: 'Isolated', invert: false };
    case 'MergedWithPrevious':
      return pieces(`(?:(?!${regex})[\\s\\S])*(?:${regex})|[\\s\\S]+`);
    case 'MergedWithNext':
      return pieces(`(?:${regex})(?:(?!${regex})[\\s\\S])*|(?:(?!${regex})[\\s\\S])+`);
    default:
      throw new Error(`behavior ${behavior} of a Split is not known`);
  }
}

function rewriteMetaspace(metaspace: Component): Component {
  if (metaspace.split === false) return metaspace;
  const mark = `\\x{${(String(metaspace.replacement ?? '▁').codePointAt(0) ?? 0x2581).toString(16)}}`;
  return sequence('pretokenizers', [metaspace, pieces(`${mark}[^${mark}]*|[^${mark}]+`)]);
}

function rewriteByteLevel(byteLevel: Component): Component {
  if (byteLevel.use_regex === false) return byteLevel;
  const steps: Component[] = [];
  if (byteLevel.add_prefix_space) steps.push(replace('\\A[^ ]', ' $&'));
  steps.push(pieces(GPT2), { ...byteLevel, add_prefix_space: false, use_regex: false });
  return sequence('pretokenizers', steps);
}
