import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ChatTemplate, type TemplateNames } from '../../workers/chat-template.js';
import { formatDate } from '../../workers/chat-template-date.js';

/** What make.py writes: conversations, and what transformers makes of them with each template; null where that is not compared. */
interface Chats {
  readonly cases: readonly TemplateNames[];
  readonly chats: readonly {
    readonly name: string;
    readonly template: string;
    readonly results: readonly ({ readonly text?: string; readonly error?: string } | null)[];
  }[];
}

const { cases, chats } = JSON.parse(
  readFileSync(join(import.meta.dirname, '../fixtures/chat/chats.json'), 'utf8'),
) as Chats;

const templateOf = (source: string, limitMs = 60_000): ChatTemplate =>
  new ChatTemplate(source, { tokens: { bos_token: '<s>', eos_token: '</s>' }, limitMs });
const render = (source: string, names: TemplateNames = {}, limitMs?: number): string =>
  templateOf(source, limitMs).render(names, 100);

describe.each(chats)('the template of $name', ({ template, results }) => {
  const chat = templateOf(template);
  const compared = cases.flatMap((names, i) => (results[i] ? [{ i, names, result: results[i] }] : []));

  test.each(compared)('gives for conversation $i what transformers gives', ({ names, result }) => {
    const all = { add_generation_prompt: true, date_string: '26 Jul 2024', ...names };
    if (result.text === undefined)
      expect(() => chat.render(all, 1000)).toThrow(/^the chat template (refused|failed): /);
    else expect(chat.render(all, 1000)).toBe(result.text);
  });
});

/** What printed.py writes. */
const [values, ...printed] = readFileSync(join(import.meta.dirname, '../fixtures/chat/printed.jsonl'), 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line)) as [TemplateNames, ...{ readonly template: string; readonly text: string }[]];

test.each(printed)('$template prints what it prints in Python', ({ template, text }) => {
  expect(render(template, values)).toBe(text);
});

test('a test or filter that is not known is told, and what is no list', () => {
  const failed = 'the chat template failed: ';
  expect(() => render("{{ [1] | reject('prime') }}")).toThrow(`${failed}Unknown test: prime`);
  expect(() => render("{{ [1] | select('divisibleby', 3) }}")).toThrow(`${failed}Unknown test: divisibleby`);
  expect(() => render("{{ ['a'] | map('rot13') }}")).toThrow(`${failed}Unknown StringValue filter: rot13`);
  expect(() => render('{{ 1 | list }}')).toThrow(`${failed}Cannot apply filter "list" to type: IntegerValue`);
});

test('the words of raise_exception are given, made printable', () => {
  const template = "{{ raise_exception('roles must\n' + what) }}";
  expect(() => render(template, { what: 'alternate\u0007' })).toThrow(
    'the chat template refused: roles must?alternate?',
  );
  expect(() => render(template, { what: 'x'.repeat(1000) })).toThrow(/^.{200,260}\.\.\.$/);
});

test('what a template can not do with its names is said', () => {
  expect(() => render('{{ messages[0].role + "x" }}', { messages: [{}] })).toThrow(
    'the chat template failed: Cannot perform',
  );
  expect(() => render('{{ nothing() }}')).toThrow('the chat template failed: ');
});

test('a template that loops is given up, and the next one is not disturbed', () => {
  const loop = '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}';
  const recursion =
    '{% macro a(n) %}{% for i in range(50) %}{{ a(n) if n < 0 else b(n + 1) }}{% endfor %}{% endmacro %}{% macro b(n) %}{{ a(n) if n < 30 else "" }}{% endmacro %}{{ a(0) }}';
  for (const source of [loop, recursion]) {
    expect(() => render(source, {}, 30)).toThrow('the chat template did not end within 30 ms');
    expect(render('{{ bos_token }}{{ a }}', { a: 1 })).toBe('<s>1');
  }
});

test('a template that never comes back from itself fails', () => {
  expect(() => render('{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}')).toThrow('the chat template failed: ');
});

test('a text of much more than the request is refused', () => {
  const doubling =
    "{% set ns = namespace(x='x') %}{% for i in range(n) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}";
  expect(render(doubling, { n: 20 })).toHaveLength(1024 * 1024);
  expect(() => render(doubling, { n: 21 })).toThrow(
    'the chat template made 2097152 characters of the request, more than 1048976',
  );
  expect(() => render(doubling, { n: 60 })).toThrow('the chat template failed: Invalid string length');
  expect(templateOf(doubling).render({ n: 21 }, 1024 * 1024)).toHaveLength(2 * 1024 * 1024);
});

describe('arguments of calls', () => {
  const calls = (...given: unknown[]) => ({
    messages: [
      { role: 'user', content: 'Zürich?' },
      {
        role: 'assistant',
        content: '',
        tool_calls: given.map((value) => ({ function: { name: 'f', arguments: value } })),
      },
    ],
  });
  const each = '{% for m in messages %}{% for c in m.tool_calls or [] %}{{ HOW }};{% endfor %}{% endfor %}';
  const by = (how: string) => templateOf(each.replace('HOW', how));
  const added = "'<' + c.function.name + '>' + c.function.arguments";

  test('are JSON for a template that puts them behind a text of its own', () => {
    const chat = by(added);
    expect(chat.render(calls({ city: 'Zürich', days: [2] }, {}, 'as it came'), 100)).toBe(
      '<f>{"city":"Zürich","days":[2]};<f>{};<f>as it came;',
    );
    expect(chat.render({ messages: [{ role: 'user', content: 'x' }] }, 100)).toBe('');
    expect(chat.render(calls({ text: '[object Map]' }), 100)).toBe('<f>{"text":"[object Map]"};');
  });

  test('stay objects for one that looks into them or prints them itself', () => {
    expect(by('c.function.arguments|tojson').render(calls({ city: 'Bern' }), 100)).toBe('{"city": "Bern"};');
    expect(by('c.function.arguments.city').render(calls({ city: 'Bern' }, { city: '[object Map]' }), 100)).toBe(
      'Bern;[object Map];',
    );
    const refuses = "raise_exception('no calls')";
    expect(() => by(refuses).render(calls({}), 100)).toThrow('the chat template refused: no calls');
  });

  test('are not tried out longer than a template may take', () => {
    const loops = templateOf(
      '{% for m in messages %}{% if m.tool_calls %}{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}{% endif %}{% endfor %}',
      30,
    );
    expect(() => loops.render(calls({}), 100)).toThrow('the chat template did not end within 30 ms');
  });
});

describe('content', () => {
  const messages = [
    { role: 'system', content: 'Be kind' },
    { role: 'user', content: 'Grüße' },
  ];
  const parts = '{% for m in messages %}{% for p in m.content %}{{ p.text }};{% endfor %}{% endfor %}';

  test('is a part for a template that takes no text', () => {
    expect(render(parts, { messages })).toBe('Be kind;Grüße;');
    const picked =
      "{% for m in messages %}{{ (m.content | selectattr('type', 'equalto', 'text') | first).text }};{% endfor %}";
    expect(render(picked, { messages })).toBe('Be kind;Grüße;');
    expect(render(parts, { messages: [{ role: 'user', content: [{ type: 'text', text: 'as it came' }] }] })).toBe(
      'as it came;',
    );
  });

  test('stays a text for one that takes either, and the reason of one that takes neither is its own', () => {
    const either =
      '{% for m in messages %}{% if m.content is string %}{{ m.content }};{% else %}parts{% endif %}{% endfor %}';
    expect(render(either, { messages })).toBe('Be kind;Grüße;');
    const neither = "{{ raise_exception('no ' + messages[0].role) }}";
    expect(() => render(neither, { messages })).toThrow('the chat template refused: no system');
  });
});

test('numbers are made up to a limit', () => {
  expect(render('{{ range(3)|join }} {{ range(2, 4)|join }} {{ range(6, 0, -2)|join }} {{ range(5, 5)|length }}')).toBe(
    '012 23 642 0',
  );
  expect(render('{{ range(100000)|length }}')).toBe('100000');
  expect(() => render('{{ range(100001) }}')).toThrow('range() of 100001 numbers, more than 100000');
  expect(() => render('{{ range(1, 5, 0) }}')).toThrow('range() takes integers');
  expect(() => render('{{ range("a") }}')).toThrow('range() takes integers');
});

test('names of the request go before all others', () => {
  expect(render('{{ bos_token }}', { bos_token: 'B' })).toBe('B');
  expect(render('{{ namespace }}', { namespace: 'N' })).toBe('N');
  expect(render('{{ __proto__ }}|{{ constructor }}', JSON.parse('{"__proto__": 1}') as TemplateNames)).toBe('1|');
});

test('dates are written as Python writes them', () => {
  const formats = [
    '%d %b %Y',
    '%Y-%m-%d',
    '%A, %B %-d, %Y',
    '%a %j',
    '%I:%M:%S %p',
    '%y/%m/%e %H%%',
    '%F %T %R %D',
    '%c',
    '%u %w %h',
  ];
  const dates = [new Date(2024, 0, 5, 0, 7, 9), new Date(2023, 11, 31, 13, 45, 0)];
  expect(dates.map((date) => formats.map((format) => formatDate(date, format)))).toEqual([
    [
      '05 Jan 2024',
      '2024-01-05',
      'Friday, January 5, 2024',
      'Fri 005',
      '12:07:09 AM',
      '24/01/ 5 00%',
      '2024-01-05 00:07:09 00:07 01/05/24',
      'Fri Jan  5 00:07:09 2024',
      '5 5 Jan',
    ],
    [
      '31 Dec 2023',
      '2023-12-31',
      'Sunday, December 31, 2023',
      'Sun 365',
      '01:45:00 PM',
      '23/12/31 13%',
      '2023-12-31 13:45:00 13:45 12/31/23',
      'Sun Dec 31 13:45:00 2023',
      '7 0 Dec',
    ],
  ]);
  expect(formatDate(dates[0]!, '%Q %')).toBe('%Q %');
  expect(render('{{ strftime_now("%Y")|int > 2000 }}')).toBe('True');
});
