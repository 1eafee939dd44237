import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Sampling } from '../../src/runtime/generation-messages.js';
import { Sampler } from '../../workers/sampler.js';
import { Draw } from '../../workers/sampler-draw.js';
import { exponential, falling, logSumExponential, REACH } from '../../workers/sampler-exponential.js';
import { Random } from '../../workers/sampler-random.js';
import { LargestOfRow } from '../../workers/sampler-top.js';
import { GREEDY } from '../support/step-loop.js';

const samplerOf = (sampling: Partial<Sampling>, prompt: readonly number[] = [], size = 1000): Sampler =>
  new Sampler({ ...GREEDY, ...sampling }, Int32Array.from(prompt), size);

/** `length` logits about as far apart as a model's. */
function randomRow(length: number, seed: number): Float32Array {
  const random = new Random([7, seed]);
  return Float32Array.from(
    { length },
    () => 4 * Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(6.28318 * random.next()),
  );
}

/** The probabilities of all tokens, by the definition: everything sorted, nothing clever. */
function naive(
  row: Float32Array,
  { temperature, topK, topP, minP }: Pick<Sampling, 'temperature' | 'topK' | 'topP' | 'minP'>,
): number[] {
  let order = [...row.keys()].filter((id) => row[id]! > Number.NEGATIVE_INFINITY);
  order.sort((a, b) => row[b]! - row[a]! || a - b);
  const max = row[order[0]!]!;
  const mass = (id: number): number => Math.exp((row[id]! - max) / temperature);
  const sum = (ids: readonly number[]): number => ids.reduce((total, id) => total + mass(id), 0);
  if (topK > 0) order = order.slice(0, topK);
  const all = sum(order);
  let before = 0;
  order = order.filter((id) => {
    const keep = before < topP * all;
    before += mass(id);
    return keep;
  });
  order = order.filter((id) => mass(id) >= minP);
  const kept = sum(order);
  const probabilities = new Array<number>(row.length).fill(0);
  for (const id of order) probabilities[id] = mass(id) / kept;
  return probabilities;
}

/** What `options` really draw: the parts of [0, 1) that lead to each token, found by many evenly spread numbers. */
function drawn(
  row: Float32Array,
  options: Pick<Sampling, 'temperature' | 'topK' | 'topP' | 'minP'>,
  draws: number,
): number[] {
  const draw = new Draw(new LargestOfRow());
  const parts = new Array<number>(row.length).fill(0);
  for (let i = 0; i < draws; i++) parts[draw.draw(row, options, (i + 0.5) / draws)]! += 1 / draws;
  return parts;
}

const cases = [
  { temperature: 1, topK: 0, topP: 1, minP: 0 },
  { temperature: 0.7, topK: 0, topP: 1, minP: 0 },
  { temperature: 2, topK: 0, topP: 1, minP: 0 },
  { temperature: 1e6, topK: 0, topP: 1, minP: 0 },
  { temperature: 1e6, topK: 0, topP: 0.5, minP: 0 },
  { temperature: 0.01, topK: 0, topP: 1, minP: 0 },
  { temperature: 1, topK: 1, topP: 1, minP: 0 },
  { temperature: 1.3, topK: 20, topP: 1, minP: 0 },
  { temperature: 1, topK: 700, topP: 1, minP: 0 },
  { temperature: 3, topK: 600, topP: 0.8, minP: 0.001 },
  { temperature: 1, topK: 5000, topP: 0.9, minP: 0 },
  { temperature: 1, topK: 0, topP: 0.9, minP: 0 },
  { temperature: 1.5, topK: 0, topP: 0.5, minP: 0 },
  { temperature: 1, topK: 0, topP: 1e-9, minP: 0 },
  { temperature: 1, topK: 0, topP: 1, minP: 0.1 },
  { temperature: 1, topK: 0, topP: 1, minP: 1 },
  { temperature: 2, topK: 0, topP: 0.95, minP: 0.02 },
  { temperature: 1, topK: 50, topP: 0.9, minP: 0.05 },
  { temperature: 0.8, topK: 40, topP: 0.95, minP: 0 },
];

describe.each(cases)('with temperature $temperature, top k $topK, top p $topP and min p $minP', (options) => {
  test.each([2, 30, 1000])('%i tokens are drawn as often as the sorted definition says', (length) => {
    const row = randomRow(length, length);
    const draws = 4000;
    const [actual, wanted] = [drawn(row, options, draws), naive(row, options)];
    // Evenly spread numbers hit each token's part to within one of them at either end.
    for (let id = 0; id < length; id++) expect(Math.abs(actual[id]! - wanted[id]!)).toBeLessThan(2.01 / draws);
    expect(actual.map((part, id) => part > 0 && wanted[id] === 0)).not.toContain(true);
  });

  test('equal logits are told apart by id, and -Infinity and NaN are never drawn', () => {
    const row = randomRow(600, 5).map((value) => Math.round(value));
    row[3] = Number.NaN;
    row[4] = Number.NEGATIVE_INFINITY;
    row[599] = Number.NaN;
    const actual = drawn(row, options, 3000);
    const wanted = naive(row, options);
    for (let id = 0; id < row.length; id++) expect(Math.abs(actual[id]! - wanted[id]!)).toBeLessThan(2.01 / 3000);
  });
});

test('a vocabulary of equal logits is cut by id and drawn evenly', () => {
  const row = new Float32Array(50_000).fill(1.5);
  const draw = new Draw(new LargestOfRow());
  const options = { temperature: 1, topK: 0, topP: 0.5, minP: 0 };
  expect(draw.draw(row, options, 0)).toBe(0);
  expect(draw.draw(row, options, 0.5)).toBeCloseTo(12_500, -1);
  expect(draw.draw(row, options, 0.999999)).toBeLessThanOrEqual(25_000);
  expect(draw.draw(row, { ...options, topK: 10_000, topP: 1 }, 0.9999999)).toBe(9_999);
});

/** From transformers' own processors: make.py beside it. */
interface Table {
  readonly row: readonly number[];
  readonly prompt: readonly number[];
  readonly output: readonly number[];
  readonly cases: readonly {
    readonly temperature: number;
    readonly topK: number;
    readonly topP: number;
    readonly minP: number;
    readonly repetitionPenalty: number;
    readonly kept: readonly (readonly [id: number, probability: number])[];
  }[];
}
const tables = JSON.parse(
  readFileSync(join(import.meta.dirname, '../fixtures/sampling/tables.json'), 'utf8'),
) as Table[];

test.each(tables.map((table, index) => ({ index, table })))(
  'table $index of transformers is what is drawn',
  ({ table: { row, prompt, output, cases } }) => {
    expect(cases.length).toBeGreaterThan(10);
    for (const { kept, ...options } of cases) {
      // The output of before is forced; what follows is drawn by a fresh random number each time.
      const counts = new Map<number, number>();
      const draws = 3000;
      const sampler = samplerOf({ ...options, seed: [1, 2] }, [...prompt, ...output], row.length);
      const probabilities = new Map(kept);
      const repeats = options.repetitionPenalty !== 1;
      for (let i = 0; i < (repeats ? 200 : draws); i++) {
        const one = repeats ? samplerOf({ ...options, seed: [i, 3] }, [...prompt, ...output], row.length) : sampler;
        const { id } = one.choose(Float32Array.from(row));
        counts.set(id, (counts.get(id) ?? 0) + 1);
      }
      expect([...counts.keys()].filter((id) => !probabilities.has(id))).toEqual([]);
      if (repeats) continue;
      for (const [id, probability] of kept) {
        const spread = Math.sqrt((probability * (1 - probability)) / draws);
        expect(Math.abs((counts.get(id) ?? 0) / draws - probability)).toBeLessThan(5 * spread + 1e-3);
      }
    }
  },
);

test('without temperature the largest logit is chosen, the lowest id of equals', () => {
  expect(samplerOf({}).choose(Float32Array.of(1, 5, 5, 2))).toEqual({ id: 1, logit: 5, logprob: Number.NaN, top: [] });
  expect(samplerOf({}).choose(Float32Array.of(Number.NaN, -3, Number.NaN)).id).toBe(1);
  expect(samplerOf({}).choose(Float32Array.of(Number.NaN, Number.NEGATIVE_INFINITY)).id).toBe(1);
  expect(samplerOf({}).choose(Float32Array.of(1, Number.POSITIVE_INFINITY)).id).toBe(1);
  expect(samplerOf({ temperature: 1 }).choose(Float32Array.of(1, Number.POSITIVE_INFINITY)).id).toBe(1);
  expect(samplerOf({ temperature: 1e-6 }).choose(Float32Array.of(1, 1.0001)).id).toBe(1);
});

test('a row of nothing but NaN is an error, and so is one of which nothing is allowed', () => {
  const nothing = new Float32Array(4).fill(Number.NaN);
  for (const options of [{}, { temperature: 1 }, { temperature: 1, topK: 2 }, { temperature: 1, topP: 0.5 }])
    expect(() => samplerOf(options).choose(nothing)).toThrow('the model gave no number for any token');
  expect(() => samplerOf({ suppressTokenIds: [0, 1] }).choose(Float32Array.of(1, 2))).toThrow('may be chosen');
});

test('the row is as it was afterwards, whatever was done to it', () => {
  const row = randomRow(50, 1);
  const before = row.slice();
  const sampler = samplerOf(
    {
      temperature: 1,
      topP: 0.9,
      repetitionPenalty: 1.3,
      presencePenalty: 1,
      frequencyPenalty: 0.5,
      minTokens: 99,
      eosTokenIds: [3],
      suppressTokenIds: [1, 5],
      logitBias: [
        [1, 5],
        [7, -100],
      ],
      logprobs: 3,
    },
    [1, 2, 3, 3],
    50,
  );
  for (let i = 0; i < 20; i++) sampler.choose(row);
  expect(row).toEqual(before);
});

test('bias, penalties and what is forbidden come before the choice, the reported logit is the own one', () => {
  const row = (): Float32Array => Float32Array.of(1, 2, 3, 2.5);
  expect(samplerOf({ logitBias: [[0, 10]] }).choose(row())).toMatchObject({ id: 0, logit: 1 });
  expect(
    samplerOf({
      logitBias: [
        [99_999, 10],
        [-1, 10],
      ],
    }).choose(row()).id,
  ).toBe(2);
  expect(samplerOf({ suppressTokenIds: [2, 5000] }).choose(row()).id).toBe(3);
  expect(samplerOf({ repetitionPenalty: 2 }, [2, 70_000, -1]).choose(row()).id).toBe(3);
  // A negative logit is multiplied.
  expect(samplerOf({ repetitionPenalty: 2 }, [1]).choose(Float32Array.of(-2.5, -2)).id).toBe(0);
  // The prompt has no presence: only what was chosen has.
  const present = samplerOf({ presencePenalty: 1 }, [2]);
  expect([1, 2, 3, 4].map(() => present.choose(row()).id)).toEqual([2, 3, 1, 2]);
  const frequent = samplerOf({ frequencyPenalty: 0.4 }, [2]);
  expect([1, 2, 3, 4, 5].map(() => frequent.choose(row()).id)).toEqual([2, 2, 3, 2, 3]);
});

test('no end comes before the least number of tokens', () => {
  const sampler = samplerOf({ minTokens: 2, eosTokenIds: [1], stopTokenIds: [2] });
  expect([1, 2, 3].map(() => sampler.choose(Float32Array.of(1, 9, 8)).id)).toEqual([0, 0, 1]);
});

test('log probabilities are those of the model, with the likeliest alternatives', () => {
  const row = Float32Array.of(1, 3, 2, Number.NEGATIVE_INFINITY);
  const whole = Math.log(Math.E + Math.E ** 2 + Math.E ** 3);
  const chosen = samplerOf({ logprobs: 2, logitBias: [[0, 50]], temperature: 0.5 }).choose(row);
  expect(chosen.id).toBe(0);
  expect(chosen.logprob).toBeCloseTo(1 - whole, 10);
  expect(chosen.top.map(({ id }) => id)).toEqual([1, 2]);
  expect(chosen.top[0]!.logprob).toBeCloseTo(3 - whole, 10);
  expect(samplerOf({ logprobs: 0 }).choose(row)).toMatchObject({ id: 1, top: [] });
  expect(samplerOf({ logprobs: 20 }).choose(row).top).toHaveLength(4);
});

test('the same seed draws the same tokens, another seed others, and both halves of it count', () => {
  const tokens = (seed: [number, number]): string => {
    const sampler = samplerOf({ temperature: 1, seed });
    return Array.from({ length: 30 }, (_, i) => sampler.choose(randomRow(500, i)).id).join(' ');
  };
  expect(tokens([1, 2])).toBe(tokens([1, 2]));
  const seeds: [number, number][] = [
    [0, 0],
    [0, 1],
    [1, 0],
    [-1, -1],
    [5, 5],
    [0x7fffffff, 3],
  ];
  expect(new Set(seeds.map(tokens)).size).toBe(seeds.length);
});

test('random numbers are evenly spread in [0, 1)', () => {
  const random = new Random([0, 0]);
  const buckets = new Array<number>(100).fill(0);
  for (let i = 0; i < 100_000; i++) buckets[Math.floor(random.next() * 100)]!++;
  const chiSquare = buckets.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  // 99 degrees of freedom: 1 in 10,000 is outside.
  expect(chiSquare).toBeGreaterThan(50);
  expect(chiSquare).toBeLessThan(160);
});

test('the quick exponential is the exponential', () => {
  for (let x = 0; x > -699; x -= 0.0371) expect(Math.abs(exponential(x) / Math.exp(x) - 1)).toBeLessThan(1e-12);
  expect(exponential(0)).toBe(1);
  expect(exponential(-1e300)).toBe(0);
  expect(exponential(Number.NEGATIVE_INFINITY)).toBe(0);
});

test('the sum of exponentials is exact to the last digits, and nothing is lost with what is far away', () => {
  for (let x = 0; x < REACH; x += 0.00317) expect(Math.abs(falling(x) / Math.exp(-x) - 1)).toBeLessThan(2e-15);
  const row = randomRow(150_000, 3).map((value, index) => (index % 3 === 0 ? value - 60 - (index % 50) : value));
  row[7] = Number.NaN;
  row[8] = Number.NEGATIVE_INFINITY;
  const max = row.reduce((most, value) => (value > most ? value : most), Number.NEGATIVE_INFINITY);
  const sum = row.reduce((total, value) => total + (Number.isNaN(value) ? 0 : Math.exp(value - max)), 0);
  expect(Math.abs(logSumExponential(row, max) - max - Math.log(sum))).toBeLessThan(1e-11);
});

test('the largest of a row come in order, NaN never among them', () => {
  const largest = new LargestOfRow();
  for (const [length, wanted] of [
    [10, 3],
    [10, 10],
    [10, 20],
    [5000, 300],
    [1, 1],
  ] as const) {
    const row = randomRow(length, wanted).map((value) => Math.round(value * 4) / 4);
    if (length > 1) row[length - 1] = row[0] = Number.NaN;
    const order = [...row.keys()].filter((id) => !Number.isNaN(row[id]!)).sort((a, b) => row[b]! - row[a]! || a - b);
    largest.search(row, wanted);
    expect(Array.from({ length: largest.count }, (_, i) => largest.id(i))).toEqual(order.slice(0, wanted));
  }
  largest.search(new Float32Array(0), 5);
  expect(largest.count).toBe(0);
});
