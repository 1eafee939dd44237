/** config.json, tokenizer files and modules.json of real models, shortened to the fields that count. */
import { describe, expect, test } from 'vitest';
import { NO_CONFIG, parseHubConfig } from '../../src/engine/huggingface-config.js';
import { JsonFields } from '../../src/engine/huggingface-json.js';
import { parseModules, parsePooling } from '../../src/engine/huggingface-pooling.js';
import { jsonSections } from '../../src/engine/huggingface-sections.js';
import { parseTokenizer } from '../../src/engine/huggingface-tokenizer.js';

const fields = (name: string, value: object) =>
  new JsonFields(`file '${name}' of model 'm'`, value as Record<string, unknown>);

describe('config.json', () => {
  const parse = (value: object) => parseHubConfig(fields('config.json', value));

  test.each<[string, object, object]>([
    [
      'of BERT',
      { model_type: 'bert', max_position_embeddings: 512, pad_token_id: 0 },
      { modelType: 'bert', maxTokens: 512, padTokenId: 0 },
    ],
    [
      'of RoBERTa, whose positions start behind the padding token',
      { model_type: 'roberta', max_position_embeddings: 514, pad_token_id: 1 },
      { modelType: 'roberta', maxTokens: 512, padTokenId: 1 },
    ],
    [
      'of MPNet without a padding token',
      { model_type: 'mpnet', max_position_embeddings: 514 },
      { modelType: 'mpnet', maxTokens: 512 },
    ],
    [
      'of CLIP, in a part of its own',
      {
        model_type: 'clip',
        text_config: { max_position_embeddings: 77, pad_token_id: 1 },
        vision_config: { num_channels: 3 },
      },
      { modelType: 'clip', maxTokens: 77, padTokenId: 1, channels: 3 },
    ],
    ['of GPT-2, in its own words', { model_type: 'gpt2', n_positions: 1024 }, { modelType: 'gpt2', maxTokens: 1024 }],
    ['of T5, whose n_positions limits nothing', { model_type: 't5', n_positions: 512 }, { modelType: 't5' }],
    ['with relative positions', { max_position_embeddings: -1, pad_token_id: -1 }, {}],
    ['with null for what there is not', { max_position_embeddings: null, pad_token_id: null, id2label: null }, {}],
    ['with classes in any order', { id2label: { 2: 'c', 0: 'a' } }, { labels: ['a', '', 'c'] }],
    ['with dimensions to cut to', { matryoshka_dimensions: [256, 128] }, { isMatryoshka: true }],
    ['that says it can be cut', { is_matryoshka: true }, { isMatryoshka: true }],
  ])('%s', (_, file, expected) => {
    expect(parse(file)).toEqual({ ...NO_CONFIG, ...expected });
  });

  test.each<[object, string]>([
    [{ id2label: { 0: 5 } }, "'id2label.0' must be a string, got 5"],
    [{ id2label: ['a'] }, "'id2label' must be an object, got a list of 1"],
    [
      { id2label: { cat: 'a' } },
      '\'id2label\' must be an object whose keys are class numbers below 1000000 (one is "cat"), got an object',
    ],
    [{ max_position_embeddings: '512' }, '\'max_position_embeddings\' must be a number, got "512"'],
    [{ pad_token_id: 1.5 }, "'pad_token_id' must be a whole number >= 0, got 1.5"],
    [{ pad_token_id: [0] }, "'pad_token_id' must be a number, got a list of 1"],
  ])('%j is refused', (file, message) => {
    expect(() => parse(file)).toThrow(`file 'config.json' of model 'm': ${message}`);
  });
});

describe('a tokenizer', () => {
  const BERT = {
    version: '1.0',
    truncation: { max_length: 128, strategy: 'LongestFirst', stride: 0 },
    padding: { strategy: 'BatchLongest', direction: 'Right', pad_id: 0, pad_type_id: 0, pad_token: '[PAD]' },
    added_tokens: [
      { id: 0, content: '[PAD]' },
      { id: 101, content: '[CLS]' },
    ],
    post_processor: {
      type: 'TemplateProcessing',
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    },
    model: { type: 'WordPiece', vocab: { '[PAD]': 0, '"},': 7 } },
  };
  const ROBERTA = {
    added_tokens: [{ id: 1, content: '<pad>' }],
    post_processor: { type: 'RobertaProcessing' },
    model: { type: 'BPE', vocab: { '<s>': 0, '<pad>': 1 } },
  };
  const CLIP = {
    post_processor: { type: 'TemplateProcessing', pair: [] },
    model: { vocab: { '!': 0, '<|endoftext|>': 49407 } },
  };

  const parse = async (
    tokenizer: object,
    files: { config?: object; tokenizerConfig?: object; special?: object; sbert?: object } = {},
  ) => {
    const { tokenizerJson: _, ...rest } = await parseTokenizer(
      { subject: "file 'tokenizer.json' of model 'm'", bytes: Buffer.from(JSON.stringify(tokenizer, undefined, 2)) },
      {
        tokenizerConfig: files.tokenizerConfig && fields('tokenizer_config.json', files.tokenizerConfig),
        tokenizerConfigJson: '{}',
        specialTokens: files.special && fields('special_tokens_map.json', files.special),
        sentenceBert: files.sbert && fields('sentence_bert_config.json', files.sbert),
        config: parseHubConfig(fields('config.json', files.config ?? {})),
      },
    );
    return rest;
  };
  const base = { tokenizerConfigJson: '{}', paddingSide: 'right', padTokenId: 0, padTokenTypeId: 0, takesPairs: true };

  test.each<[string, object, Parameters<typeof parse>[1], object]>([
    [
      'of MiniLM has the limit of sentence-transformers and not the one it was saved with',
      BERT,
      {
        config: { max_position_embeddings: 512 },
        tokenizerConfig: { model_max_length: 512, pad_token: '[PAD]' },
        sbert: { max_seq_length: 256 },
      },
      { maxTokens: 256 },
    ],
    [
      'that speaks of no limit elsewhere has the one it was saved with',
      BERT,
      { config: { max_position_embeddings: 512 } },
      { maxTokens: 128 },
    ],
    [
      'without a limit of its own has that of the positions',
      ROBERTA,
      {
        config: { model_type: 'xlm-roberta', max_position_embeddings: 514, pad_token_id: 1 },
        tokenizerConfig: { model_max_length: 1e30, pad_token: { content: '<pad>', lstrip: false } },
      },
      { maxTokens: 512, padTokenId: 1 },
    ],
    ['without any limit has that of the server', ROBERTA, {}, { maxTokens: 8192 }],
    [
      'of CLIP finds its padding token in the vocabulary',
      CLIP,
      { tokenizerConfig: { model_max_length: 77 }, special: { pad_token: '<|endoftext|>' } },
      { maxTokens: 77, padTokenId: 49407, takesPairs: false },
    ],
    [
      'of a decoder pads on the left',
      { ...ROBERTA, padding: { direction: 'Left', pad_id: 9, pad_type_id: 2 }, post_processor: null },
      { tokenizerConfig: { pad_token: null } },
      { maxTokens: 8192, paddingSide: 'left', padTokenId: 9, padTokenTypeId: 2, takesPairs: false },
    ],
    [
      'pads as tokenizer_config.json says, with the id of config.json where none names a token',
      {
        ...BERT,
        post_processor: { type: 'Sequence', processors: [{ type: 'ByteLevel' }, { type: 'BertProcessing' }] },
      },
      { tokenizerConfig: { padding_side: 'left', model_max_length: 10 }, config: { pad_token_id: 3 } },
      { maxTokens: 10, paddingSide: 'left', padTokenId: 3 },
    ],
  ])('%s', async (_, tokenizer, files, expected) => {
    expect(await parse(tokenizer, files)).toEqual({ ...base, ...expected });
  });

  test.each<[object, Parameters<typeof parse>[1], string]>([
    [
      { ...BERT, truncation: { max_length: 0 } },
      {},
      "file 'tokenizer.json' of model 'm': 'truncation.max_length' must be a whole number >= 1, got 0",
    ],
    [{ ...BERT, padding: 'yes' }, {}, "file 'tokenizer.json' of model 'm': 'padding' must be an object, got \"yes\""],
    [{ version: '1.0' }, {}, "file 'tokenizer.json' of model 'm': 'model' must be an object, got nothing"],
    [
      BERT,
      { tokenizerConfig: { padding_side: 'top' } },
      "file 'tokenizer_config.json' of model 'm': 'padding_side' must be 'right' or 'left', got \"top\"",
    ],
    [
      BERT,
      { tokenizerConfig: { truncation_side: 'middle' } },
      "file 'tokenizer_config.json' of model 'm': 'truncation_side' must be 'right' or 'left', got \"middle\"",
    ],
    [
      BERT,
      { config: { max_position_embeddings: 1.5 } },
      "file 'config.json' of model 'm': 'max_position_embeddings' must be a whole number >= 1, got 1.5",
    ],
    [
      BERT,
      { tokenizerConfig: { model_max_length: '512' } },
      "file 'tokenizer_config.json' of model 'm': 'model_max_length' must be a number, got \"512\"",
    ],
    [
      BERT,
      { sbert: { max_seq_length: 12.5 } },
      "file 'sentence_bert_config.json' of model 'm': 'max_seq_length' must be a whole number >= 1, got 12.5",
    ],
  ])('%j with %j is refused', async (tokenizer, files, message) => {
    await expect(parse(tokenizer, files)).rejects.toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message }),
    );
  });
});

describe('the members of a large object', () => {
  const sections = async (text: string) =>
    Object.fromEntries(
      [...(await jsonSections('x', Buffer.from(text)))].map(([name, bytes]) => [
        name,
        Buffer.from(bytes).toString().trim(),
      ]),
    );

  test('are found without parsing, whatever stands in strings', async () => {
    expect(await sections('\ufeff {"a": [1, {"b": "}]"}], "c\\"d" : "x:,{\\\\", "e":null , "f": {"a": 2}}\n')).toEqual({
      a: '[1, {"b": "}]"}]',
      'c\\"d': '"x:,{\\\\"',
      e: 'null',
      f: '{"a": 2}',
    });
    expect(await sections('{}')).toEqual({});
  });

  test('are found over many turns of the event loop', async () => {
    const large = `"${'x'.repeat(3 << 20)}"`;
    expect(await sections(`{"model":${large},"z":1}`)).toEqual({ model: large, z: '1' });
  });

  test.each(['', '[]', '{"a":1', '{"a":"b}', '"{}"', 'null', '{"a":1}}'])('are refused for %j', async (text) => {
    await expect(sections(text)).rejects.toThrow('x is not valid JSON');
  });
});

describe('modules.json', () => {
  const module = (type: string, path = '') => ({
    idx: 0,
    name: '0',
    path,
    type: `sentence_transformers.models.${type}`,
  });
  const parse = (...modules: object[]) =>
    parseModules(JsonFields.parseList("file 'modules.json' of model 'm'", Buffer.from(JSON.stringify(modules))));

  test('of MiniLM pools and normalizes', () => {
    expect(parse(module('Transformer'), module('Pooling', '1_Pooling'), module('Normalize', '2_Normalize'))).toEqual({
      transformerPath: '',
      poolingPath: '1_Pooling',
      normalize: true,
      problem: '',
    });
  });

  test('with the transformer in a folder says which', () => {
    const modules = parse(module('Transformer', '0_Transformer'), {
      ...module('Pooling', '1'),
      type: 'sentence_transformers.sentence_transformer.modules.pooling.Pooling',
    });
    expect(modules).toEqual({ transformerPath: '0_Transformer', poolingPath: '1', normalize: false, problem: '' });
  });

  test('with what is not done here says so', () => {
    expect(
      parse(module('Transformer'), module('Pooling', '1_Pooling'), module('Dense', '2_Dense'), module('Normalize'))
        .problem,
    ).toBe(
      "its modules.json has a module 'Dense', which is not applied here (export the model with an output 'sentence_embedding' instead)",
    );
    expect(parse(module('Transformer')).problem).toBe('its modules.json has no Pooling module');
  });

  test('that is no list of objects is refused', () => {
    expect(() => parse(5 as never)).toThrow("file 'modules.json' of model 'm': [0] must be an object, got 5");
    expect(() => JsonFields.parseList('x', Buffer.from('{}'))).toThrow('x must hold a list, got an object');
  });

  test.each<[object, string[]]>([
    [{ pooling_mode_cls_token: true, pooling_mode_mean_tokens: false }, ['cls']],
    [
      { pooling_mode_cls_token: true, pooling_mode_mean_tokens: true, pooling_mode_max_tokens: true },
      ['cls', 'max', 'mean'],
    ],
    [
      {
        pooling_mode_mean_tokens: false,
        pooling_mode_lasttoken: true,
        pooling_mode_weightedmean_tokens: true,
        pooling_mode_mean_sqrt_len_tokens: true,
      },
      ['mean_sqrt_len', 'weightedmean', 'lasttoken'],
    ],
    [{ word_embedding_dimension: 384 }, ['mean']],
    [{ pooling_mode: 'lasttoken' }, ['lasttoken']],
    [{ pooling_mode: ['mean', 'CLS', 'mean_sqrt_len_tokens'] }, ['mean', 'cls', 'mean_sqrt_len']],
  ])('pools by %j', (file, modes) => {
    expect(parsePooling(fields('1_Pooling/config.json', file))).toEqual(modes);
  });

  test.each<[object, string]>([
    [
      { pooling_mode: 'sum' },
      '\'pooling_mode\' must be one of cls, max, mean, mean_sqrt_len, weightedmean, lasttoken, mean_sqrt_len_tokens, got "sum"',
    ],
    [{ pooling_mode: [] }, "'pooling_mode' must be at least one of cls, max, mean, "],
    [
      { pooling_mode_mean_tokens: false },
      "'pooling_mode_mean_tokens' must be true where no other 'pooling_mode_...' is, got false",
    ],
    [{ pooling_mode_max_tokens: 1 }, "'pooling_mode_max_tokens' must be true or false, got 1"],
  ])('refuses %j', (file, message) => {
    expect(() => parsePooling(fields('1_Pooling/config.json', file))).toThrow(message);
  });
});
