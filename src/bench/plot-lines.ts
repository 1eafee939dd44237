/**
 * A panel of lines over the payload, both axes logarithmic: one line for each arm, its confidence band, and where lines cross.
 *
 * Called by `plots.ts`. Pure. Owns the axes; values of 0 and below have no place on them and are left out.
 */
import { scaleLog } from 'd3-scale';
import { area, line, symbol, symbolCircle, symbolDiamond, symbolSquare, symbolTriangle } from 'd3-shape';
import { byteSize, digits, interval } from './figures.js';
import type { LegendItem, Panel } from './plot-figure.js';
import { armColour, armShape, FAINT_INK, GRID, INK, PAPER } from './plot-style.js';
import { type ArmSpec, armName, type Interval } from './results.js';
import { element, groupAt, textAt, textWidth, titled } from './svg.js';

export interface LinePoint {
  readonly bytes: number;
  readonly value: Interval;
}

export interface LineSeries {
  readonly arm: ArmSpec;
  /** By size. */
  readonly points: readonly LinePoint[];
}

/** Where two lines cross. */
export interface LineCrossing {
  readonly bytes: number;
  readonly value: number;
  readonly arms: readonly [ArmSpec, ArmSpec];
}

export interface LinePanel {
  readonly title: string;
  readonly yTitle: string;
  readonly unit: string;
  readonly series: readonly LineSeries[];
  /** Left out where no panel of the figure has any: their labels take room. */
  readonly crossings?: readonly LineCrossing[];
}

const WIDTH = 430;
const HEIGHT = 300;
const INNER = { left: 58, right: 14, bottom: 42 };
const LABELS = 46;
const NO_LABELS = 10;
/** Labels of crossings stand above the lines in so many rows; what finds no place there stands in the report alone. */
const LABEL_ROWS = 3;

const SHAPES = { circle: symbolCircle, square: symbolSquare, triangle: symbolTriangle, diamond: symbolDiamond };

export function linePanel({ title, yTitle, unit, series, crossings }: LinePanel): Panel {
  const top = crossings ? LABELS : NO_LABELS;
  const points = series.flatMap((one) => one.points);
  const xs = points.map(({ bytes }) => bytes / 1024);
  const ys = points.flatMap(({ value }) => [value.low, value.high, value.value]).filter((y) => y > 0);
  const x = scaleLog([INNER.left, WIDTH - INNER.right]).domain(domainOf(xs, 1.15));
  const y = scaleLog([HEIGHT - INNER.bottom, top]).domain(domainOf(ys, 1.25));
  return {
    title,
    width: WIDTH,
    height: HEIGHT,
    body: [
      ...xAxis(x, xs, top),
      ...yAxis(y, yTitle, top),
      ...series.map((one) => band(one, x, y)),
      ...series.map((one) => stroke(one, x, y, unit)),
      ...crossingMarks(crossings ?? [], x, y),
    ].join('\n'),
  };
}

/** As it is drawn in the panels. */
export function armLegend(arm: ArmSpec): LegendItem {
  return {
    label: armName(arm),
    symbol: [
      element('line', { x1: 0, x2: 24, stroke: armColour(arm), 'stroke-width': 2, ...dashes(arm) }),
      groupAt(12, 0, marker(arm)),
    ].join(''),
  };
}

type Scale = ReturnType<typeof scaleLog<number, number>>;

function domainOf(values: readonly number[], room: number): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return low < high ? [low / room, high * room] : [low / 2, high * 2];
}

function xAxis(x: Scale, measured: readonly number[], top: number): string[] {
  const bottom = HEIGHT - INNER.bottom;
  // The payloads themselves, as far as their labels have room.
  let lastEnd = 0;
  const ticks = [...new Set(measured)]
    .sort((a, b) => a - b)
    .map((kb) => {
      const label = Number.isInteger(kb) ? `${kb}` : digits(kb);
      const half = textWidth(label) / 2;
      const fits = x(kb) - half > lastEnd + 4;
      if (fits) lastEnd = x(kb) + half;
      const grid = element('line', { x1: x(kb), x2: x(kb), y1: top, y2: bottom, stroke: GRID });
      return fits ? grid + textAt(x(kb), bottom + 16, label, { anchor: 'middle', fill: FAINT_INK }) : grid;
    });
  const middle = (INNER.left + WIDTH - INNER.right) / 2;
  return [
    ...ticks,
    element('line', { x1: INNER.left, x2: WIDTH - INNER.right, y1: bottom, y2: bottom, stroke: INK }),
    textAt(middle, HEIGHT - 8, 'payload (KB of tensors, logarithmic)', { anchor: 'middle' }),
  ];
}

function yAxis(y: Scale, title: string, top: number): string[] {
  const ticks = logTicks(y.domain() as [number, number]).map((value) => {
    const grid = element('line', { x1: INNER.left, x2: WIDTH - INNER.right, y1: y(value), y2: y(value), stroke: GRID });
    return grid + textAt(INNER.left - 6, y(value) + 4, plain(value), { anchor: 'end', fill: FAINT_INK });
  });
  const middle = (top + HEIGHT - INNER.bottom) / 2;
  return [...ticks, textAt(0, 0, title, { anchor: 'middle', transform: `translate(12,${middle}) rotate(-90)` })];
}

/** 1, 2 and 5 of each power of ten; 1 alone where that would be too many, all nine where it would be too few. */
export function logTicks([low, high]: readonly [number, number]): number[] {
  const powers: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) powers.push(power);
  const ticks = (steps: readonly number[]) =>
    powers
      .flatMap((power) => steps.map((step) => Number(`${step}e${power}`)))
      .filter((value) => value >= low && value <= high);
  const usual = ticks([1, 2, 5]);
  if (usual.length > 9) return ticks([1]);
  return usual.length < 3 ? ticks([1, 2, 3, 4, 5, 6, 7, 8, 9]) : usual;
}

function plain(value: number): string {
  return value >= 1e6 ? `${value / 1e6}M` : value >= 1e4 ? `${value / 1e3}k` : `${value}`;
}

function band({ arm, points }: LineSeries, x: Scale, y: Scale): string {
  const shape = area<LinePoint>()
    .x(({ bytes }) => x(bytes / 1024))
    .y0(({ value }) => y(value.low))
    .y1(({ value }) => y(value.high));
  const drawn = points.filter(({ value }) => value.low > 0);
  const path = drawn.length > 1 ? shape(drawn) : null;
  return path === null ? '' : element('path', { d: path, fill: armColour(arm), 'fill-opacity': 0.18 });
}

function stroke(one: LineSeries, x: Scale, y: Scale, unit: string): string {
  const { arm } = one;
  const points = one.points.filter(({ value }) => value.value > 0);
  const path = line<LinePoint>(
    ({ bytes }) => x(bytes / 1024),
    ({ value }) => y(value.value),
  )(points);
  const markers = points.map(({ bytes, value }) =>
    titled(
      `${armName(arm)}, ${byteSize(bytes)}: ${interval(value)} ${unit}`,
      groupAt(x(bytes / 1024), y(value.value), marker(arm)),
    ),
  );
  const drawn =
    path === null
      ? ''
      : element('path', { d: path, fill: 'none', stroke: armColour(arm), 'stroke-width': 2, ...dashes(arm) });
  return element('g', { 'data-arm': armName(arm) }, drawn, ...markers);
}

/** The symbol of an arm around the origin: hollow where it is compressed. */
export function marker(arm: ArmSpec): string {
  const d = symbol(SHAPES[armShape(arm)], 40)();
  const colour = armColour(arm);
  return d === null ? '' : element('path', { d, fill: arm.gzip ? PAPER : colour, stroke: colour, 'stroke-width': 1.5 });
}

function dashes({ gzip }: ArmSpec): { 'stroke-dasharray'?: string } {
  return gzip ? { 'stroke-dasharray': '5 4' } : {};
}

function crossingMarks(crossings: readonly LineCrossing[], x: Scale, y: Scale): string[] {
  const ends = Array.from({ length: LABEL_ROWS }, () => 0);
  const labels: string[] = [];
  const rings = [...crossings]
    .sort((a, b) => a.bytes - b.bytes)
    .flatMap(({ bytes, value, arms }) => {
      const at = x(bytes / 1024);
      const label = byteSize(bytes);
      const width = 24 + textWidth(label);
      const left = Math.min(Math.max(at - width / 2, INNER.left), WIDTH - width);
      const row = ends.findIndex((end) => left > end + 4);
      if (row < 0) return [];
      ends[row] = left + width;
      const top = LABELS - 6 - row * 14;
      labels.push(
        element('rect', { x: left - 1, y: top - 10, width, height: 13, fill: PAPER }),
        element('circle', { cx: left + 4, cy: top - 4, r: 4, fill: armColour(arms[0]) }),
        element('circle', { cx: left + 13, cy: top - 4, r: 4, fill: armColour(arms[1]) }),
        textAt(left + 21, top, label, { weight: 'bold' }),
      );
      return titled(
        `${arms.map(armName).join(' and ')} cross at ${label}`,
        element('line', {
          x1: at,
          x2: at,
          y1: top + 3,
          y2: y(value) - 6,
          stroke: FAINT_INK,
          'stroke-dasharray': '2 3',
        }),
        element('circle', { cx: at, cy: y(value), r: 6, fill: 'none', stroke: INK, 'stroke-width': 1.5 }),
      );
    });
  // Labels last, on paper: a line to a label above must not run through one below.
  return [...rings, ...labels];
}
