/**
 * The tables of cells in the Markdown report: what each arm took, with confidence intervals, and where its time went.
 *
 * Called by `report-markdown.ts`. Pure.
 */
import type { CellGroup } from './cells.js';
import { byteSize, count, digits, interval, isFigure, NO_FIGURE, percent } from './figures.js';
import { markdownTable } from './markdown.js';
import { marksOf } from './report-notes.js';
import { armName, type CellResult, type PhaseResult } from './results.js';

const COLUMNS: readonly { head: string; left?: boolean; text(cell: CellResult, group: CellGroup): string }[] = [
  { head: 'Payload', text: (_, { payload }) => payload.label },
  { head: 'Arm', left: true, text: ({ arm }) => armName(arm) },
  { head: 'p50 (ms)', text: ({ p50Ms }) => interval(p50Ms) },
  { head: 'p95 (ms)', text: ({ p95Ms }) => interval(p95Ms) },
  { head: 'p99 (ms)', text: ({ p99Ms }) => interval(p99Ms) },
  { head: 'max (ms)', text: ({ maxMs }) => digits(maxMs) },
  { head: 'Throughput (/s)', text: throughput },
  {
    head: 'Client encode / decode (ms)',
    text: (cell) => `${digits(cell.clientEncodeMs)} / ${digits(cell.clientDecodeMs)}`,
  },
  {
    head: 'Server decode / encode (ms)',
    text: (cell) => `${digits(cell.serverDecodeMs)} / ${digits(cell.serverEncodeMs)}`,
  },
  { head: 'Sent', text: ({ sentBytes }) => byteSize(sentBytes) },
  { head: 'Received', text: ({ receivedBytes }) => byteSize(receivedBytes) },
  { head: 'Client CPU (us)', text: ({ clientCpuUs }) => count(clientCpuUs) },
  { head: 'Server CPU (us)', text: ({ serverCpuUs }) => count(serverCpuUs) },
  { head: 'Busy client / server', text: (cell) => `${percent(cell.clientCpuShare)} / ${percent(cell.serverCpuShare)}` },
  { head: 'Requests', text: ({ requests }) => count(requests) },
  { head: '', left: true, text: marksOf },
];

/** All payloads and arms of one model under one load. */
export function cellsTable(groups: readonly CellGroup[]): string {
  return markdownTable(
    COLUMNS,
    groups.flatMap((group) => group.cells.map((cell) => COLUMNS.map((column) => column.text(cell, group)))),
  );
}

function throughput({ load, perSecond }: CellResult): string {
  return `${interval(perSecond)}${load.kind === 'open' ? ` of ${digits(load.ratePerSecond)}` : ''}`;
}

/** One payload: a row for each phase in order of time, a column for each arm, what nobody saw in rows of its own. */
export function budgetTable({ cells }: CellGroup): string {
  const told = cells.some(({ phases }) => phases.some(({ side }) => side === 'server'));
  const rows = phaseOrder(cells).map((key) => [
    phaseLabel(key, told),
    ...cells.map((cell) => digits(cell.phases.find((phase) => keyOf(phase) === key)?.meanMs)),
  ]);
  const sums = cells.map(({ phases }) => phases.reduce((sum, { meanMs }) => sum + (isFigure(meanMs) ? meanMs : 0), 0));
  const figureOf = (text: (cell: CellResult, index: number) => string) =>
    cells.map((cell, index) => (cell.phases.length > 0 ? text(cell, index) : NO_FIGURE));
  return markdownTable(
    [{ head: 'Phase (mean, ms)', left: true }, ...cells.map(({ arm }) => ({ head: armName(arm) }))],
    [
      ...rows,
      ['not in any phase', ...figureOf(({ meanMs }, index) => digits(meanMs - sums[index]!))],
      ['**mean of the whole call**', ...cells.map(({ meanMs }) => `**${digits(meanMs)}**`)],
      ['explained, median', ...figureOf(({ explainedShare }) => percent(explainedShare))],
      ['transit, median share', ...figureOf(({ transitShare }) => percent(transitShare))],
    ],
  );
}

/** Phases of all arms in order of time: those that one arm alone has stand where it has them. */
function phaseOrder(cells: readonly CellResult[]): string[] {
  const order: string[] = [];
  for (const { phases } of cells) {
    let at = 0;
    for (const phase of phases) {
      const key = keyOf(phase);
      const known = order.indexOf(key);
      if (known < 0) order.splice(at, 0, key);
      at = (known < 0 ? at : known) + 1;
    }
  }
  const happened = (key: string) =>
    cells.some(({ phases }) => phases.some((phase) => keyOf(phase) === key && phase.meanMs > 0));
  return order.filter(happened);
}

function keyOf({ side, name }: PhaseResult): string {
  return `${side} ${name}`;
}

function phaseLabel(key: string, told: boolean): string {
  if (!key.startsWith('between ')) return key;
  return told
    ? `*${key.slice('between '.length)}: seen by neither side*`
    : '*server and transit: the server tells no phases*';
}
