import { expect, test } from 'vitest';
import { EventReader } from '../../src/client/rest-events.js';

/** The data of all events in `bytes`, which arrive `size` at a time. */
function read(bytes: Buffer, size: number, ends = true): string[] {
  const events: string[] = [];
  const reader = new EventReader((data) => events.push(data), 1000);
  for (let at = 0; at < bytes.length; at += size) reader.push(bytes.subarray(at, at + size));
  if (ends) reader.end();
  return events;
}

const STREAMS: [string, string, string[]][] = [
  ['plain events', 'data: one\n\ndata: two\n\n', ['one', 'two']],
  ['CRLF', 'data: one\r\n\r\ndata: two\r\n\r\n', ['one', 'two']],
  ['CR alone', 'data: one\r\rdata: two\r\r', ['one', 'two']],
  ['line ends of all kinds', 'data: a\r\ndata: b\rdata: c\n\r\ndata: d\n\r', ['a\nb\nc', 'd']],
  ['comments and other fields', ': ping\n\nevent: x\nid: 1\nretry: 5\ndata: one\n\n:\n\n', ['one']],
  ['several lines of data', 'data: {\ndata: "a": 1\ndata:}\n\n', ['{\n"a": 1\n}']],
  ['no space, two spaces, no colon', 'data:a\n\ndata:  b\n\ndata\n\n', ['a', ' b', '']],
  ['an event without data', 'event: ping\n\ndata: x\n\n', ['x']],
  ['a byte order mark', '\ufeffdata: x\n\n', ['x']],
  ['characters of several bytes', 'data: grüße \u{1f600}\u2028\n\n', ['grüße \u{1f600}\u2028']],
  ['an end without the blank line', 'data: a\n\ndata: b', ['a', 'b']],
  ['an end behind one carriage return', 'data: a\r', ['a']],
  ['nothing', '', []],
];

test.each(STREAMS)('%s are the same events however the bytes are cut', (_, text, events) => {
  const bytes = Buffer.from(text);
  for (let size = 1; size <= bytes.length + 1; size++) expect(read(bytes, size), `cut by ${size}`).toEqual(events);
});

test('an event is there as soon as its blank line is, before the next bytes', () => {
  expect(read(Buffer.from('data: a\r\n\r'), 1, false)).toEqual(['a']);
});

test('an event without an end is refused, in one line and in many', () => {
  expect(() => read(Buffer.from(`data: ${'x'.repeat(2000)}`), 7)).toThrow('longer than 1000 characters');
  expect(() => read(Buffer.from('data: xxxxxxxxxx\n'.repeat(200)), 7)).toThrow('longer than 1000 characters');
});
