import { expect, test } from 'vitest';
import { formatContext, parseTraceparent, parseTracestate } from '../../src/tracing/trace-context.js';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

test('a traceparent is read and written back as it was', () => {
  const text = `00-${TRACE}-${SPAN}-01`;
  const parent = parseTraceparent(text)!;
  expect(parent.flags).toBe(1);
  expect(formatContext(parent.traceId, parent.spanId, parent.flags)).toBe(text);
});

test('the flag of a random id is kept, flags that no version names are not', () => {
  expect(parseTraceparent(`00-${TRACE}-${SPAN}-03`)!.flags).toBe(3);
  expect(parseTraceparent(`00-${TRACE}-${SPAN}-f8`)!.flags).toBe(0);
});

test.each([
  ['nothing', undefined],
  ['an empty text', ''],
  ['a list of fields', [`00-${TRACE}-${SPAN}-01`]],
  ['two fields joined', `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`],
  ['the version that is none', `ff-${TRACE}-${SPAN}-01`],
  ['more behind version 00', `00-${TRACE}-${SPAN}-01-00`],
  ['upper case', `00-${TRACE.toUpperCase()}-${SPAN}-01`],
  ['a trace of zeros', `00-${'0'.repeat(32)}-${SPAN}-01`],
  ['a span of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
  ['flags of one digit', `00-${TRACE}-${SPAN}-1`],
  ['a trace that is too short', `00-${TRACE.slice(1)}-${SPAN}-01 `],
  ['what a later version must not look like', `01-${TRACE}-${SPAN}-01x`],
  ['a very long text', 'x'.repeat(16_000)],
])('a traceparent that is %s is none', (_what, text) => {
  expect(parseTraceparent(text)).toBeUndefined();
});

test('of a later version the part that all have is read', () => {
  expect(parseTraceparent(`01-${TRACE}-${SPAN}-01`)?.flags).toBe(1);
  expect(parseTraceparent(`cc-${TRACE}-${SPAN}-01-what-the-future-has`)?.flags).toBe(1);
});

test('a tracestate is handed on as it is, within bounds', () => {
  expect(parseTracestate('rojo=00f067aa0ba902b7,congo=t61rcWkgMzE')).toBe('rojo=00f067aa0ba902b7,congo=t61rcWkgMzE');
  expect(parseTracestate(undefined)).toBe('');
  expect(parseTracestate('a=1\n')).toBe('');
  expect(parseTracestate('x'.repeat(512))).toHaveLength(512);
  expect(parseTracestate('x'.repeat(513))).toBe('');
  expect(parseTracestate(Array.from({ length: 33 }, (_, i) => `k${i}=v`).join(','))).toBe('');
});
