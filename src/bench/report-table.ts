/**
 * The article's table for the terminal, with the columns that explain it: one table for each load, models and payloads as its rows.
 *
 * Called by the harness and the command `tensorwire bench`. Pure. Owns which columns go first when the terminal is narrow, and what the
 * marks of a row mean.
 */
import { type CellGroup, cellGroups, loadGroups, loadTitle } from './cells.js';
import { count, digits, interval, isFigure, NO_FIGURE, shortName } from './figures.js';
import { plainHeading, plainTable, wrapText } from './plain-table.js';
import { marksOf, notesOf } from './report-notes.js';
import { armName, type BenchResults, type CellResult, type StreamResult } from './results.js';

export interface TableOptions {
  /** Columns of the terminal: what doesn't fit is left out from the least important on. Default 120. */
  readonly width?: number;
}

interface Column {
  readonly head: string;
  /** Columns of a higher number are left out first; 0 never. */
  readonly spare: number;
  readonly left?: boolean;
  text(cell: CellResult, group: CellGroup): string;
}

const COLUMNS: readonly Column[] = [
  { head: 'Payload\n(KB)', spare: 0, text: (_, { payload }) => kilobytes(payload.bytes) },
  { head: 'Model Type', spare: 0, left: true, text: ({ model }) => shortName(model) },
  { head: 'Protocol', spare: 0, left: true, text: ({ arm }) => armName(arm) },
  { head: 'P50\n(ms)', spare: 0, text: ({ p50Ms }) => digits(p50Ms.value) },
  { head: 'P95\n(ms)', spare: 3, text: ({ p95Ms }) => digits(p95Ms.value) },
  { head: 'P99\n(ms)', spare: 0, text: ({ p99Ms }) => digits(p99Ms.value) },
  { head: 'Throughput\n(/s)', spare: 0, text: throughput },
  {
    head: 'Ser. cl+srv\n(ms)',
    spare: 1,
    text: (cell) => `${sum(cell.clientEncodeMs, cell.clientDecodeMs)}+${sum(cell.serverDecodeMs, cell.serverEncodeMs)}`,
  },
  {
    head: 'Wire out/in\n(KB)',
    spare: 2,
    text: ({ sentBytes, receivedBytes }) => `${kilobytes(sentBytes)}/${kilobytes(receivedBytes)}`,
  },
  {
    head: 'CPU cl/srv\n(us)',
    spare: 4,
    text: ({ clientCpuUs, serverCpuUs }) => `${rounded(clientCpuUs)}/${rounded(serverCpuUs)}`,
  },
  { head: '', spare: 0, left: true, text: marksOf },
];

/** Lines of plain text: a table for each load, the streams, and what the marks mean; no line is longer than `width` from 72 on. */
export function resultsTable(results: BenchResults, { width = 120 }: TableOptions = {}): string {
  const groups = cellGroups(results.cells);
  const parts = loadGroups(results.cells).map((load) => {
    const own = groups.filter((group) => group.loadName.key === load.key);
    return `${plainHeading(loadTitle(load))}\n${cellTable(own, width)}`;
  });
  if (results.streams.length > 0)
    parts.push(`${plainHeading('Token streams')}\n${streamTable(results.streams, width)}`);
  parts.push(...notesOf(results).map((note) => wrapText(note, width, '  ')));
  return parts.join('\n\n');
}

function cellTable(groups: readonly CellGroup[], width: number): string {
  return fitted(COLUMNS, width, (columns) =>
    groups.map((group) => group.cells.map((cell) => columns.map((column) => column.text(cell, group)))),
  );
}

/** With all columns, or as many as fit. */
function fitted<C extends { head: string; left?: boolean; spare: number }>(
  all: readonly C[],
  width: number,
  rowsOf: (columns: readonly C[]) => string[][][],
): string {
  let columns = [...all];
  for (;;) {
    const text = plainTable(columns, rowsOf(columns));
    const last = columns.reduce((a, b) => (b.spare > a.spare ? b : a));
    if (last.spare === 0 || text.split('\n').every((line) => line.length <= width)) return text;
    columns = columns.filter((column) => column !== last);
  }
}

const STREAM_COLUMNS: readonly (Omit<Column, 'text'> & { text(stream: StreamResult): string })[] = [
  { head: 'Way', spare: 0, left: true, text: ({ way }) => way },
  { head: 'Tokens', spare: 0, text: ({ tokens }) => count(tokens) },
  { head: 'Total (ms)', spare: 0, text: ({ totalMs }) => interval(totalMs) },
  { head: 'First\n(ms)', spare: 0, text: ({ firstTokenMs }) => digits(firstTokenMs.value) },
  { head: 'Gap p50\n(ms)', spare: 0, text: ({ gapP50Ms }) => digits(gapP50Ms) },
  { head: 'Gap p99\n(ms)', spare: 3, text: ({ gapP99Ms }) => digits(gapP99Ms) },
  { head: 'Decode\n(ms)', spare: 2, text: ({ clientDecodeMs }) => digits(clientDecodeMs) },
  {
    head: 'Wire out/in\n(KB)',
    spare: 1,
    text: ({ sentBytes, receivedBytes }) => `${kilobytes(sentBytes)}/${kilobytes(receivedBytes)}`,
  },
  {
    head: 'CPU cl/srv\n(us)',
    spare: 4,
    text: ({ clientCpuUs, serverCpuUs }) => `${rounded(clientCpuUs)}/${rounded(serverCpuUs)}`,
  },
  { head: '', spare: 0, left: true, text: ({ textEqual }) => (textEqual ? '' : '≠') },
];

function streamTable(streams: readonly StreamResult[], width: number): string {
  return fitted(STREAM_COLUMNS, width, (columns) => [
    streams.map((stream) => columns.map((column) => column.text(stream))),
  ]);
}

/** `84.9 of 85` in an open loop. */
function throughput({ load, perSecond }: CellResult): string {
  const asked = load.kind === 'open' ? ` of ${digits(load.ratePerSecond)}` : '';
  return `${digits(perSecond.value)}${asked}`;
}

function sum(first: number | null, second: number | null): string {
  return isFigure(first) && isFigure(second) ? digits(first + second) : NO_FIGURE;
}

function kilobytes(bytes: number): string {
  return Number.isInteger(bytes / 1024) ? `${bytes / 1024}` : digits(bytes / 1024);
}

function rounded(us: number | null): string {
  return isFigure(us) ? us.toFixed(0) : NO_FIGURE;
}
