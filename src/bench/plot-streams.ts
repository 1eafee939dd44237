/**
 * The figure of token streams: from the request to its first token, and from there to the last one.
 *
 * Called by `plots.ts`. Pure.
 */
import { count, digits, isFigure, milliseconds } from './figures.js';
import type { Figure } from './plot-figure.js';
import { fillLegend, rowPanel } from './plot-rows.js';
import { INK, WAY_COLOURS } from './plot-style.js';
import type { StreamResult } from './results.js';
import { element } from './svg.js';

/** Undefined where a run has no streams. */
export function streamsFigure(streams: readonly StreamResult[]): Figure | undefined {
  const measured = streams.filter(({ totalMs }) => isFigure(totalMs.value));
  if (measured.length === 0) return undefined;
  const tokens = [...new Set(measured.map((stream) => count(stream.tokens)))].join(' or ');
  const whisker = element('path', { d: 'M0,-5 L0,5', stroke: INK, 'stroke-width': 1.5 });
  return {
    title: `Token streams: ${tokens} tokens`,
    description:
      'From asking to the first token (light) and to the last one (full). Lines at the end of a bar are the 95 % confidence interval of the total. Gaps are those between two tokens at the client, half and 99 % of them below.',
    legend: [fillLegend('until the first token', INK, 0.35), fillLegend('until the last token', INK)],
    columns: 1,
    panels: [
      rowPanel({
        title: 'timeline',
        xTitle: 'time since the request (ms)',
        scale: 'linear',
        width: 880,
        rows: measured.map(({ way, totalMs, firstTokenMs, gapP50Ms, gapP99Ms }) => {
          const first = isFigure(firstTokenMs.value) ? firstTokenMs.value : 0;
          const fill = WAY_COLOURS[way];
          return {
            label: way,
            segments: [
              { from: 0, to: first, fill, opacity: 0.4, title: `${way}, first token: ${milliseconds(first)}` },
              {
                from: first,
                to: totalMs.value,
                fill,
                title: `${way}, last token: ${milliseconds(totalMs.value)}`,
              },
            ],
            marks: [totalMs.low, totalMs.high].map((at) => ({
              at,
              symbol: whisker,
              title: `${way}: ${milliseconds(at)}`,
            })),
            figure: `${milliseconds(totalMs.value)}, first ${digits(first)}, gaps ${digits(gapP50Ms)} / ${digits(gapP99Ms)}`,
          };
        }),
      }),
    ],
  };
}
