import { describe, expect, test } from 'vitest';
import { ServeError } from '../../src/base/errors.js';
import { MAX_DOCUMENT_VALUES, parseJsonDocument, parseJsonObject } from '../../src/base/json-document.js';
import { JSON_LIMITS } from '../../src/base/tensor-json.js';

const parse = (text: string) => parseJsonDocument(Buffer.from(text));
const failure = (run: () => unknown): ServeError => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(ServeError);
    expect((error as ServeError).code).toBe('INVALID_ARGUMENT');
    return error as ServeError;
  }
  throw new Error('nothing was thrown');
};

test.each([
  '7',
  ' -1.5e3 ',
  '"a\\u00e9\\\\\\"b"',
  '[]',
  '{}',
  '[1,[2,{"a":null}],"x,[{"]',
  'true',
  '{"a":{"b":[false]}}',
])('%s means what JSON.parse makes of it', (text) => {
  expect(parse(text)).toEqual(JSON.parse(text));
});

test('a member called __proto__ is a member like others, and of two with one name the last counts', () => {
  const value = parse('{"__proto__":{"x":1},"a":1,"a":2}') as Record<string, unknown>;
  expect(Object.getPrototypeOf(value)).toBe(Object.prototype);
  expect(Object.entries(value)).toEqual([
    ['__proto__', { x: 1 }],
    ['a', 2],
  ]);
});

describe('is refused:', () => {
  test.each([
    ['nothing', ''],
    ['half an object', '{"a":'],
    ['a trailing comma', '[1,]'],
    ['text behind', '{} x'],
    ['a control character', '"a\nb"'],
    ['a lone surrogate', '"\\udc00"'],
    ['a leading zero', '01'],
    ['single quotes', "{'a':1}"],
    ['NaN', '[NaN]'],
    ['-Infinity', '{"a":-Infinity}'],
  ])('%s', (_name, text) => {
    expect(failure(() => parse(text)).message).toContain('failed to parse the request JSON buffer');
  });

  test('bytes that are no UTF-8, and a byte order mark', () => {
    failure(() => parseJsonDocument(Uint8Array.of(0x22, 0xff, 0x22)));
    failure(() => parseJsonDocument(Buffer.from('\ufeff{}')));
  });

  test('one level of nesting too many', () => {
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);
    expect(parse(nested(JSON_LIMITS.depth))).toBeInstanceOf(Array);
    expect(failure(() => parse(nested(JSON_LIMITS.depth + 1))).message).toContain('nesting deeper');
  });

  test('one value too many, while text may look like as many as it likes', () => {
    const numbers = (count: number) => `[${new Array(count).fill(0).join()}]`;
    expect(parse(numbers(MAX_DOCUMENT_VALUES - 1))).toHaveLength(MAX_DOCUMENT_VALUES - 1);
    expect(failure(() => parse(numbers(MAX_DOCUMENT_VALUES))).message).toContain('JSON values');
    const text = ',[{\\"'.repeat(MAX_DOCUMENT_VALUES);
    expect(parse(`"${text}"`)).toHaveLength(4 * MAX_DOCUMENT_VALUES);
  });

  test.each(['[]', '"x"', 'null', '7'])('%s where an object is wanted', (text) => {
    expect(failure(() => parseJsonObject(Buffer.from(text))).message).toContain('expected an object');
  });
});
