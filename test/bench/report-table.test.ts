import { expect, test } from 'vitest';
import { digits } from '../../src/bench/figures.js';
import { resultsTable } from '../../src/bench/report-table.js';
import { armName } from '../../src/bench/results.js';
import { ARMS, benchResults, LOADS } from '../support/bench-results.js';

const lines = (text: string) => text.split('\n');
/** Rows of cells, taken apart at two spaces and more. */
const rowsOf = (text: string) => lines(text).map((line) => line.trim().split(/\s{2,}/));

test('the table has the article’s columns and a row for each cell with that cell’s figures', () => {
  const results = benchResults({ models: ['text_embedding'], loads: LOADS.slice(0, 1), ways: [] });
  const rows = rowsOf(resultsTable(results));
  const heads = lines(resultsTable(results)).slice(2, 4).join(' ');
  for (const head of ['Payload', '(KB)', 'Model Type', 'Protocol', 'P50', 'P95', 'P99', 'Throughput']) {
    expect(heads).toContain(head);
  }
  for (const cell of results.cells) {
    const row = rows.find(([kb, , arm]) => kb === `${cell.payloadKb}` && arm === armName(cell.arm))!;
    expect(row.slice(1, 7)).toEqual([
      'text_embedding',
      armName(cell.arm),
      digits(cell.p50Ms.value),
      digits(cell.p95Ms.value),
      digits(cell.p99Ms.value),
      digits(cell.perSecond.value),
    ]);
  }
  expect(rows.filter(([, model]) => model === 'text_embedding')).toHaveLength(results.cells.length);
});

test('each load has a table of its own, from light to heavy, the open loop last', () => {
  const text = resultsTable(benchResults({ loads: [...LOADS].reverse() }));
  const headings = lines(text).filter((line) => /^(Closed|Open) loop/.test(line));
  expect(headings).toEqual([
    'Closed loop, 1 at a time',
    'Closed loop, 8 at a time',
    'Closed loop, 64 at a time',
    'Open loop, 200/s',
  ]);
});

test('rows of a payload stand together, the simplest arm first', () => {
  const text = resultsTable(
    benchResults({ models: ['m'], loads: LOADS.slice(0, 1), arms: [...ARMS].reverse(), ways: [] }),
  );
  const arms = rowsOf(text)
    .filter(([, model]) => model === 'm')
    .map(([kb, , arm]) => `${kb} ${arm}`);
  expect(arms.slice(0, 3)).toEqual(['2 rest_json', '2 rest_binary', '2 rest_json+gzip']);
  expect(arms.slice(8, 9)).toEqual(['10 rest_json']);
});

test.each([120, 100, 80])(
  'no line is longer than a terminal of %i columns, and a narrow one keeps the percentiles',
  (width) => {
    const text = resultsTable(benchResults(), { width });
    expect(Math.max(...lines(text).map((line) => line.length))).toBeLessThanOrEqual(width);
    expect(text).toContain('P50');
    expect(text).toContain('P99');
    expect(text.includes('CPU cl/srv')).toBe(width === 120);
  },
);

test('a cell whose client was busy, whose answer differed, whose phases don’t add up or whose requests failed is marked and told', () => {
  const results = benchResults({ models: ['m'], sizesKb: [2], loads: LOADS.slice(0, 1), ways: [] });
  const marks = { clientCpuShare: 0.91, answersEqual: false, explainedShare: 0.9, failures: 3 };
  const [first, ...others] = results.cells;
  const rows = (text: string) => lines(text).filter((line) => / m /.test(line));
  const plain = rows(resultsTable(results));
  expect(plain.some((line) => /[!≠~×<]$/.test(line))).toBe(false);
  const text = resultsTable({ ...results, cells: [{ ...first!, ...marks }, ...others] });
  expect(rows(text)[0]).toMatch(/!≠~×$/);
  const onOneLine = text.replaceAll(/\s+/g, ' ');
  expect(onOneLine).toContain('the client may be the bottleneck: m, 2 KB, rest_json, 1 at a time (91 %)');
  expect(onOneLine).toContain('× requests failed: m, 2 KB, rest_json, 1 at a time (3 of 1,003)');
});

test('the limits of the marks are not themselves marked', () => {
  const results = benchResults({ models: ['m'], sizesKb: [2], loads: LOADS.slice(0, 1), ways: [] });
  const cells = results.cells.map((cell) => ({ ...cell, clientCpuShare: 0.8, explainedShare: 1.0199 }));
  expect(resultsTable({ ...results, cells })).not.toMatch(/[!~]$/m);
});

test('a cell of few requests is marked, as its p99 is that of one', () => {
  const results = benchResults({
    models: ['m'],
    sizesKb: [2],
    loads: LOADS.slice(0, 1),
    arms: ARMS.slice(0, 2),
    ways: [],
  });
  const cells = results.cells.map((cell, index) => ({ ...cell, requests: 99 + index }));
  const text = resultsTable({ ...results, cells });
  expect(lines(text).filter((line) => / m /.test(line) && line.endsWith('?'))).toHaveLength(1);
  expect(text).toContain('? fewer than 100 requests were answered');
});

test('an open loop that fell behind its rate is marked', () => {
  const results = benchResults({ models: ['m'], sizesKb: [2], loads: LOADS.slice(3), ways: [] });
  const cells = results.cells.map((cell) => ({ ...cell, perSecond: { value: 150, low: 149, high: 151 } }));
  expect(resultsTable({ ...results, cells })).toContain('< fewer were answered each second than were asked for');
});

test('streams have a table, and one with another text is marked', () => {
  const results = benchResults({ models: ['m'] });
  const streams = results.streams.map((stream) => ({ ...stream, textEqual: stream.way !== 'sse' }));
  const text = resultsTable({ ...results, streams });
  expect(lines(text).find((line) => line.startsWith('sse '))).toMatch(/280 \(272–288\).*≠$/);
  expect(text).toContain('≠ the text was not that of the first way: sse.');
});

test('a server that tells nothing of itself leaves dashes', () => {
  const text = resultsTable(benchResults({ models: ['m'], serverTells: false, ways: [] }));
  expect(lines(text).find((line) => / rest_json /.test(line))).toMatch(/\+– .*\/–$/);
});

test('a model’s name that could move the cursor is printed harmlessly', () => {
  const text = resultsTable(benchResults({ models: ['a\u001b[2Jb'], ways: [] }));
  expect(text).not.toContain('\u001b');
  expect(text).toContain('a?[2Jb');
});

test('open loops have one table whatever the rate of each payload was, and tell what was asked for', () => {
  const results = benchResults({ models: ['a', 'b'], loads: LOADS.slice(3), ways: [] });
  const cells = results.cells.map((cell) => {
    const load = { kind: 'open', ratePerSecond: (cell.model === 'a' ? 3000 : 2000) / cell.payloadKb! } as const;
    return { ...cell, load };
  });
  const text = resultsTable({ ...results, cells });
  expect(lines(text).filter((line) => /^Open loop/.test(line))).toEqual(['Open loop']);
  expect(lines(text).find((line) => /^ +100 +a /.test(line))).toContain('200 of 30.0');
});

test('a second rate of the same payload has a table of its own', () => {
  const rates = [100, 300].map((ratePerSecond) => ({ kind: 'open', ratePerSecond }) as const);
  const text = resultsTable(benchResults({ models: ['a'], loads: rates, ways: [] }));
  expect(lines(text).filter((line) => /^Open loop/.test(line))).toEqual(['Open loop, 100/s', 'Open loop, 300/s']);
});
