import sharp from 'sharp';
import { expect, test } from 'vitest';
import { type Plot, plots } from '../../src/bench/plots.js';
import { armName } from '../../src/bench/results.js';
import { ARMS, around, benchResults, LOADS, WAYS } from '../support/bench-results.js';

const all = plots(benchResults());
const plotOf = (file: string, drawn: readonly Plot[] = all) => drawn.find((plot) => plot.file === file)!.svg;
const texts = (svg: string) => [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text]) => text!);
const attributes = (svg: string, name: string) =>
  [...svg.matchAll(new RegExp(` ${name}="([^"]*)"`, 'g'))].map(([, value]) => value!);

test('a model has its curves, its bytes, and for each load its budget and percentiles; tokens have one plot', () => {
  const own = all.filter(({ file }) => file.includes('text_embedding')).map(({ file }) => file);
  expect(own).toEqual([
    'latency-text_embedding.svg',
    'throughput-text_embedding.svg',
    ...['c1', 'c8', 'c64', 'open'].map((load) => `budget-text_embedding-${load}.svg`),
    ...['c1', 'c8', 'c64', 'open'].map((load) => `percentiles-text_embedding-${load}.svg`),
    'bytes-text_embedding.svg',
  ]);
  expect(all.at(-1)!.file).toBe('streams.svg');
});

test.each(all.filter(({ file }) => /text_embedding|streams/.test(file)))(
  '$file is SVG that can be read and seen',
  async ({ svg, title }) => {
    const { format, width, height } = await sharp(Buffer.from(svg)).metadata();
    expect(format).toBe('svg');
    expect(width).toBeGreaterThan(500);
    expect(height).toBeGreaterThan(200);
    expect(svg).toContain('xmlns="http://www.w3.org/2000/svg" version="1.1"');
    expect(svg).toContain(`<title id="title">${title}</title>`);
    expect(svg).toMatch(/<desc id="description">[^<]{40,}<\/desc>/);
    // A background of its own, so that it can be read on a dark page.
    const { data } = await sharp(Buffer.from(svg))
      .extract({ left: 0, top: 0, width: 1, height: 1 })
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect([...data.subarray(0, 3)]).toEqual([255, 255, 255]);
  },
);

test('what the parser refuses is refused here, too', async () => {
  await expect(sharp(Buffer.from(all[0]!.svg.replace('</desc>', ''))).metadata()).rejects.toThrow();
});

test.each([
  'latency-text_embedding.svg',
  'budget-text_embedding-c8.svg',
  'percentiles-text_embedding-c8.svg',
  'bytes-text_embedding.svg',
])('%s shows all arms', (file) => {
  for (const arm of ARMS) expect(texts(plotOf(file))).toContain(armName(arm));
});

test('all texts lie inside the paper', () => {
  for (const { svg } of all) {
    const [width] = attributes(svg, 'width').map(Number);
    const lines = [...svg.matchAll(/<text x="([\d.]+)" y="[\d.]+" font-size="([\d.]+)"(?: text-anchor="(\w+)")?/g)];
    expect(lines.length).toBeGreaterThan(5);
    for (const [, x] of lines) expect(Number(x)).toBeLessThan(width!);
  }
});

test('a crossover is marked with the interpolated size, on both lines', () => {
  const arms = ARMS.filter((arm) => ['rest_json', 'grpc_raw'].includes(armName(arm)));
  const results = benchResults({ models: ['m'], sizesKb: [10, 1000], arms, loads: LOADS.slice(0, 1), ways: [] });
  const cells = results.cells.map((cell) => ({
    ...cell,
    p50Ms: around(cell.arm.encoding === 'grpc_raw' ? 10 : cell.payloadKb === 10 ? 1 : 100, 0.01),
  }));
  const svg = plotOf('latency-m.svg', plots({ ...results, cells }));
  expect(texts(svg)).toContain('100 KB');
  expect(svg).toContain('rest_json and grpc_raw cross at 100 KB');
  const apart = cells.map((cell) => ({ ...cell, p50Ms: around(cell.arm.encoding === 'grpc_raw' ? 1 : 5, 0.01) }));
  expect(plotOf('latency-m.svg', plots({ ...results, cells: apart }))).not.toContain('cross at');
});

test('bars of the budget are as long as their phases, the part outside of all phases included', () => {
  const results = benchResults({
    models: ['m'],
    sizesKb: [100],
    arms: ARMS.slice(0, 1),
    loads: LOADS.slice(0, 1),
    ways: [],
  });
  const cell = { ...results.cells[0]!, meanMs: 10 };
  const phases = [
    { side: 'client', name: 'encode', medianMs: 1, meanMs: 1 },
    { side: 'server', name: 'compute', medianMs: 4, meanMs: 4 },
    { side: 'between', name: 'transit', medianMs: 3, meanMs: 3 },
  ] as const;
  const svg = plotOf('budget-m-c1.svg', plots({ ...results, cells: [{ ...cell, phases }] }));
  const bars = [...svg.matchAll(/<title>rest_json, ([^<]*)<\/title><rect x="([\d.]+)" width="([\d.]+)"/g)];
  expect(bars.map(([, title]) => title)).toEqual([
    'client encode: 1.00 ms',
    'server compute: 4.00 ms',
    'transit: 3.00 ms',
    'not in any phase: 2.00 ms',
  ]);
  const unit = Number(bars[0]![3]);
  expect(bars.map(([, , , width]) => Number(width) / unit)).toEqual([1, 4, 3, 2].map((ms) => expect.closeTo(ms, 1)));
  for (const [index, [, , x, width]] of bars.slice(0, -1).entries()) {
    expect(Number(x) + Number(width)).toBeCloseTo(Number(bars[index + 1]![2]), 1);
  }
  expect(texts(svg)).toContain('not in any phase');
});

test('what a server does that tells no phases is not called transit alone', () => {
  const svg = plotOf('budget-m-c1.svg', plots(benchResults({ models: ['m'], sizesKb: [2], serverTells: false })));
  expect(texts(svg)).toContain('server and transit: the server tells no phases');
  expect(texts(svg)).not.toContain('transit: seen by neither side');
});

test('an arm has one colour wherever it is drawn', () => {
  const colours = (file: string) => new Set(attributes(plotOf(file), 'fill'));
  for (const file of ['latency-llm_token.svg', 'bytes-llm_token.svg', 'percentiles-llm_token-c1.svg']) {
    for (const colour of ['#d55e00', '#e69f00', '#0072b2', '#56b4e9']) expect(colours(file)).toContain(colour);
  }
});

test('streams show every way with its times', () => {
  const svg = plotOf('streams.svg');
  for (const way of WAYS) expect(texts(svg)).toContain(way);
  expect(texts(svg)).toContain('190 ms, first 6.00, gaps 1.90 / 4.00');
});

test('files of models with hostile or like names are distinct and plain', async () => {
  const drawn = plots(
    benchResults({ models: ['../a b', '..-a-b', '<x & "y">\u0000\ud800'], sizesKb: [2, 10], loads: LOADS.slice(0, 1) }),
  );
  const files = drawn.map(({ file }) => file);
  expect(new Set(files).size).toBe(files.length);
  for (const file of files) expect(file).toMatch(/^[a-z0-9_.-]+\.svg$/);
  for (const { svg } of drawn) expect((await sharp(Buffer.from(svg)).metadata()).format).toBe('svg');
});

test('a run without answers has no plots', () => {
  expect(plots({ ...benchResults(), cells: [], streams: [] })).toEqual([]);
});
