/** The exposition: what Prometheus can read, whatever labels hold, and how a long one lets others in between. */
import { expect, test } from 'vitest';
import { BucketCounts } from '../../src/base/bucket-counts.js';
import { Metrics } from '../../src/base/metrics.js';

async function linesOf(metrics: Metrics): Promise<string[]> {
  const { body, contentType } = await metrics.render();
  expect(contentType).toMatch(/^text\/plain; version=0\.0\.4/);
  const text = String(body);
  expect(text.endsWith('\n')).toBe(true);
  return text.split('\n').filter((line) => !/^(# (HELP|TYPE) )?(nodejs|process)_/.test(line) && line !== '');
}

test('counters and gauges are shown with their labels, escaped', async () => {
  const metrics = new Metrics();
  metrics.counter({ name: 'a_total', help: 'Back\\slash\nand line', labels: ['x'] }, () => [
    [{ x: 'q"b\\n\n' }, 3],
    [{ x: 'é' }, 0.1],
  ]);
  metrics.gauge({ name: 'g', help: 'G' }, () => [[{}, 1e21]]);
  expect(await linesOf(metrics)).toEqual([
    '# HELP a_total Back\\\\slash\\nand line',
    '# TYPE a_total counter',
    'a_total{x="q\\"b\\\\n\\n"} 3',
    'a_total{x="é"} 0.1',
    '# HELP g G',
    '# TYPE g gauge',
    'g 1e+21',
  ]);
});

test('totals with the same labels are added up', async () => {
  const metrics = new Metrics();
  metrics.counter({ name: 'a_total', help: 'A', labels: ['x', 'y'] }, () => [
    [{ x: '1', y: '1' }, 2],
    [{ x: '1', y: '2' }, 5],
    [{ x: '1', y: '1' }, 3],
  ]);
  expect((await linesOf(metrics)).slice(2)).toEqual(['a_total{x="1",y="1"} 5', 'a_total{x="1",y="2"} 5']);
});

test('a value that is no number is shown as one that Prometheus knows', async () => {
  const metrics = new Metrics();
  const values = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  metrics.gauge({ name: 'g', help: 'G', labels: ['i'] }, () => values.map((value, i) => [{ i: String(i) }, value]));
  expect((await linesOf(metrics)).slice(2)).toEqual(['g{i="0"} NaN', 'g{i="1"} +Inf', 'g{i="2"} -Inf']);
});

test('a name is taken once', () => {
  const metrics = new Metrics();
  metrics.gauge({ name: 'g', help: 'G' }, () => []);
  expect(() => metrics.gauge({ name: 'g', help: 'G' }, () => [])).toThrow('the metric g is there already');
});

test('a scrape of thousands of histograms lets others in between, and each histogram is of one instant', async () => {
  const metrics = new Metrics();
  const counts = new BucketCounts([1, 2, 3]);
  metrics.bucketHistogram({ name: 'h', help: 'é'.repeat(100), labels: ['i'] }, function* () {
    for (let i = 0; i < 30_000; i++) yield [{ i: String(i) }, counts];
  });
  let turns = 0;
  let isOver = false;
  const tick = (): void => {
    turns++;
    counts.observe(turns % 5);
    if (!isOver) setImmediate(tick);
  };
  setImmediate(tick);
  const lines = await linesOf(metrics);
  isOver = true;
  expect(turns).toBeGreaterThan(1);
  expect(lines).toHaveLength(2 + 30_000 * 6);
  const values = lines.slice(2).map((line) => Number(line.slice(line.lastIndexOf(' '))));
  const counted = new Set<number>();
  for (let at = 0; at < values.length; at += 6) {
    const [one, two, three, all, , count] = values.slice(at, at + 6) as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    expect(one <= two && two <= three && three <= all && all === count).toBe(true);
    counted.add(count);
  }
  expect(counted.size).toBeGreaterThan(1);
});
