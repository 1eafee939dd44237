/**
 * A model's tokenizer: text to token ids, equal to what Hugging Face's own library (Python's `tokenizers`) gives.
 *
 * Called by workers/text.ts and, through it, workers/prompt.ts. @huggingface/tokenizers does most of it; where it differs, its input is
 * rewritten (tokenizer-json.ts) or a part of it is replaced (token-models.ts, token-charsmap.ts, token-added.ts). Owns the vocabulary:
 * some ten megabytes for a large one.
 */
import { Tokenizer } from '@huggingface/tokenizers';
import { replaceSplitters } from './token-added.js';
import { Charsmap } from './token-charsmap.js';
import { type Encoder, unigramEncoder, wordPieceEncoder } from './token-models.js';
import { type TokenizerFile, tokenizerFile } from './tokenizer-file.js';
import { type Component, rewriteNormalizer, rewritePreTokenizer } from './tokenizer-json.js';

export interface TextTokenizer {
  /** Ids of `text` alone: nothing is added and nothing is cut. `undefined` where there is no token for some character. */
  encode(text: string): (number | undefined)[];
  /** The `post_processor` of the file. */
  readonly postProcessor: Component | null;
}

/** `json` is the parsed tokenizer.json. Throws with what is wrong with it. */
export function createTokenizer(json: unknown): TextTokenizer {
  const file = tokenizerFile(json);
  const tokenizer = new Tokenizer(
    {
      added_tokens: [],
      decoder: null,
      ...file,
      normalizer: file.normalizer && rewriteNormalizer(file.normalizer),
      pre_tokenizer: preTokenizerOf(file),
      // What is put around texts depends on how they are cut: see token-template.ts.
      post_processor: null,
    },
    // WordLevel looks for this in tokenizer_config.json. Its other settings are for tokenizers that were never converted.
    { unk_token: file.model.unk_token },
  );
  replaceSplitters(tokenizer);
  replaceCharsmap(tokenizer);
  replaceModel(tokenizer, file.model);
  return {
    encode: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
    postProcessor: file.post_processor,
  };
}

/** The mark of SentencePiece for a space before a word. */
const MARK = '\u2581';

/**
 * SentencePiece's BPE takes a text as one word. Where no token goes on after the end of a word, no merge does either, so words apart give
 * the same tokens; and words are short, and remembered.
 */
function preTokenizerOf({ pre_tokenizer, model }: TokenizerFile): Component | null {
  if (pre_tokenizer) return rewritePreTokenizer(pre_tokenizer);
  const goesOn = new RegExp(`[^${MARK}]${MARK}`);
  const isApart =
    model.type === 'BPE' &&
    !model.ignore_merges &&
    !Object.keys(model.vocab as object).some((token) => goesOn.test(token));
  if (!isApart) return null;
  return {
    type: 'Split',
    pattern: { Regex: `${MARK}*[^${MARK}]+|${MARK}+` },
    behavior: 'Removed',
    invert: true,
  };
}

/** A normalizer of the package, as far as it is touched here; its own types are not exported. */
interface PackageNormalizer {
  readonly config: Component;
  readonly normalizers?: readonly (PackageNormalizer | null)[];
  normalize(text: string): string;
}

/** Puts the real map in the place of the package's guess. */
function replaceCharsmap(tokenizer: Tokenizer): void {
  const visit = (part: PackageNormalizer | null): void => {
    for (const step of part?.normalizers ?? []) visit(step);
    if (part?.config.type !== 'Precompiled') return;
    const map = new Charsmap(String(part.config.precompiled_charsmap ?? ''));
    part.normalize = (text) => map.normalize(text);
  };
  visit(tokenizer.normalizer as unknown as PackageNormalizer | null);
}

/** A model of the package, as far as it is touched here. */
interface PackageModel {
  readonly tokens_to_ids: ReadonlyMap<string, number>;
  readonly unk_token?: string;
  readonly trie?: { readonly root: { readonly children: Map<string, unknown> } };
  fuse_unk: boolean;
  encode: Encoder;
}

function replaceModel(tokenizer: Tokenizer, config: Component): void {
  const model = tokenizer.model as unknown as PackageModel;
  if (config.type === 'WordPiece') {
    model.encode = wordPieceEncoder({
      vocabulary: model.tokens_to_ids,
      unknown: model.unk_token ?? '[UNK]',
      prefix: String(config.continuing_subword_prefix ?? '##'),
      maxCharacters: Number(config.max_input_chars_per_word ?? 100),
    });
  } else if (config.type === 'Unigram') {
    const vocabulary = config.vocab as [string, number][];
    model.encode = unigramEncoder({
      vocabulary: vocabulary.map(([piece]) => piece),
      scores: vocabulary.map(([, score]) => score),
      unknownId: Number(config.unk_id ?? -1),
      byteFallback: config.byte_fallback === true,
    });
    // As large as the vocabulary, and not used any more.
    model.trie?.root.children.clear();
  } else if (config.type === 'BPE' && model.fuse_unk) {
    const encode = model.encode.bind(model);
    const unknown = model.unk_token;
    model.encode = (words) =>
      words.flatMap((word) => encode([word]).filter((token, i, all) => token !== unknown || all[i - 1] !== unknown));
  }
  // The package would fuse across words.
  model.fuse_unk = false;
}
