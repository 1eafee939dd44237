import { expect, test } from 'vitest';
import { digits, interval } from '../../src/bench/figures.js';
import { plots } from '../../src/bench/plots.js';
import { markdownReport } from '../../src/bench/report-markdown.js';
import { armName } from '../../src/bench/results.js';
import { benchResults, LOADS } from '../support/bench-results.js';

const results = benchResults();
const files = plots(results).map(({ file }) => `plots/${file}`);
const report = markdownReport(results, files);
/** Cells of a table's line. */
const cellsOf = (line: string) =>
  line
    .split(/(?<!\\)\|/)
    .slice(1, -1)
    .map((cell) => cell.trim());
const linesOf = (text: string) => text.split('\n');

test('the verdict comes first, the command that repeats the run last', () => {
  const headings = linesOf(report).filter((line) => line.startsWith('## '));
  expect(headings).toEqual([
    '## Verdict',
    '## How to read this',
    '## Environment',
    '## Results',
    '## Token streams',
    '## Experiments',
    '## Notes',
    '## Reproduce',
  ]);
  expect(markdownReport({ ...results, command: 'tensorwire bench --model m' }, [])).toContain(
    '```sh\ntensorwire bench --model m\n```',
  );
});

test('every cell is there with its intervals', () => {
  const rows = new Set(linesOf(report).map((line) => cellsOf(line).slice(0, 5).join('|')));
  for (const cell of results.cells) {
    expect(rows).toContain(
      [
        `${cell.payloadKb} KB`,
        armName(cell.arm),
        interval(cell.p50Ms),
        interval(cell.p95Ms),
        interval(cell.p99Ms),
      ].join('|'),
    );
  }
});

test('every plot is shown once', () => {
  const shown = [...report.matchAll(/!\[[^\]]*\]\(([^)]*)\)/g)].map(([, file]) => file!);
  expect([...shown].sort()).toEqual([...files].sort());
  expect(markdownReport(results, ['plots/other.svg'])).toContain('## Further plots');
});

test('the budget of a payload has all phases and what neither side saw, and comes to the mean', () => {
  const one = benchResults({ models: ['m'], sizesKb: [100], loads: LOADS.slice(0, 1), ways: [] });
  const lines = linesOf(markdownReport(one, []));
  const start = lines.findIndex((line) => line.startsWith('| Phase (mean, ms)'));
  const table = lines.slice(start, lines.indexOf('', start)).map(cellsOf);
  const names = table.map(([name]) => name);
  expect(names.slice(2)).toEqual([
    ...[
      'client encode',
      'client send',
      'server receive',
      'server decode',
      'server admit',
      'server queue',
      'server dispatch',
    ],
    ...[
      'server compute',
      'server collect',
      'server encode',
      '*transit: seen by neither side*',
      'client read',
      'client decode',
    ],
    ...['not in any phase', '**mean of the whole call**', 'explained, median', 'transit, median share'],
  ]);
  one.cells.forEach((cell) => {
    const column = table[0]!.indexOf(armName(cell.arm));
    const figures = table.slice(2).map((row) => row[column]!);
    const phases = figures.slice(0, 14).reduce((sum, figure) => sum + Number(figure), 0);
    expect(phases).toBeCloseTo(cell.meanMs, 1);
    expect(figures[14]).toBe(`**${digits(cell.meanMs)}**`);
  });
});

test('the budget of a server that tells no phases says that its work is in what was not seen', () => {
  const text = markdownReport(benchResults({ models: ['m'], serverTells: false }), []);
  expect(text).toContain('*server and transit: the server tells no phases*');
  expect(text).not.toContain('*transit: seen by neither side*');
});

test('names and notes can’t break the report', () => {
  const hostile = {
    ...benchResults({ models: ['a|b`c\n# d<script>'], sizesKb: [2, 10], loads: LOADS.slice(0, 1) }),
    notes: ['x | y\n\n# z <b>'],
  };
  const text = markdownReport(hostile, []);
  expect(linesOf(text).filter((line) => /^# /.test(line))).toHaveLength(1);
  expect(text).not.toMatch(/(?<!\\)<script>|(?<!\\)<b>/);
  const widths = linesOf(text)
    .filter((line) => line.startsWith('|'))
    .map((line) => cellsOf(line).length);
  expect(Math.min(...widths)).toBeGreaterThan(1);
});

test('one round is said to have no intervals, a quick run to be rough', () => {
  const quick = markdownReport({ ...benchResults({ rounds: 1 }), quick: true }, []);
  expect(quick).toContain('one round has no confidence interval');
  expect(quick).toContain('It was a quick run');
  expect(report).not.toContain('quick run');
});
