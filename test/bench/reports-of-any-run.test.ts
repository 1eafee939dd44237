/** Whatever a run left out, its reports can be made and hold no figure that is none. */
import { expect, test } from 'vitest';
import { plots } from '../../src/bench/plots.js';
import { markdownReport } from '../../src/bench/report-markdown.js';
import { resultsTable } from '../../src/bench/report-table.js';
import type { BenchResults } from '../../src/bench/results.js';
import { verdict } from '../../src/bench/verdict.js';
import { verdictText } from '../../src/bench/verdict-text.js';
import { ARMS, benchResults, LOADS, MODELS, SIZES_KB, WAYS } from '../support/bench-results.js';

/** Park and Miller's: the same runs each time. */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}

function some<T>(values: readonly T[], random: () => number, part = 0.5): T[] {
  return values.filter(() => random() < part);
}

function anyRun(seed: number): BenchResults {
  const random = randomFrom(seed);
  const results = benchResults({
    models: some(MODELS, random),
    sizesKb: some<number | null>([null, 0, ...SIZES_KB], random, 0.3),
    arms: some(ARMS, random, 0.4),
    loads: some(LOADS, random),
    ways: some(WAYS, random),
    rounds: random() < 0.5 ? 1 : 4,
    serverTells: random() < 0.5,
  });
  const dropped = results.cells.filter(() => random() < 0.8);
  // A figure that could not be had is NaN here and null in a file.
  const missing = (value: unknown) => (random() < 0.06 ? (random() < 0.5 ? Number.NaN : null) : value);
  const holes = (_: string, value: unknown) => (typeof value === 'number' ? missing(value) : value);
  const cells =
    random() < 0.5
      ? dropped
      : dropped.map((cell) => ({ ...punched(cell, holes), load: cell.load, payloadKb: cell.payloadKb }));
  return {
    ...results,
    cells,
    streams: random() < 0.5 ? results.streams : results.streams.map((one) => punched(one, holes)),
  };
}

/** The reviver sees every figure; NaN survives, as nothing is printed again. */
function punched<T>(value: T, reviver: (key: string, value: unknown) => unknown): T {
  return JSON.parse(JSON.stringify(value), reviver) as T;
}

function textsOf(results: BenchResults): string[] {
  const drawn = plots(results);
  return [
    resultsTable(results),
    resultsTable(results, { width: 80 }),
    verdictText(verdict(results)),
    markdownReport(
      results,
      drawn.map(({ file }) => file),
    ),
    ...drawn.map(({ svg }) => svg),
  ];
}

const NO_TEXT = /NaN|undefined|Infinity|\bnull\b|\[object/;

/** With what stands around it. */
function firstBad(text: string): string | undefined {
  const found = NO_TEXT.exec(text);
  return found ? text.slice(Math.max(0, found.index - 100), found.index + 60) : undefined;
}

test('the search finds what it looks for', () => {
  for (const text of ['x NaN', 'undefined', '-Infinity ms', 'null', '[object Object]']) expect(text).toMatch(NO_TEXT);
});

test.each(Array.from({ length: 30 }, (_, index) => index + 1))('run %i, with holes anywhere', (seed) => {
  for (const text of textsOf(anyRun(seed))) expect(firstBad(text)).toBeUndefined();
});

test.each(ARMS)('$encoding, gzip $gzip, alone', (arm) => {
  for (const text of textsOf(
    benchResults({ arms: [arm], sizesKb: [null], models: ['m'], ways: [], rounds: 1, serverTells: false }),
  )) {
    expect(text).not.toMatch(NO_TEXT);
  }
});

test('a run of nothing', () => {
  for (const text of textsOf({ ...benchResults(), cells: [], streams: [], experiments: [], notes: [] })) {
    expect(text).not.toMatch(NO_TEXT);
  }
});
