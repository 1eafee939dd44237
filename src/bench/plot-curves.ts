/**
 * The two figures over the payload, a panel for each load: median latency with the crossovers, and throughput.
 *
 * Called by `plots.ts`. Pure.
 */
import { armsOf, type LoadGroup, loadGroups, loadTitle, payloadOf } from './cells.js';
import { type Crossover, crossoversOf } from './crossover.js';
import type { Figure } from './plot-figure.js';
import { armLegend, type LineCrossing, type LineSeries, linePanel } from './plot-lines.js';
import { type ArmSpec, armName, type CellResult, type Interval } from './results.js';

/** `cells` are those of one model, at least one. */
export function latencyFigure(model: string, cells: readonly CellResult[], rounds: number): Figure {
  const crossovers = crossoversOf(cells, rounds);
  const loads = loadGroups(cells).map((load) => ({ load, crossings: clearCrossings(crossovers, load) }));
  const any = loads.some(({ crossings }) => crossings.length > 0);
  return {
    title: `${model}: latency over payload`,
    description:
      'Median time from asking to decoded tensors, by arm. Bands are 95 % confidence intervals. A ring marks a payload from which on the other of two arms is the faster one; its size stands above, behind the colours of the two.',
    legend: armsOf(cells).map(armLegend),
    columns: 2,
    panels: loads.map(({ load, crossings }) =>
      linePanel({
        title: loadTitle(load),
        yTitle: 'p50 latency (ms)',
        unit: 'ms',
        series: seriesOf(load.cells, ({ p50Ms }) => p50Ms),
        ...(any && { crossings }),
      }),
    ),
    remarks: ['Only crossovers that noise can’t explain are marked; arms with gzip are compared in the report alone.'],
  };
}

/** `cells` are those of one model, at least one. */
export function throughputFigure(model: string, cells: readonly CellResult[]): Figure {
  return {
    title: `${model}: throughput over payload`,
    description:
      'Answers each second, by arm. Bands are 95 % confidence intervals. In an open loop the rate is given, so arms differ only where one could not keep up.',
    legend: armsOf(cells).map(armLegend),
    columns: 2,
    panels: loadGroups(cells).map((load) =>
      linePanel({
        title: loadTitle(load),
        yTitle: 'throughput (requests/s)',
        unit: '/s',
        series: seriesOf(load.cells, ({ perSecond }) => perSecond),
      }),
    ),
  };
}

function seriesOf(cells: readonly CellResult[], figure: (cell: CellResult) => Interval): LineSeries[] {
  return armsOf(cells).map((arm) => ({
    arm,
    points: cells
      .filter((cell) => armName(cell.arm) === armName(arm))
      .map((cell) => ({ bytes: payloadOf(cell).bytes, value: figure(cell) }))
      .sort((a, b) => a.bytes - b.bytes),
  }));
}

function clearCrossings(crossovers: readonly Crossover[], { key, cells }: LoadGroup): LineCrossing[] {
  const armOf = (name: string): ArmSpec => cells.find(({ arm }) => armName(arm) === name)!.arm;
  return crossovers
    .filter((crossover) => crossover.loadName.key === key && !crossover.arms.some((name) => name.includes('gzip')))
    .flatMap(({ crossings, arms: [first, second] }) =>
      crossings
        .filter(({ clear }) => clear)
        .map(({ bytes, ms }) => ({ bytes, value: ms, arms: [armOf(first), armOf(second)] as const })),
    );
}
