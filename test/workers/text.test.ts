import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { ContentElements, PreparedTensor, TextSpec } from '../../src/runtime/preprocess-messages.js';
import { TextProcessor } from '../../workers/text.js';
import { lengthsWithin } from '../../workers/token-template.js';

const fixtures = readFileSync(join(import.meta.dirname, '../fixtures/tokenizers/tokenizers.jsonl'), 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line) as { name: string; tokenizer: unknown });
const jsonOf = (name: string): string => JSON.stringify(fixtures.find((fixture) => fixture.name === name)!.tokenizer);

const SPEC: TextSpec = {
  tokenizerJson: jsonOf('bert'),
  tokenizerConfigJson: '{}',
  maxTokens: 128,
  paddingSide: 'right',
  padTokenId: 0,
  padTokenTypeId: 0,
  addSpecialTokens: true,
  tensors: [
    { role: 'input_ids', name: 'input_ids', datatype: 'INT64' },
    { role: 'attention_mask', name: 'attention_mask', datatype: 'INT64' },
  ],
};
const processor = (spec: Partial<TextSpec> = {}) => new TextProcessor({ ...SPEC, ...spec });

function elements(
  kind: 'text' | 'text_pair',
  texts: (string | Uint8Array)[],
): ContentElements<Uint8Array<ArrayBuffer>> {
  const parts = texts.flatMap((text) => {
    const bytes = Buffer.from(text as string);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return [length, bytes];
  });
  return { kind, count: texts.length, data: new Uint8Array(Buffer.concat(parts)) };
}
const text = (...texts: (string | Uint8Array)[]) => elements('text', texts);
const pair = (...texts: (string | Uint8Array)[]) => elements('text_pair', texts);

/** Rows of numbers. */
function rowsOf({ data, datatype, dims }: PreparedTensor): number[][] {
  const { buffer, byteOffset, byteLength } = data;
  const values =
    datatype === 'INT64'
      ? Array.from(new BigInt64Array(buffer, byteOffset, byteLength / 8), Number)
      : Array.from(new Int32Array(buffer, byteOffset, byteLength / 4));
  const [rows, columns] = dims as [number, number];
  return Array.from({ length: rows }, (_, row) => values.slice(row * columns, (row + 1) * columns));
}

const CLS = 2;
const SEP = 3;

test('texts of different lengths are padded to the longest, and the mask says where', () => {
  const { tensors, rowTokens } = processor().prepare(text('a', 'a b a b', 'a b'), undefined, true);
  const [ids, mask] = tensors.map(rowsOf);
  const [, a, b] = ids![1]!;
  expect(tensors.map(({ name, datatype, dims }) => [name, datatype, dims])).toEqual([
    ['input_ids', 'INT64', [3, 6]],
    ['attention_mask', 'INT64', [3, 6]],
  ]);
  expect(ids).toEqual([
    [CLS, a, SEP, 0, 0, 0],
    [CLS, a, b, a, b, SEP],
    [CLS, a, b, SEP, 0, 0],
  ]);
  expect(mask).toEqual([
    [1, 1, 1, 0, 0, 0],
    [1, 1, 1, 1, 1, 1],
    [1, 1, 1, 1, 0, 0],
  ]);
  expect(rowTokens).toEqual([3, 6, 4]);
});

test('padding goes to the left where the tokenizer says so, with its own ids', () => {
  const left = processor({
    paddingSide: 'left',
    padTokenId: 7,
    padTokenTypeId: 5,
    tensors: [
      { role: 'input_ids', name: 'ids', datatype: 'INT32' },
      { role: 'token_type_ids', name: 'types', datatype: 'INT64' },
      { role: 'attention_mask', name: 'mask', datatype: 'INT32' },
      { role: 'position_ids', name: 'positions', datatype: 'INT64' },
    ],
  });
  const { tensors } = left.prepare(text('a', 'a b a'), undefined, true);
  const [ids, types, mask, positions] = tensors.map(rowsOf);
  const a = ids![1]![1];
  expect(tensors.map(({ name, datatype }) => `${name} ${datatype}`)).toEqual([
    'ids INT32',
    'types INT64',
    'mask INT32',
    'positions INT64',
  ]);
  expect(ids![0]).toEqual([7, 7, CLS, a, SEP]);
  expect(types).toEqual([
    [5, 5, 0, 0, 0],
    [0, 0, 0, 0, 0],
  ]);
  expect(mask![0]).toEqual([0, 0, 1, 1, 1]);
  expect(positions).toEqual([
    [0, 0, 0, 1, 2],
    [0, 1, 2, 3, 4],
  ]);
});

test('texts of different lengths are refused together where no mask would tell their padding', () => {
  const maskless = processor({ tensors: [{ role: 'input_ids', name: 'input_ids', datatype: 'INT64' }] });
  expect(maskless.prepare(text('a b', 'b a'), undefined, true).rowTokens).toEqual([4, 4]);
  expect(() => maskless.prepare(text('a b', 'a'), undefined, true)).toThrow(
    'text 1 has 3 tokens and another of the request 4, but the model has no attention_mask to tell padding by: send them in requests of their own',
  );
});

test('a pair has real types', () => {
  const typed = processor({ tensors: [{ role: 'token_type_ids', name: 'types', datatype: 'INT64' }] });
  const { tensors } = typed.prepare(text('a b'), pair('a'), true);
  expect(rowsOf(tensors[0]!)).toEqual([[0, 0, 0, 0, 1, 1]]);
});

test('text past the limit is cut and keeps its special tokens, at the limit it is whole', () => {
  const short = processor({ maxTokens: 5 });
  const at = short.prepare(text('a b a'), undefined, true);
  const past = short.prepare(text('a b a b'), undefined, true);
  expect(at.rowTokens).toEqual([5]);
  expect(rowsOf(past.tensors[0]!)).toEqual(rowsOf(at.tensors[0]!));
});

test('text past the limit is an error where it is not to be cut', () => {
  const short = processor({ maxTokens: 5 });
  expect(short.prepare(text('a b a'), undefined, false).rowTokens).toEqual([5]);
  expect(() => short.prepare(text('a', 'a b a b'), undefined, false)).toThrow(
    'text 1 has 6 tokens, more than the 5 that the model takes',
  );
  expect(() => short.prepare(text('a b'), pair('a'), false)).toThrow('text 0 has 6 tokens, more than the 5');
});

test('nothing is added where no special tokens are wanted', () => {
  const bare = processor({ addSpecialTokens: false, maxTokens: 2 });
  expect(bare.prepare(text('a b a'), undefined, true).rowTokens).toEqual([2]);
});

test('the end is kept where the tokenizer cuts from the left', () => {
  const [whole] = processor({ addSpecialTokens: false }).prepare(text('a b c'), undefined, true).tensors.map(rowsOf);
  const left = processor({
    addSpecialTokens: false,
    maxTokens: 2,
    tokenizerConfigJson: '{"truncation_side":"left"}',
  });
  expect(rowsOf(left.prepare(text('a b c'), undefined, true).tensors[0]!)).toEqual([whole![0]!.slice(1)]);
});

test.each<[string, () => unknown, string]>([
  ['broken UTF-8', () => text('fine', Buffer.from([0x61, 0xff, 0x62])), 'text 1 of 3 bytes is not valid UTF-8'],
  ['UTF-8 that is cut short', () => text(Buffer.from([0xe2, 0x82])), 'text 0 of 2 bytes is not valid UTF-8'],
  ['a surrogate', () => text(Buffer.from([0xed, 0xa0, 0x80])), 'text 0 of 3 bytes is not valid UTF-8'],
  ['an overlong form', () => text(Buffer.from([0xc0, 0xaf])), 'text 0 of 2 bytes is not valid UTF-8'],
  ['empty text', () => text('fine', ''), 'text 1 is empty'],
  ['text without tokens', () => text('\u200b\u0007'), "text 0 gives no tokens: '\u200b?'"],
])('%s is refused', (_, content, message) => {
  const prepare = () => processor().prepare(content() as ReturnType<typeof text>, undefined, true);
  expect(prepare).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', message }));
});

test('second sentences are checked as first ones are, and come in pairs', () => {
  expect(() => processor().prepare(text('a', 'b'), pair('a', ''), true)).toThrow('text_pair 1 is empty');
  expect(() => processor().prepare(text('a', 'b'), pair('a'), true)).toThrow(
    'there are 2 texts and 1 second sentences: they come in pairs',
  );
});

test('a byte order mark and NUL are characters, not the end', () => {
  const bytes = processor({ tokenizerJson: jsonOf('roberta') });
  const count = (value: string) => bytes.prepare(text(value), undefined, true).rowTokens[0]!;
  expect(count('\ufeffa')).toBeGreaterThan(count('a'));
  expect(count('a\0b')).toBeGreaterThan(count('ab'));
});

test('rows that would take too much memory when padded are refused', () => {
  const many = processor({ tensors: [SPEC.tensors[0]!], maxTokens: 100_000 });
  const content = text('b '.repeat(50_000), ...new Array<string>(800).fill('a'));
  expect(() => many.prepare(content, undefined, true)).toThrow(
    expect.objectContaining({
      code: 'RESOURCE_EXHAUSTED',
      message: '801 texts padded to 50002 tokens take 320412816 bytes of 268435456: send fewer in one request',
    }),
  );
});

test.each<[string, Partial<TextSpec>, RegExp]>([
  ['no JSON', { tokenizerJson: '{"model":' }, /^tokenizer\.json is not JSON: /],
  ['no object', { tokenizerJson: '[]' }, /^tokenizer\.json can't be used: it is not a JSON object$/],
  ['no model', { tokenizerJson: '{}' }, /^tokenizer\.json can't be used: it has no "model"$/],
  ['no vocabulary', { tokenizerJson: '{"model":{"type":"BPE"}}' }, /its model has no "vocab"$/],
  [
    'a kind of model that is not known',
    { tokenizerJson: '{"model":{"type":"Magic","vocab":{"a":0}}}' },
    /its model has type "Magic", expected one of WordPiece, BPE, Unigram, WordLevel$/,
  ],
  ['no words', { tokenizerJson: '{"model":{"type":"WordLevel","vocab":{}}}' }, /"vocab" of its model is empty$/],
  [
    'words without ids',
    { tokenizerJson: '{"model":{"type":"WordPiece","vocab":["a"]}}' },
    /"vocab" of its model is a list, expected ids by token$/,
  ],
  [
    'an id that is none',
    { tokenizerJson: '{"model":{"type":"WordPiece","vocab":{"a":0,"b":"1"}}}' },
    /the id of 'b' in "vocab" of its model is "1"$/,
  ],
  [
    'pieces without scores',
    { tokenizerJson: '{"model":{"type":"Unigram","vocab":[["a",-1],["b"]]}}' },
    /entry 1 in "vocab" of its model is no piece with its score$/,
  ],
  [
    'a sequence of nothing',
    { tokenizerJson: '{"model":{"type":"WordLevel","vocab":{"a":0}},"normalizer":{"type":"Sequence"}}' },
    /a Sequence has no list "normalizers"$/,
  ],
  [
    'an empty template',
    { tokenizerJson: '{"model":{"type":"WordLevel","vocab":{"a":0}},"post_processor":{"type":"TemplateProcessing"}}' },
    /post_processor: its template has no list "single"$/,
  ],
  [
    'a template whose ids are none',
    { tokenizerJson: jsonOf('bert').replace(/"ids":\[2\]/, '"ids":["2"]') },
    /post_processor: its template uses \[CLS\], of which it does not give the ids$/,
  ],
  [
    'a normalizer that is not known',
    { tokenizerJson: jsonOf('bert').replace('"BertNormalizer"', '"Magic"') },
    /^tokenizer\.json can't be used: Unknown Normalizer type: Magic$/,
  ],
  [
    'a post-processor that is not known',
    { tokenizerJson: jsonOf('roberta').replace('"RobertaProcessing"', '"Magic"') },
    /^tokenizer\.json can't be used: post_processor: type Magic is not known$/,
  ],
  [
    'a charsmap that is none',
    { tokenizerJson: jsonOf('xlm-roberta').replace(/"precompiled_charsmap":"[^"]*"/, '"precompiled_charsmap":"AAAA"') },
    /precompiled_charsmap is not a map of SentencePiece$/,
  ],
  ['broken configuration', { tokenizerConfigJson: 'x' }, /^tokenizer_config\.json is not JSON: /],
  ['no room for text', { maxTokens: 2 }, /^the model takes 2 tokens, and tokenizer\.json adds 2 to every text$/],
])('a tokenizer is not made from files with %s', (_, spec, message) => {
  expect(() => processor(spec)).toThrow(
    expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) }),
  );
});

test.each([
  [3, 4, 7, [3, 4]],
  [3, 4, 6, [3, 3]],
  [9, 2, 6, [4, 2]],
  [2, 9, 6, [2, 4]],
  [9, 9, 7, [3, 4]],
  [10, 9, 7, [4, 3]],
  [5, 5, 0, [0, 0]],
  [8, 0, 5, [5, 0]],
])('texts of %i and %i tokens in a room of %i keep %j', (a, b, room, expected) => {
  expect(lengthsWithin(a, b, room)).toEqual(expected);
});

test.each(['bert', 'roberta', 'llama2', 'xlm-roberta'])(
  'long runs take time by their length, not its square: %s',
  (name) => {
    // A quarter of a megabyte squared is some minutes, past the test's own limit; it takes a second or two.
    const long = processor({ tokenizerJson: jsonOf(name), tensors: [], maxTokens: 16 });
    for (const run of ['abcdefghij', ' ', '\n', '中文', 'é\u0301']) {
      const value = run.repeat(262_144 / run.length);
      try {
        expect(long.prepare(text(value), undefined, true).rowTokens[0]).toBeLessThanOrEqual(16);
      } catch (error) {
        expect(error).toMatchObject({ message: expect.stringMatching(/gives no tokens/) });
      }
    }
  },
);

test('so do plain letters and others in turns, where a precompiled map normalizes', () => {
  // A megabyte squared is some minutes here.
  const long = processor({ tokenizerJson: jsonOf('xlm-roberta'), tensors: [], maxTokens: 16 });
  expect(long.prepare(text('a漢'.repeat(262_144)), undefined, true).rowTokens).toEqual([16]);
});
