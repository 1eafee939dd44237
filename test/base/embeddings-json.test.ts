import { describe, expect, test } from 'vitest';
import { EMBEDDINGS_LIMITS, type EmbeddingsReply, type EmbeddingsRequest } from '../../src/base/embeddings-json.js';
import { parseEmbeddingsRequest } from '../../src/base/embeddings-json-parse.js';
import { printEmbeddings } from '../../src/base/embeddings-json-print.js';
import { JsonWriter } from '../../src/base/json-writer.js';

function parse(body: string): EmbeddingsRequest {
  const parsed = parseEmbeddingsRequest(Buffer.from(body));
  if (!parsed.ok) throw new Error(`${parsed.refusal.param}: ${parsed.refusal.message}`);
  return parsed.request;
}

/** Texts, or arrays of tokens, as the engine would read them. */
function inputs({ kind, data, ends }: EmbeddingsRequest): unknown[] {
  let start = 0;
  return ends.map((end) => {
    const bytes = Buffer.from(data.subarray(start, end));
    start = end;
    if (kind === 'tokens')
      return Array.from({ length: bytes.length / 8 }, (_, i) => Number(bytes.readBigInt64LE(8 * i)));
    expect(bytes.readUInt32LE(0)).toBe(bytes.length - 4);
    return bytes.toString('utf8', 4);
  });
}

const body = (input: unknown, more = {}): string => JSON.stringify({ model: 'm', input, ...more });

describe('parsing', () => {
  test.each<[string, unknown, unknown[]]>([
    ['one text', 'word', ['word']],
    ['texts', ['a', 'bc', ' '], ['a', 'bc', ' ']],
    ['tokens', [0, 7, 2147483647], [[0, 7, 2147483647]]],
    ['arrays of tokens', [[1], [2, 3]], [[1], [2, 3]]],
  ])('%s come in order', (_name, input, expected) => {
    expect(inputs(parse(body(input)))).toEqual(expected);
  });

  test('texts of every script, escaped or not, are what JSON.parse says', () => {
    const texts = [
      'żółć',
      '日本語',
      '👩‍👩‍👧',
      '"\\/\b\f\n\r\t',
      '\u0000\u001f\u007f',
      'e\u0301',
      'x'.repeat(5000),
      '\ud7ff\ue000\uffff',
    ];
    const plain = body(texts);
    const escaped = plain.replace(
      /[\u0080-\uffff]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
    );
    expect(inputs(parse(plain))).toEqual(texts);
    expect(inputs(parse(escaped))).toEqual(texts);
  });

  test('many texts of random lengths survive the growing of memory', () => {
    let seed = 1;
    const random = (below: number): number => {
      seed = (seed * 48271) % 2147483647;
      return seed % below;
    };
    const texts = Array.from({ length: 2048 }, (_, i) =>
      String.fromCharCode(97 + random(26), 0x400 + i).repeat(1 + random(80)),
    );
    const request = parse(body(texts));
    expect(inputs(request)).toEqual(texts);
    expect(request.data.buffer.byteLength).toBeLessThan(3 * Buffer.byteLength(body(texts)));
    const tokens = Array.from({ length: 10_000 }, () => random(2 ** 31));
    expect(inputs(parse(body(tokens)))).toEqual([tokens]);
  });

  test('members have the defaults of the API, null means absent, the last of duplicates counts', () => {
    expect(parse(body('x'))).toMatchObject({
      model: 'm',
      encodingFormat: 'float',
      dimensions: undefined,
      truncate: undefined,
    });
    const nulls = { encoding_format: null, dimensions: null, user: null, truncate: null, truncate_prompt_tokens: null };
    expect(parse(body('x', nulls))).toMatchObject({
      encodingFormat: 'float',
      dimensions: undefined,
      truncate: undefined,
    });
    const full = {
      encoding_format: 'base64',
      dimensions: 3,
      user: 'u',
      truncate: false,
      store: { a: [1, { b: null }] },
    };
    expect(parse(body('x', full))).toMatchObject({ encodingFormat: 'base64', dimensions: 3, truncate: false });
    expect(inputs(parse('{"input":[1],"model":"a","input":["b"],"model":"m"}'))).toEqual(['b']);
  });

  test.each<[string, string, string, string]>([
    ['no model', '{"input":"x"}', 'model', 'missing'],
    ['an empty model', '{"model":"","input":"x"}', 'model', 'missing'],
    ['a number for a model', '{"model":1,"input":"x"}', 'model', 'must be a string'],
    ['a long model', body('x').replace('"m"', `"${'m'.repeat(257)}"`), 'model', 'has 257 bytes'],
    ['no input', '{"model":"m"}', 'input', 'missing'],
    ['null', body(null), 'input', 'must be a string, an array'],
    ['an object', body({ text: 'x' }), 'input', 'must be a string, an array'],
    ['an empty text', body(''), 'input', "'input' is an empty string"],
    ['an empty text among others', body(['a', '']), 'input', "'input[1]' is an empty string"],
    ['an empty array', body([]), 'input', 'empty array'],
    ['an empty array of tokens', body([[1], []]), 'input', "'input[1]' is an empty array"],
    ['an array of objects', body([{}]), 'input', 'must be a string, an array'],
    ['a token among texts', body(['a', 1]), 'input', "'input[1]' is no string"],
    ['a text among tokens', body([1, 'a']), 'input', "'input[1]' is no token id"],
    ['a text among arrays', body([[1], 'a']), 'input', "'input[1]' is no array of token ids"],
    ['a text in an array', body([[1], [2, 'a']]), 'input', "'input[1][1]' is no token id"],
    [
      'a negative token',
      body([3, -1]),
      'input',
      "'input[1]' is no token id, which is a whole number from 0 to 2147483647",
    ],
    ['a broken token', body([1.5]), 'input', "'input[0]' is no token id"],
    ['a token in powers', '{"model":"m","input":[1e2]}', 'input', "'input[0]' is no token id"],
    ['a huge token', body([[2147483648]]), 'input', "'input[0][0]' is no token id"],
    ['one text too many', body(Array(2049).fill('x')), 'input', 'more than 2048 entries'],
    ['one array too many', body(Array(2049).fill([1])), 'input', 'more than 2048 entries'],
    [
      'another encoding',
      body('x', { encoding_format: 'hex\u0007' }),
      'encoding_format',
      "'float' or 'base64', got 'hex?'",
    ],
    ['dimensions as text', body('x', { dimensions: '8' }), 'dimensions', 'must be a whole number'],
    ['no dimensions', body('x', { dimensions: 0 }), 'dimensions', 'at least 1, got 0'],
    ['half a dimension', body('x', { dimensions: 1.5 }), 'dimensions', 'at least 1, got 1.5'],
    ['a number for truncate', body('x', { truncate: 1 }), 'truncate', 'true or false'],
    ['a number for user', body('x', { user: 1 }), 'user', 'must be a string'],
    [
      "vLLM's truncation",
      body('x', { truncate_prompt_tokens: 5 }),
      'truncate_prompt_tokens',
      "unless 'truncate' is false",
    ],
  ])('%s is refused by the name of its member', (_name, text, param, message) => {
    const parsed = parseEmbeddingsRequest(Buffer.from(text));
    expect(parsed).toMatchObject({ ok: false, refusal: { param, message: expect.stringContaining(message) } });
  });

  test('2048 inputs are taken', () => {
    expect(parse(body(Array(2048).fill('x'))).ends).toHaveLength(2048);
    expect(parse(body(Array(2048).fill([1]))).ends).toHaveLength(2048);
  });

  test('so many tokens are taken and not one more', () => {
    const most = Array(EMBEDDINGS_LIMITS.tokens / 2).fill(1);
    expect(parse(body([most, most])).ends).toEqual([4 * EMBEDDINGS_LIMITS.tokens, 8 * EMBEDDINGS_LIMITS.tokens]);
    expect(() => parse(body([most, most, [1]]))).toThrow(`more than ${EMBEDDINGS_LIMITS.tokens} tokens`);
  });

  test.each([
    '',
    '[]',
    '{"model":"m","input":"x"',
    '{"model":"m","input":"x"} 1',
    '{"input":"\\ud800"}',
    '{"input":"x",}',
    '{"input":[1,]}',
    '{"input":["x",]}',
    '{"model":}',
    '{"input":[[1],]}',
    '{"input":}',
    '{"dimensions":+1}',
    '\xff',
  ])('what is no JSON object is refused as such: %j', (text) => {
    expect(() => parseEmbeddingsRequest(Buffer.from(text, 'latin1'))).toThrow(
      'failed to parse the request JSON buffer',
    );
  });
});

describe('printing', () => {
  const reply = (encodingFormat: 'float' | 'base64', ...rows: number[][]): EmbeddingsReply => ({
    model: 'a"b',
    vectors: Float32Array.from(rows.flat()),
    count: rows.length,
    encodingFormat,
    promptTokens: 7,
  });
  const print = (value: EmbeddingsReply) => JSON.parse(printEmbeddings(value, new JsonWriter(16)).toString());

  test('numbers read back to the same float32', () => {
    const rows = [
      [0.1, -1 / 3, 1e-40],
      [3.4028234663852886e38, -0, 1],
    ];
    const printed = print(reply('float', ...rows));
    expect(printed).toEqual({
      object: 'list',
      data: rows.map((_, index) => ({ object: 'embedding', index, embedding: expect.any(Array) })),
      model: 'a"b',
      usage: { prompt_tokens: 7, total_tokens: 7 },
    });
    for (const [i, row] of rows.entries()) {
      expect(Float32Array.from(printed.data[i].embedding)).toEqual(Float32Array.from(row));
    }
  });

  test('base64 holds the bytes, special values too', () => {
    const rows = [
      [1, 2.5, Number.NaN],
      [-Infinity, 0, -0],
    ];
    const printed = print(reply('base64', ...rows));
    for (const [i, row] of rows.entries()) {
      const bytes = Uint8Array.from(Buffer.from(printed.data[i].embedding, 'base64'));
      expect(new Float32Array(bytes.buffer)).toEqual(Float32Array.from(row));
    }
  });

  test('numbers that JSON has not are a fault that says where', () => {
    expect(() => print(reply('float', [1, 2], [3, Number.NaN]))).toThrow('embedding of input 1 holds NaN');
    expect(() => print(reply('float', [Infinity]))).toThrow('embedding of input 0 holds Infinity');
  });
});
