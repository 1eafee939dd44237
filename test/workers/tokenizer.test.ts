import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { TokenTemplate } from '../../workers/token-template.js';
import { createTokenizer } from '../../workers/tokenizer.js';

const FIXTURES = join(import.meta.dirname, '../fixtures/tokenizers');
const read = (file: string): unknown => JSON.parse(readFileSync(join(FIXTURES, file), 'utf8'));

interface Expected {
  alone: string[];
  cut: string[];
  pairs: string[];
  left: string[];
}

const texts = read('strings.json') as string[];
const expected = read('expected.json') as Record<string, Expected>;

/** As make.py has it: the number of tokens, and the beginning of a hash of ids and types. */
function digest({ ids, typeIds }: { ids: readonly number[]; typeIds: readonly number[] }): string {
  const hash = createHash('sha1').update(`${ids.join(' ')}|${typeIds.join(' ')}`);
  return `${ids.length}:${hash.digest('hex').slice(0, 5)}`;
}

describe.each(Object.keys(expected))('with the tokenizer %s', (name) => {
  const tokenizer = createTokenizer(read(`${name}/tokenizer.json`));
  const encoded = texts.map((text) => tokenizer.encode(text) as number[]);
  const after = (i: number): number[] => encoded[(i + 1) % encoded.length]!;
  const right = new TokenTemplate(tokenizer.postProcessor, { addSpecialTokens: true, truncationSide: 'right' });
  const left = new TokenTemplate(tokenizer.postProcessor, { addSpecialTokens: false, truncationSide: 'left' });
  /** Texts whose tokens are not Python's. */
  const wrong = (actual: (ids: number[], i: number) => string, wanted: string[]) =>
    texts.filter((_, i) => actual(encoded[i]!, i) !== wanted[i]);

  test('a thousand strings have the ids that Python gives', () => {
    expect(texts).toHaveLength(1000);
    expect(wrong((ids) => digest(right.row(ids, undefined, Number.MAX_SAFE_INTEGER)), expected[name]!.alone)).toEqual(
      [],
    );
  });

  test('they are cut as Python cuts them', () => {
    expect(wrong((ids) => digest(right.row(ids, undefined, 12)), expected[name]!.cut)).toEqual([]);
  });

  test('pairs are put together and cut as Python does it', () => {
    expect(wrong((ids, i) => digest(right.row(ids, after(i), 20)), expected[name]!.pairs)).toEqual([]);
  });

  test('pairs are cut from the left, and nothing is added where nothing is wanted', () => {
    expect(wrong((ids, i) => digest(left.row(ids, after(i), 20)), expected[name]!.left)).toEqual([]);
  });
});
