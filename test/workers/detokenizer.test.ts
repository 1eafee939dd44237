import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Detokenizer } from '../../workers/detokenizer.js';

/** A line of what make.py writes. */
interface Fixture {
  readonly name: string;
  readonly tokenizer: { readonly decoder: unknown; readonly added_tokens: readonly { content: string; id: number }[] };
  readonly config: unknown;
  readonly size: number;
  readonly phrases: readonly number[][];
  readonly expected: { readonly all: string; readonly skipped: string };
}

const fixtures = readFileSync(join(import.meta.dirname, '../fixtures/detokenizers/tokenizers.jsonl'), 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line) as Fixture);

const create = (json: unknown, config: unknown = {}): Detokenizer =>
  Detokenizer.create(Buffer.from(JSON.stringify(json)), JSON.stringify(config));

/** As make.py has it. */
function generator(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
}

function sequences({ phrases, size }: Fixture): number[][] {
  const below = generator(20);
  return Array.from({ length: 1000 }, () => {
    const ids: number[] = [];
    for (let left = 1 + below(12); left > 0; left--) {
      if (phrases.length > 0 && below(2) === 0) ids.push(...phrases[below(phrases.length)]!);
      else ids.push(below(size + 3));
    }
    return ids;
  });
}

const digest = (text: string): string => createHash('sha1').update(text).digest('hex').slice(0, 4);

function streamed(detokenizer: Detokenizer, ids: readonly number[], skipSpecialTokens: boolean): string[] {
  const stream = detokenizer.open({ skipSpecialTokens });
  return [...ids.map((id) => stream.push(id)), stream.flush()];
}

describe.each(fixtures)('with the decoder $name', (fixture) => {
  const detokenizer = create(fixture.tokenizer, fixture.config);
  const all = sequences(fixture);

  test.each(['all', 'skipped'] as const)(
    'a thousand streams of tokens (special ones: %s) are the text of Python',
    (mode) => {
      const wrong = all.filter((ids, i) => {
        const text = streamed(detokenizer, ids, mode === 'skipped').join('');
        const wanted = fixture.expected[mode].slice(4 * i, 4 * i + 4);
        // Python falls over a few.
        return wanted !== '....' && digest(text) !== wanted;
      });
      expect(wrong.map((ids) => ids.join(' '))).toEqual([]);
    },
  );

  test('what comes out is never half a character', () => {
    for (const ids of all) expect(streamed(detokenizer, ids, false).every((text) => text.isWellFormed())).toBe(true);
  });
});

const named = (name: string): Fixture => fixtures.find((fixture) => fixture.name === name)!;

test('a character comes out with its last byte, and what stays incomplete at the end is U+FFFD', () => {
  const fixture = named('ByteLevel');
  const detokenizer = create(fixture.tokenizer, fixture.config);
  const emoji = fixture.phrases.find((ids) => streamed(detokenizer, ids, true).join('') === '\u{1F600}')!;
  expect(streamed(detokenizer, emoji, true)).toEqual(['', '', '', '\u{1F600}', '']);
  expect(streamed(detokenizer, emoji.slice(0, 3), true)).toEqual(['', '', '', '\ufffd']);
  expect(emoji.map((id) => detokenizer.tokenText(id))).toEqual(['\ufffd', '\ufffd', '\ufffd', '\ufffd']);
  expect(Buffer.concat(emoji.map((id) => detokenizer.tokenBytes(id))).toString()).toBe('\u{1F600}');
});

test('a special token between two halves of a character does not part them where it is left out', () => {
  const fixture = named('ByteLevel');
  const detokenizer = create(fixture.tokenizer, fixture.config);
  const emoji = fixture.phrases.find((ids) => streamed(detokenizer, ids, true).join('') === '\u{1F600}')!;
  const special = fixture.tokenizer.added_tokens.find(({ content }) => content === '</s>')!.id;
  const ids = [...emoji.slice(0, 2), special, ...emoji.slice(2)];
  expect(streamed(detokenizer, ids, true).join('')).toBe('\u{1F600}');
  expect(streamed(detokenizer, ids, false).join('')).toBe('\ufffd</s>\ufffd\ufffd');
});

test('the bytes of a token are those of its place in the middle of a text', () => {
  const words = create(named('WordPiece').tokenizer);
  const marked = create(named('Replace, ByteFallback, Fuse, Strip').tokenizer);
  const byText = (fixture: Fixture, text: string): number =>
    (fixture.tokenizer as unknown as { model: { vocab: Record<string, number> } }).model.vocab[text]!;
  expect(words.tokenText(byText(named('WordPiece'), 'cat'))).toBe(' cat');
  expect(words.tokenText(byText(named('WordPiece'), '##cat'))).toBe('cat');
  expect(marked.tokenText(byText(named('Replace, ByteFallback, Fuse, Strip'), '▁cat'))).toBe(' cat');
  expect([...marked.tokenBytes(byText(named('Replace, ByteFallback, Fuse, Strip'), '<0xE2>'))]).toEqual([0xe2]);
});

/** Where each token's text begins, and the text. */
function placed(detokenizer: Detokenizer, ids: readonly number[]): { offsets: number[]; text: string } {
  const stream = detokenizer.open({ skipSpecialTokens: true });
  let text = '';
  const offsets = ids.map((id) => {
    const offset = [...text].length + stream.heldBefore(id);
    text += stream.push(id);
    return offset;
  });
  return { offsets, text: text + stream.flush() };
}

test.each(fixtures.filter(({ name }) => !/Fallback|cleaned|CTC/.test(name)))(
  'with the decoder $name a token begins where the text of those before it ends',
  (fixture) => {
    const detokenizer = create(fixture.tokenizer, fixture.config);
    for (const ids of sequences(fixture).slice(0, 200)) {
      const { offsets, text } = placed(detokenizer, ids);
      const characters = [...text];
      expect(offsets).toEqual(offsets.toSorted((a, b) => a - b));
      for (const [at, offset] of offsets.entries()) {
        const before = [...streamed(detokenizer, ids.slice(0, at), true).join('')];
        // But for a character that the token goes on with, or for BPE's space behind a word that is no more the last.
        expect([before.length - 1, before.length, before.length + 1]).toContain(offset);
        expect(characters.slice(0, offset).join('').trimEnd()).toBe(before.slice(0, offset).join('').trimEnd());
      }
    }
  },
);

test('a token that goes on with a character begins with it, one that breaks it off behind the U+FFFD', () => {
  const idOf = (fixture: Fixture, token: string): number =>
    (fixture.tokenizer as unknown as { model: { vocab: Record<string, number> } }).model.vocab[token]!;
  const bytes = named('ByteLevel');
  const byteLevel = create(bytes.tokenizer, bytes.config);
  const emoji = bytes.phrases.find((ids) => streamed(byteLevel, ids, true).join('') === '\u{1F600}')!;
  const x = idOf(bytes, 'x');
  expect(placed(byteLevel, [x, ...emoji, x, x])).toEqual({ offsets: [0, 1, 1, 1, 1, 2, 3], text: 'x\u{1F600}xx' });
  const broken = [...emoji.slice(0, 3), x, emoji[0]!, ...emoji, x];
  expect(placed(byteLevel, broken)).toEqual({
    offsets: [0, 0, 0, 1, 2, 3, 3, 3, 3, 4],
    text: '\ufffdx\ufffd\u{1F600}x',
  });
  const marked = named('Replace, ByteFallback, Fuse, Strip');
  const byteFallback = create(marked.tokenizer, marked.config);
  const four = ['<0xF0>', '<0x9F>', '<0x98>', '<0x80>'].map((token) => idOf(marked, token));
  const cat = idOf(marked, '▁cat');
  expect(placed(byteFallback, [...four, ...four, cat, cat])).toEqual({
    offsets: [0, 0, 0, 0, 1, 1, 1, 1, 2, 6],
    text: '\u{1F600}\u{1F600} cat cat',
  });
  // Of a row of bytes that is none of text, each is one.
  const { offsets, text } = placed(byteFallback, [...four.slice(0, 2), cat, cat]);
  expect([offsets.slice(2), text]).toEqual([[2, 6], '\ufffd\ufffd cat cat']);
});

test('ids beyond the vocabulary have no text', () => {
  const detokenizer = create(named('ByteLevel').tokenizer);
  expect(streamed(detokenizer, [900_000, -1, 65, 900_000], true)).toEqual(['', '', detokenizer.tokenText(65), '', '']);
  expect([detokenizer.tokenBytes(900_000), detokenizer.tokenText(900_000)]).toEqual([new Uint8Array(0), '']);
});

test('text that is kept back is as little as can be', () => {
  const fixture = named('Metaspace, cleaned up');
  const detokenizer = create(fixture.tokenizer, fixture.config);
  const vocabulary = (fixture.tokenizer as unknown as { model: { vocab: [string, number][] } }).model.vocab;
  const id = (text: string): number => vocabulary.findIndex(([token]) => token === text);
  const stream = detokenizer.open({ skipSpecialTokens: true });
  expect(['▁the', '▁cat', '▁sat', '▁.', '▁ing'].map((token) => stream.push(id(token)))).toEqual([
    'the',
    ' cat',
    ' sat',
    '',
    '. ing',
  ]);
});

test('a file that can not be used says what is wrong', () => {
  const { tokenizer } = named('ByteLevel');
  const bytes = (text: string): Uint8Array => Buffer.from(text);
  expect(() => Detokenizer.create(bytes('{'), '{}')).toThrow('tokenizer.json is not JSON');
  expect(() => Detokenizer.create(bytes('{}'), '{}')).toThrow('tokenizer.json can\'t be used: it has no "model"');
  expect(() => Detokenizer.create(bytes(JSON.stringify(tokenizer)), '[')).toThrow('tokenizer_config.json is not JSON');
  expect(() => create({ ...tokenizer, decoder: { type: 'Morse' } })).toThrow('decoder: type Morse is not known');
  const late = { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'WordPiece' }] };
  expect(() => create({ ...tokenizer, decoder: late })).toThrow('decoder: WordPiece behind Fuse is not supported');
});

test('files may lie in shared memory', () => {
  const bytes = Buffer.from(JSON.stringify(named('ByteLevel').tokenizer));
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  expect(Detokenizer.create(shared, '{}').tokenText(65)).toBe(create(named('ByteLevel').tokenizer).tokenText(65));
});
