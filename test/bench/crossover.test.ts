import { describe, expect, test } from 'vitest';
import { crossings, crossoversOf, type LatencyPoint } from '../../src/bench/crossover.js';
import { crossoverWords } from '../../src/bench/verdict-words.js';
import { ARMS, around, benchResults, LOADS } from '../support/bench-results.js';

const at = (...points: [kb: number, ms: number][]): LatencyPoint[] =>
  points.map(([kb, ms]) => ({ bytes: kb * 1024, ms }));

describe('lines cross', () => {
  test.each([
    // Straight lines on logarithmic axes: 1 to 100 against 10 to 10 meet in the middle, at 10.
    ['in the middle of a decade pair', at([1, 1], [100, 100]), at([1, 10], [100, 10]), [10], [10]],
    ['a quarter of the way', at([1, 1], [10_000, 10_000]), at([1, 10], [10_000, 10]), [10], [10]],
    ['at a payload that was measured', at([1, 1], [10, 5], [100, 50]), at([1, 2], [10, 5], [100, 20]), [10], [5]],
    [
      'twice',
      at([1, 1], [10, 100], [100, 1]),
      at([1, 10], [10, 10], [100, 10]),
      [Math.sqrt(10), 10 * Math.sqrt(10)],
      [10, 10],
    ],
    [
      'at the last of several that are the same',
      at([1, 1], [2, 3], [4, 3], [8, 9]),
      at([1, 2], [2, 3], [4, 3], [8, 4]),
      [4],
      [3],
    ],
  ])('%s', (_, first, second, sizes, heights) => {
    const found = crossings(first, second);
    expect(found.map(({ bytes }) => bytes / 1024)).toEqual(sizes.map((size) => expect.closeTo(size, 6)));
    expect(found.map(({ ms }) => ms)).toEqual(heights.map((height) => expect.closeTo(height, 6)));
  });

  test.each([
    ['one is always faster', at([1, 1], [100, 2]), at([1, 3], [100, 4])],
    ['both are the same', at([1, 1], [100, 2]), at([1, 1], [100, 2])],
    ['they touch and part again', at([1, 1], [10, 5], [100, 10]), at([1, 2], [10, 5], [100, 20])],
    ['one payload alone was measured', at([1, 1]), at([1, 2])],
    ['nothing was measured', [], []],
  ])('nowhere where %s', (_, first, second) => {
    expect(crossings(first, second)).toEqual([]);
  });

  test('with the arm that is faster beyond', () => {
    const [slow, steady] = [at([1, 1], [100, 100]), at([1, 10], [100, 10])];
    expect(crossings(slow, steady)[0]!.secondBeyond).toBe(true);
    expect(crossings(steady, slow)[0]!.secondBeyond).toBe(false);
  });
});

/** Cells of two arms with these medians at 10, 100 and 1000 KB. */
function withMedians(json: number[], raw: number[], part = 0.01) {
  const sizesKb = [10, 100, 1000];
  const arms = ARMS.filter(({ encoding, gzip }) => !gzip && (encoding === 'rest_json' || encoding === 'grpc_raw'));
  const results = benchResults({ models: ['m'], sizesKb, arms, loads: LOADS.slice(0, 1) });
  const cells = results.cells.map((cell) => {
    const medians = cell.arm.encoding === 'rest_json' ? json : raw;
    return { ...cell, p50Ms: around(medians[sizesKb.indexOf(cell.payloadKb!)]!, part) };
  });
  return crossoversOf(cells, 5);
}

test('a crossing is told with its size', () => {
  const [crossover] = withMedians(
    [1, 10, 100],
    [10, 10, 10].map((ms) => ms * 0.5),
  );
  expect(crossover!.arms).toEqual(['rest_json', 'grpc_raw']);
  expect(crossover!.crossings[0]!.bytes / 1024).toBeCloseTo(50, 3);
  expect(crossover!.crossings[0]!.clear).toBe(true);
  expect(crossoverWords(crossover!)).toBe('grpc_raw from 50.0 KB on');
});

test('none in the range measured is told with who is faster', () => {
  expect(crossoverWords(withMedians([5, 10, 100], [1, 2, 3])[0]!)).toBe(
    'none from 10 KB to 1000 KB: grpc_raw throughout',
  );
  expect(crossoverWords(withMedians([1, 1, 1], [1, 1, 1])[0]!)).toBe('none from 10 KB to 1000 KB: within noise');
});

test('a crossing within noise is none, and the payload from which on it is beyond noise is told', () => {
  const [crossover] = withMedians([1, 2, 50], [1.01, 2, 10], 0.05);
  expect(crossover!.crossings.map(({ clear }) => clear)).toEqual([false]);
  expect(crossoverWords(crossover!)).toBe('none from 10 KB to 1000 KB; beyond noise grpc_raw from 1000 KB on');
});

test('arms that were measured at one payload alone have no crossover to tell', () => {
  expect(crossoversOf(benchResults({ sizesKb: [100] }).cells, 5)).toEqual([]);
});
