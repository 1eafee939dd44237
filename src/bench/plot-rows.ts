/**
 * A panel of horizontal rows, one for each arm or way: bars put together of segments, or marks along a line.
 *
 * Called by `plots.ts`. Pure. Owns the axis below the rows and the room for their labels.
 */
import { scaleLinear, scaleLog } from 'd3-scale';
import { isFigure } from './figures.js';
import type { LegendItem, Panel } from './plot-figure.js';
import { logTicks } from './plot-lines.js';
import { FAINT_INK, GRID, INK, PAPER } from './plot-style.js';
import { element, textAt, textWidth, titled } from './svg.js';

export interface Segment {
  readonly from: number;
  readonly to: number;
  readonly fill: string;
  readonly opacity?: number;
  /** For a pointer resting on it. */
  readonly title: string;
}

export interface Mark {
  readonly at: number;
  /** Markup around the origin. */
  readonly symbol: string;
  readonly title: string;
}

export interface Row {
  readonly label: string;
  readonly segments: readonly Segment[];
  /** Thin segments are lines between marks. */
  readonly thin?: boolean;
  readonly marks?: readonly Mark[];
  /** Behind the end of the row. */
  readonly figure: string;
}

export interface RowPanel {
  readonly title: string;
  readonly xTitle: string;
  readonly scale: 'linear' | 'log';
  readonly rows: readonly Row[];
  readonly width?: number;
}

const ROW = 22;
const BAR = 14;
const TOP = 4;
const AXIS = 40;

export function rowPanel({ title, xTitle, scale, rows, width = 520 }: RowPanel): Panel {
  const left = Math.max(...rows.map(({ label }) => textWidth(label))) + 8;
  const right = width - Math.max(...rows.map(({ figure }) => textWidth(figure))) - 10;
  const values = rows
    .flatMap(({ segments, marks = [] }) => [
      ...segments.flatMap(({ from, to }) => [from, to]),
      ...marks.map(({ at }) => at),
    ])
    .filter(isFigure);
  const high = Math.max(...values, 0) || 1;
  const low = Math.min(...values.filter((value) => value > 0), high);
  const x =
    scale === 'log'
      ? scaleLog([left, right]).domain(low < high ? [low / 1.1, high * 1.02] : [low / 2, high * 2])
      : scaleLinear([left, right]).domain([0, high]);
  const bottom = TOP + rows.length * ROW;
  const ticks =
    scale === 'log' ? logTicks(x.domain() as [number, number]) : x.ticks(Math.max(2, Math.floor((right - left) / 70)));
  return {
    title,
    width,
    height: bottom + AXIS,
    body: [
      ...axis(ticks, x, bottom),
      textAt((left + right) / 2, bottom + 34, xTitle, { anchor: 'middle' }),
      ...rows.map((row, index) => drawRow(row, x, TOP + index * ROW, left)),
    ].join('\n'),
  };
}

/** A filled rectangle as a legend's symbol. */
export function fillLegend(label: string, fill: string, opacity?: number): LegendItem {
  return {
    label,
    symbol: element('rect', {
      x: 2,
      y: -7,
      width: 22,
      height: 13,
      fill,
      'fill-opacity': opacity,
      stroke: '#666666',
      'stroke-width': 0.5,
    }),
  };
}

function axis(ticks: readonly number[], x: (value: number) => number, bottom: number): string[] {
  let lastEnd = Number.NEGATIVE_INFINITY;
  return ticks.map((value) => {
    const label = `${Number(value.toPrecision(6))}`;
    const half = textWidth(label) / 2;
    const fits = x(value) - half > lastEnd + 6;
    if (fits) lastEnd = x(value) + half;
    const grid = element('line', { x1: x(value), x2: x(value), y1: TOP, y2: bottom, stroke: GRID });
    return fits ? grid + textAt(x(value), bottom + 16, label, { anchor: 'middle', fill: FAINT_INK }) : grid;
  });
}

function drawRow(
  { label, segments, thin, marks = [], figure }: Row,
  x: (value: number) => number,
  top: number,
  left: number,
): string {
  const middle = top + ROW / 2;
  const bars = segments
    .filter(({ from, to }) => isFigure(from) && isFigure(to) && to > from)
    .map(({ from, to, fill, opacity, title }) => {
      const at = { x: x(from), width: Math.max(0, x(to) - x(from)), fill, 'fill-opacity': opacity };
      const size = thin ? { y: middle - 1, height: 2 } : { y: middle - BAR / 2, height: BAR };
      // On paper, as light bars would let the grid through.
      const below = opacity === undefined ? '' : element('rect', { ...at, ...size, fill: PAPER, 'fill-opacity': 1 });
      return titled(title, below, element('rect', { ...at, ...size }));
    });
  const symbols = marks
    .filter(({ at }) => isFigure(at))
    .map(({ at, symbol, title }) =>
      titled(title, element('g', { transform: `translate(${x(at).toFixed(2)},${middle})` }, symbol)),
    );
  const ends = [...segments.map(({ to }) => to), ...marks.map(({ at }) => at)].filter(isFigure);
  const end = ends.length > 0 ? x(Math.max(...ends)) : left;
  return element(
    'g',
    { 'data-row': label },
    textAt(left - 6, middle + 4, label, { anchor: 'end' }),
    ...bars,
    ...symbols,
    textAt(end + 8, middle + 4, figure, { fill: INK }),
  );
}
