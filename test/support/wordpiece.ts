/**
 * A small WordPiece tokenizer in Hugging Face's files, as BERT's are: `tokenizer.json` and `tokenizer_config.json`.
 *
 * Called by huggingface.ts and by tests of the tokenizing itself. Owns the vocabulary: letters, so that every word of the Latin
 * alphabet has pieces, some whole words and endings, and a little of other scripts; the rest is [UNK].
 */

export const SPECIAL_TOKENS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] as const;

const WORDS =
  'the be to of and in that have it for not on with he as you do at this but his by from they we say her she or an will my one ' +
  'all would there their what so up out if about who get which go me when make can like time no just him know take people into ' +
  'year your good some could them see other than then now look only come its over think also back after use two how our work ' +
  'first well way even new want because any these give day most us model server text token batch picture label small large city ' +
  'weather rain sun street coffee music science history question answer tensor number morning evening hello world house garden ' +
  'water fire train ticket price market doctor school student teacher animal dog cat bird fish horse paper book letter word';

const ENDINGS = 'ing ed er est ly s es en al ion tion ment ness able ful less ity ous ive ize th rd st nd'.split(' ');

const PUNCTUATION = [...'!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~'];

const OTHER = [...'абвгдежзиклмнопрстуя', ...'αβγδε', ...'世界日本語中国', ...'שלום', ...'سلام', '€', '°', '😀', '🚀'];

const CHARACTERS = [...'abcdefghijklmnopqrstuvwxyz0123456789'];

/** Pieces in the order of their ids; [PAD] is 0. */
export const VOCABULARY: readonly string[] = [
  ...new Set([
    ...SPECIAL_TOKENS,
    ...PUNCTUATION,
    ...CHARACTERS,
    ...CHARACTERS.map((character) => `##${character}`),
    ...OTHER,
    ...[...'абвгдежзиклмнопрстуя'].map((character) => `##${character}`),
    ...WORDS.split(' '),
    ...ENDINGS.map((ending) => `##${ending}`),
  ]),
];

export interface WordPieceOptions {
  /** `model_max_length`, special tokens included. */
  readonly maxTokens: number;
  readonly paddingSide?: 'right' | 'left';
}

export interface WordPieceFiles {
  readonly 'tokenizer.json': string;
  readonly 'tokenizer_config.json': string;
  readonly 'special_tokens_map.json': string;
}

/** The files' contents, by name. */
export function wordPieceFiles({ maxTokens, paddingSide = 'right' }: WordPieceOptions): WordPieceFiles {
  const names = {
    pad_token: '[PAD]',
    unk_token: '[UNK]',
    cls_token: '[CLS]',
    sep_token: '[SEP]',
    mask_token: '[MASK]',
  };
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, id) => ({ id, ...addedToken(content) })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special('[CLS]', 0), sequence('A', 0), special('[SEP]', 0)],
      pair: [special('[CLS]', 0), sequence('A', 0), special('[SEP]', 0), sequence('B', 1), special('[SEP]', 1)],
      special_tokens: Object.fromEntries(
        ['[CLS]', '[SEP]'].map((id) => [id, { id, ids: [VOCABULARY.indexOf(id)], tokens: [id] }]),
      ),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: Object.fromEntries(VOCABULARY.map((piece, id) => [piece, id])),
    },
  };
  const config = {
    added_tokens_decoder: Object.fromEntries(SPECIAL_TOKENS.map((content, id) => [id, addedToken(content)])),
    clean_up_tokenization_spaces: true,
    do_lower_case: true,
    model_max_length: maxTokens,
    padding_side: paddingSide,
    strip_accents: null,
    tokenize_chinese_chars: true,
    tokenizer_class: 'BertTokenizer',
    ...names,
  };
  return {
    'tokenizer.json': JSON.stringify(tokenizer),
    'tokenizer_config.json': JSON.stringify(config),
    'special_tokens_map.json': JSON.stringify(names),
  };
}

function addedToken(content: string) {
  return { content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
}

function special(id: string, type_id: number) {
  return { SpecialToken: { id, type_id } };
}

function sequence(id: string, type_id: number) {
  return { Sequence: { id, type_id } };
}
