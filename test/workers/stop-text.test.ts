import { describe, expect, test } from 'vitest';
import { StopText } from '../../workers/stop-text.js';

/** What comes out for `pieces`, piece by piece, with what is left at the end. */
function passed(stop: readonly string[], pieces: readonly string[], includeStop = false): string[] {
  const stopText = new StopText(stop, includeStop);
  const out: string[] = [];
  for (const piece of pieces) {
    const { text, stopped } = stopText.push(piece);
    out.push(text);
    if (stopped !== undefined) return [...out, `!${stopped}`];
  }
  return [...out, stopText.flush()];
}

test('without stop strings all text passes at once', () => {
  expect(passed([], ['a', '', 'b'])).toEqual(['a', '', 'b', '']);
  expect(passed([''], ['a', 'b'])).toEqual(['a', 'b', '']);
});

test('text ends before the stop string, or with it where that is wanted', () => {
  expect(passed(['STOP'], ['one STOP two'])).toEqual(['one ', '!STOP']);
  expect(passed(['STOP'], ['one STOP two'], true)).toEqual(['one STOP', '!STOP']);
  expect(passed(['STOP'], ['one S', 'T', 'OP two'])).toEqual(['one ', '', '', '!STOP']);
  expect(passed(['STOP'], ['one S', 'T', 'OP two'], true)).toEqual(['one ', '', 'STOP', '!STOP']);
});

test('only the beginning of a stop string is kept back, and given when it turns out to be none', () => {
  expect(passed(['\n\nUser:'], ['Hello', '\n', 'there\n\nU', 'se', 'd'])).toEqual([
    'Hello',
    '',
    '\nthere',
    '',
    '\n\nUsed',
    '',
  ]);
  expect(passed(['abab'], ['ab', 'a', 'a', 'bab'])).toEqual(['', '', 'aba', '', '!abab']);
  expect(passed(['aaab'], ['aaaa', 'aab'])).toEqual(['a', 'aa', '!aaab']);
  expect(passed(['END'], ['the E', 'N'])).toEqual(['the ', '', 'EN']);
});

describe('of several stop strings', () => {
  test('the one that is complete first ends the text', () => {
    expect(passed(['dog', 'cat'], ['a cat and a dog'])).toEqual(['a ', '!cat']);
    expect(passed(['abcd', 'bc'], ['xabcd'])).toEqual(['xa', '!bc']);
    expect(passed(['abcd', 'bc'], ['x', 'a', 'b', 'c', 'd'])).toEqual(['x', '', '', 'a', '!bc']);
  });

  test('the longest of those complete at once does', () => {
    expect(passed(['c', 'abc', 'bc'], ['xabcd'])).toEqual(['x', '!abc']);
    expect(passed(['\n', '\n\n'], ['a\n\nb'], true)).toEqual(['a\n\n', '!\n\n']);
  });

  test('one that was begun in vain does not hide another inside it', () => {
    expect(passed(['abcx', 'bcy'], ['abcy'])).toEqual(['a', '!bcy']);
  });
});

test('no character beyond U+FFFF is cut in two', () => {
  // U+1F600 and U+1F601 begin with the same half.
  expect(passed(['\u{1F601}'], ['a\u{1F600}', 'b\u{1F601}c'])).toEqual(['a\u{1F600}', 'b', '!\u{1F601}']);
  expect(passed(['\u{1F600}!'], ['a\u{1F600}', '?'])).toEqual(['a', '\u{1F600}?', '']);
  // Half a character is none that text could have.
  expect(passed(['\udE00'], ['a\u{1F600}b'])).toEqual(['a\u{1F600}b', '']);
});

test('however text is divided, the same comes out', () => {
  const stop = ['abab', 'ba', 'cab', 'bcc', '\u{1F600}a'];
  let state = 12345;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  const alphabet = ['a', 'c', 'c', 'c', '\u{1F600}', 'b'];
  for (let round = 0; round < 2000; round++) {
    const characters = Array.from({ length: random(20) }, () => alphabet[random(alphabet.length)]!);
    const all = characters.join('');
    let [end, start] = [Number.POSITIVE_INFINITY, 0];
    for (const string of stop) {
      const at = all.indexOf(string);
      if (at >= 0 && (at + string.length < end || (at + string.length === end && at < start)))
        [end, start] = [at + string.length, at];
    }
    const wanted = end === Number.POSITIVE_INFINITY ? all : all.slice(0, start);
    const pieces: string[] = [];
    for (let i = 0; i < characters.length; ) {
      const count = 1 + random(4);
      pieces.push(characters.slice(i, i + count).join(''));
      i += count;
    }
    const out = passed(stop, pieces);
    const texts = out.at(-1)?.startsWith('!') ? out.slice(0, -1) : out;
    expect(texts.join('')).toBe(wanted);
    expect(texts.every((text) => text.isWellFormed())).toBe(true);
  }
});

test('ten thousand stop strings are looked for at once', () => {
  const stop = Array.from({ length: 10_000 }, (_, i) => `${'a'.repeat(20)}${i} end`);
  const stopText = new StopText(stop, false);
  let out = '';
  for (let i = 0; i < 2000; i++) out += stopText.push('aaaaaaaaa ').text;
  expect(out).toBe('aaaaaaaaa '.repeat(2000));
  const { text, stopped } = stopText.push(`${'a'.repeat(30)}777 end.`);
  expect([text, stopped]).toEqual(['a'.repeat(10), `${'a'.repeat(20)}777 end`]);
});
