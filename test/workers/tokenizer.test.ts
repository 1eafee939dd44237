import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { TokenTemplate } from '../../workers/token-template.js';
import { createTokenizer } from '../../workers/tokenizer.js';

const FIXTURES = join(import.meta.dirname, '../fixtures/tokenizers');
const read = (file: string): unknown[] =>
  readFileSync(join(FIXTURES, file), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

interface Fixture {
  name: string;
  tokenizer: unknown;
  expected: Record<'alone' | 'cut' | 'pairs' | 'left', string[]>;
}

const texts = read('strings.jsonl') as string[];
const fixtures = read('tokenizers.jsonl') as Fixture[];

/** As make.py has it: the number of tokens, and the beginning of a hash of ids and types. */
function digest({ ids, typeIds }: { ids: readonly number[]; typeIds: readonly number[] }): string {
  const hash = createHash('sha1').update(`${ids.join(' ')}|${typeIds.join(' ')}`);
  return `${ids.length}:${hash.digest('hex').slice(0, 5)}`;
}

describe.each(fixtures)('with the tokenizer $name', ({ tokenizer: json, expected }) => {
  const tokenizer = createTokenizer(json);
  const encoded = texts.map((text) => tokenizer.encode(text) as number[]);
  const follower = (i: number): number[] => encoded[(i + 1) % encoded.length]!;
  const right = new TokenTemplate(tokenizer.postProcessor, { addSpecialTokens: true, truncationSide: 'right' });
  const left = new TokenTemplate(tokenizer.postProcessor, { addSpecialTokens: false, truncationSide: 'left' });
  /** Texts whose tokens are not Python's. */
  const wrong = (actual: (ids: number[], i: number) => string, wanted: string[]) =>
    texts.filter((_, i) => actual(encoded[i]!, i) !== wanted[i]);

  test('a thousand strings have the ids that Python gives', () => {
    expect(texts).toHaveLength(1000);
    expect(wrong((ids) => digest(right.row(ids, undefined, Number.MAX_SAFE_INTEGER)), expected.alone)).toEqual([]);
  });

  test('they are cut as Python cuts them', () => {
    expect(wrong((ids) => digest(right.row(ids, undefined, 12)), expected.cut)).toEqual([]);
  });

  test('pairs are put together and cut as Python does it', () => {
    expect(wrong((ids, i) => digest(right.row(ids, follower(i), 20)), expected.pairs)).toEqual([]);
  });

  test('pairs are cut from the left, and nothing is added where nothing is wanted', () => {
    expect(wrong((ids, i) => digest(left.row(ids, follower(i), 20)), expected.left)).toEqual([]);
  });
});
