/**
 * Figures that set the arms of one payload side by side: where the time goes, how far the slow requests are, what went over the wire.
 *
 * Called by `plots.ts`. Pure.
 */
import { loadGroups, payloadOf, payloadsOf, simplicity } from './cells.js';
import { byteSize, digits, factor, milliseconds } from './figures.js';
import type { Figure, Panel } from './plot-figure.js';
import { fillLegend, type Row, rowPanel, type Segment } from './plot-rows.js';
import { armColour, INK, PAPER, PHASE_KINDS, type PhaseKind, phaseKind } from './plot-style.js';
import { armName, type CellResult, type PhaseResult } from './results.js';
import { element } from './svg.js';

export interface LoadFigure {
  /** The key of its load. */
  readonly load: string;
  readonly figure: Figure;
}

/** One for each load: bars of mean times, as means add up. */
export function budgetFigures(model: string, cells: readonly CellResult[]): LoadFigure[] {
  return byLoad(cells, (own, load) => {
    const rows = own.flatMap(budgetSegments);
    const kinds = (Object.keys(PHASE_KINDS) as PhaseKind[]).filter((kind) =>
      rows.some((segment) => segment.kind === kind),
    );
    return {
      title: `${model}: latency budget, ${load}`,
      description:
        'Where the mean time of a request goes, in order of time. Phases are measured at the client and, as its server-timing tells them, at the server; the hatched part is the wait that neither side’s stamps saw: wire, kernels, queues of event loops, and the server itself where it tells nothing.',
      legend: kinds.map((kind) => fillLegend(PHASE_KINDS[kind].label, PHASE_KINDS[kind].fill)),
      columns: 2,
      panels: byPayload(own, 'mean time of a request (ms)', 'linear', (cell) => ({
        label: armName(cell.arm),
        segments: budgetSegments(cell),
        figure: milliseconds(cell.meanMs),
      })),
    };
  });
}

function budgetSegments(cell: CellResult): (Segment & { kind: PhaseKind })[] {
  let end = 0;
  const segment = (kind: PhaseKind, name: string, ms: number) => {
    const from = end;
    end += ms;
    return {
      kind,
      from,
      to: end,
      fill: PHASE_KINDS[kind].fill,
      title: `${armName(cell.arm)}, ${name}: ${milliseconds(ms)}`,
    };
  };
  const phases = cell.phases
    .filter(({ meanMs }) => meanMs > 0)
    .map((phase) =>
      segment(kindOf(phase, cell), `${phase.side === 'between' ? '' : `${phase.side} `}${phase.name}`, phase.meanMs),
    );
  const rest = cell.meanMs - end;
  // Less than this is rounding and the time between two stamps.
  return rest > cell.meanMs * 0.001 ? [...phases, segment('rest', 'not in any phase', rest)] : phases;
}

/** Where a server tells no phases, what was not seen is the server, too. */
function kindOf(phase: PhaseResult, { phases }: CellResult): PhaseKind {
  const kind = phaseKind(phase);
  return kind === 'transit' && !phases.some(({ side }) => side === 'server') ? 'unseen' : kind;
}

/** One for each load. */
export function percentileFigures(model: string, cells: readonly CellResult[]): LoadFigure[] {
  return byLoad(cells, (own, load) => ({
    title: `${model}: latency percentiles, ${load}`,
    description:
      'How far the slow requests of an arm are from its usual ones: p50, p95 and p99 on a logarithmic axis. A short line is a steady arm; behind it are its three figures.',
    legend: [
      { label: 'p50', symbol: percentileMark(INK, 'p50') },
      { label: 'p95', symbol: percentileMark(INK, 'p95') },
      { label: 'p99', symbol: percentileMark(INK, 'p99') },
    ].map(({ label, symbol }) => ({ label, symbol: element('g', { transform: 'translate(14,0)' }, symbol) })),
    columns: 2,
    panels: byPayload(own, 'latency (ms, logarithmic)', 'log', (cell) => {
      const colour = armColour(cell.arm);
      const { p50Ms, p95Ms, p99Ms } = cell;
      const name = armName(cell.arm);
      return {
        label: name,
        thin: true,
        segments: [{ from: p50Ms.value, to: p99Ms.value, fill: colour, title: `${name}: p50 to p99` }],
        marks: [
          {
            at: p50Ms.value,
            symbol: percentileMark(colour, 'p50'),
            title: `${name} p50: ${milliseconds(p50Ms.value)}`,
          },
          {
            at: p95Ms.value,
            symbol: percentileMark(colour, 'p95'),
            title: `${name} p95: ${milliseconds(p95Ms.value)}`,
          },
          {
            at: p99Ms.value,
            symbol: percentileMark(colour, 'p99'),
            title: `${name} p99: ${milliseconds(p99Ms.value)}`,
          },
        ],
        figure: `${digits(p50Ms.value)} / ${digits(p95Ms.value)} / ${digits(p99Ms.value)}`,
      };
    }),
  }));
}

function percentileMark(colour: string, percentile: 'p50' | 'p95' | 'p99'): string {
  if (percentile === 'p50') return element('circle', { r: 4.5, fill: colour });
  if (percentile === 'p95') return element('circle', { r: 3.5, fill: PAPER, stroke: colour, 'stroke-width': 1.5 });
  return element('line', { y1: -6, y2: 6, stroke: colour, 'stroke-width': 2.5 });
}

/** Bytes depend on no load, so those of the lightest one. */
export function bytesFigure(model: string, cells: readonly CellResult[]): Figure {
  const own = loadGroups(cells)[0]!.cells;
  return {
    title: `${model}: bytes on the wire`,
    description:
      'Of one request and its answer, everything counted: headers, framing, TLS where there is any. Behind the bars their sum, and how much that is of the tensors’ own bytes.',
    legend: [fillLegend('sent', INK), fillLegend('received', INK, 0.35)],
    columns: 2,
    panels: byPayload(own, 'bytes of a request (KB)', 'linear', (cell) => {
      const [sent, received] = [cell.sentBytes / 1024, cell.receivedBytes / 1024];
      const [fill, name] = [armColour(cell.arm), armName(cell.arm)];
      const tensors = cell.requestTensorBytes + cell.responseTensorBytes;
      return {
        label: name,
        segments: [
          { from: 0, to: sent, fill, title: `${name} sent: ${byteSize(cell.sentBytes)}` },
          {
            from: sent,
            to: sent + received,
            fill,
            opacity: 0.4,
            title: `${name} received: ${byteSize(cell.receivedBytes)}`,
          },
        ],
        figure: `${byteSize(cell.sentBytes + cell.receivedBytes)} (${factor(cell.sentBytes + cell.receivedBytes, tensors)})`,
      };
    }),
  };
}

function byLoad(
  cells: readonly CellResult[],
  make: (own: readonly CellResult[], load: string) => Figure,
): LoadFigure[] {
  return loadGroups(cells).map(({ key, label, cells: own }) => ({ load: key, figure: make(own, label) }));
}

function byPayload(
  cells: readonly CellResult[],
  xTitle: string,
  scale: 'linear' | 'log',
  rowOf: (cell: CellResult) => Row,
): Panel[] {
  return payloadsOf(cells).map((payload) =>
    rowPanel({
      title: payload.label,
      xTitle,
      scale,
      rows: cells
        .filter((cell) => payloadOf(cell).key === payload.key)
        .sort((a, b) => simplicity(a.arm) - simplicity(b.arm))
        .map(rowOf),
    }),
  );
}
