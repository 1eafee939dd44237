import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ContentElements, PromptSpec } from '../../src/runtime/preprocess-messages.js';
import { PromptProcessor } from '../../workers/prompt.js';

const FIXTURES = join(import.meta.dirname, '../fixtures');
const read = (file: string): unknown[] =>
  readFileSync(join(FIXTURES, file), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

interface Family {
  readonly name: string;
  readonly tokenizer: unknown;
  readonly special: readonly string[];
  readonly expected: { readonly prompt: string; readonly prompt_bare: string };
}

const strings = read('tokenizers/strings.jsonl') as string[];
const families = read('prompts/families.jsonl') as Family[];

function specOf(tokenizer: unknown, spec: Partial<PromptSpec> = {}): PromptSpec {
  const bytes = Buffer.from(JSON.stringify(tokenizer));
  const tokenizerJson = new Uint8Array(new SharedArrayBuffer(bytes.length));
  tokenizerJson.set(bytes);
  return {
    tokenizerJson,
    tokenizerConfigJson: '{}',
    chatTemplate: undefined,
    templateTokens: {},
    templateMs: 60_000,
    ...spec,
  };
}

type Kind = 'prompt' | 'prompt_bare' | 'chat';

function content(kind: Kind, ...values: (string | Uint8Array)[]): ContentElements<Uint8Array<ArrayBuffer>> {
  const parts = values.flatMap((value) => {
    const bytes = Buffer.from(value as string);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return [length, bytes];
  });
  return { kind, count: values.length, data: new Uint8Array(Buffer.concat(parts)) };
}

function idsOf(processor: PromptProcessor, kind: Kind, text: string): number[] {
  const { tensors } = processor.prepare(content(kind, text));
  return [...new Int32Array(tensors[0]!.data.buffer)];
}

const SEPARATORS = ['', ' ', '\n', '\t', '\n\n', '  '];

/** Texts with special tokens in them, as make.py makes them. */
function mixed(special: readonly string[]): string[] {
  let state = 11;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % limit;
  };
  return Array.from({ length: 300 }, () => {
    let text = '';
    for (let left = 2 + below(5); left > 0; left--) {
      const part = below(2) === 0 ? special[below(special.length)]! : strings[below(strings.length)]!;
      const isAscii = !/[^\0-\x7f]/.test(part);
      text += isAscii && below(4) === 0 ? part.slice(0, -1) : part;
      text += SEPARATORS[below(SEPARATORS.length)];
    }
    return text;
  });
}

const digest = (ids: readonly number[]): string => createHash('sha1').update(ids.join(' ')).digest('hex').slice(0, 4);

describe.each(families)('with a tokenizer like that of $name', ({ tokenizer, special, expected }) => {
  const processor = new PromptProcessor(specOf(tokenizer));
  const prompts = [...strings.filter((text) => text !== ''), ...mixed(special)];

  test.each(['prompt', 'prompt_bare'] as const)('%s gives the ids of Python', (kind) => {
    const nothing = digest([]);
    const wrong = prompts.filter((text, i) => {
      const wanted = expected[kind].slice(4 * i, 4 * i + 4);
      return wanted !== nothing && digest(idsOf(processor, kind, text)) !== wanted;
    });
    expect(wrong).toEqual([]);
  });
});

const named = (name: string): Family => families.find((family) => family.name === name)!;
const vocabulary = (family: Family): Record<string, number> => {
  const { added_tokens } = family.tokenizer as { added_tokens: { id: number; content: string }[] };
  return Object.fromEntries(added_tokens.map((token) => [token.content, token.id]));
};

test('a prompt is one tensor of ids without a name', () => {
  const processor = new PromptProcessor(specOf(named('GPT-2').tokenizer));
  const { tensors, rowTokens } = processor.prepare(content('prompt', 'AB'));
  expect(tensors).toMatchObject([{ name: '', datatype: 'INT32', dims: [tensors[0]!.data.length / 4] }]);
  expect(rowTokens).toEqual([tensors[0]!.dims[0]]);
});

test('the file says what is put before a prompt, and nothing is put before a bare one or a conversation', () => {
  const llama = named('Llama 3');
  const chatTemplate = '{{ messages[0].content }}';
  const processor = new PromptProcessor(specOf(llama.tokenizer, { chatTemplate }));
  const bos = vocabulary(llama)['<|begin_of_text|>'];
  const [bare, chat] = [idsOf(processor, 'prompt_bare', 'Hello'), JSON.stringify({ messages: [{ content: 'Hello' }] })];
  expect(idsOf(processor, 'prompt', 'Hello')).toEqual([bos, ...bare]);
  expect(idsOf(processor, 'chat', chat)).toEqual(bare);
});

test('a conversation with tools has the template for them, where there is another one', () => {
  const { tokenizer } = named('GPT-2');
  const chat = (names: object) => JSON.stringify({ messages: [{ content: 'Hello' }], ...names });
  const tools = [{ type: 'function' }];
  const chatTemplate = "{{ 'A' if tools else 'B' }}";
  const both = new PromptProcessor(specOf(tokenizer, { chatTemplate, toolTemplate: 'C' }));
  const one = new PromptProcessor(specOf(tokenizer, { chatTemplate }));
  const [a, b, c] = ['A', 'B', 'C'].map((text) => idsOf(one, 'prompt_bare', text));
  expect(idsOf(both, 'chat', chat({ tools }))).toEqual(c);
  expect(idsOf(both, 'chat', chat({}))).toEqual(b);
  expect(idsOf(both, 'chat', chat({ tools: null }))).toEqual(b);
  expect(idsOf(one, 'chat', chat({ tools }))).toEqual(a);
});

test('a conversation is what its template writes, special tokens as one id each', () => {
  const family = named('SmolLM2');
  const chatTemplate =
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}{{ mood }}";
  const processor = new PromptProcessor(
    specOf(family.tokenizer, { chatTemplate, templateTokens: { bos_token: '<|endoftext|>' } }),
  );
  const names = { messages: [{ role: 'user', content: 'Hi' }], add_generation_prompt: true, mood: 'calm' };
  const ids = idsOf(processor, 'chat', JSON.stringify(names));
  const text = '<|endoftext|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\ncalm';
  expect(ids).toEqual(idsOf(processor, 'prompt_bare', text));
  const known = vocabulary(family);
  expect(ids.slice(0, 2)).toEqual([known['<|endoftext|>'], known['<|im_start|>']]);
});

test('added tokens take the spaces and stand for the words that they are meant to', () => {
  const { tokenizer } = named('GPT-2') as { tokenizer: { added_tokens: object[] } };
  const token = (id: number, content: string, rules: object): object => {
    const none = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: false };
    return { id, content, ...none, ...rules };
  };
  const added_tokens = [
    ...tokenizer.added_tokens,
    token(900, '[MASK]', { lstrip: true, rstrip: true }),
    token(901, '[L]', { lstrip: true }),
    token(902, 'cat', { single_word: true }),
  ];
  const processor = new PromptProcessor(specOf({ ...tokenizer, added_tokens }));
  const ids = (text: string): number[] => (text === '' ? [] : idsOf(processor, 'prompt', text));
  const parts = (...all: (string | number)[]): number[] =>
    all.flatMap((part) => (typeof part === 'string' ? ids(part) : [part]));
  expect(ids('x \u0085[MASK]\u2003\ny')).toEqual(parts('x', 900, 'y'));
  // A byte order mark is no space, whatever JavaScript says.
  expect(ids('x\ufeff[MASK]\ufeffy')).toEqual(parts('x\ufeff', 900, '\ufeffy'));
  expect(ids('x [L] [L] y')).toEqual(parts('x', 901, 901, ' y'));
  expect(ids('[MASK] [L]')).toEqual([900, 901]);
  expect(ids('a cat-cat')).toEqual(parts('a ', 902, '-', 902));
  for (const text of ['concat', 'cats', 'cat_', '\u{1D4B3}cat', 'cat\u0301', '\u0663cat'])
    expect(ids(text)).not.toContain(902);
});

describe('what is no prompt is refused:', () => {
  const processor = new PromptProcessor(
    specOf(named('GPT-2').tokenizer, { chatTemplate: '{{ messages[0].content }}' }),
  );
  const silent = new PromptProcessor(specOf(named('GPT-2').tokenizer));

  test.each([
    ['an empty one', content('prompt', ''), 'the prompt is empty'],
    ['none', content('prompt'), 'the input has no prompt'],
    ['two', content('prompt', 'a', 'b'), 'a request has one prompt, got 2'],
    ['bytes that are no text', content('prompt', Buffer.from([0xff])), 'the prompt of 1 bytes is not valid UTF-8'],
    ['a conversation that is no JSON', content('chat', '{'), 'the conversation is not JSON'],
    ['one that is no object', content('chat', '[]'), 'the conversation is not a JSON object'],
    ['one without messages', content('chat', '{}'), 'the conversation has no list of messages'],
    ['one of no messages', content('chat', '{"messages":[]}'), 'the conversation has no messages'],
    [
      'a message that is none',
      content('chat', '{"messages":[1]}'),
      'message 0 of the conversation is not a JSON object',
    ],
    ['one of which no text is made', content('chat', '{"messages":[{}]}'), 'the conversation gives no tokens'],
  ])('%s', (_, wrong, message) => {
    expect(() => processor.prepare(wrong)).toThrow(message);
  });

  test('a conversation where the model has no template', () => {
    expect(() => silent.prepare(content('chat', '{"messages":[{}]}'))).toThrow('the model takes no conversations');
  });

  test('files that make no tokenizer, and a template that is none', () => {
    expect(() => new PromptProcessor(specOf({}))).toThrow("tokenizer.json can't be used");
    const { tokenizer } = named('GPT-2');
    expect(() => new PromptProcessor(specOf(tokenizer, { chatTemplate: '{% if %}' }))).toThrow(
      "chat_template can't be used",
    );
  });
});
