/**
 * The marks of a cell and the sentences that belong under its table: what makes its figures mean less than they seem to.
 *
 * Called by the table and the Markdown report. Pure. Owns the limits beyond which a cell is marked.
 */
import { loadLabel, payloadOf } from './cells.js';
import { count, isFigure, percent, plainName } from './figures.js';
import { armName, type BenchResults, type CellResult } from './results.js';

/** Of one core; beyond it the client may be what was measured. */
export const BUSY_CLIENT = 0.8;
/** How far the sum of the phases may be from the time around the call. */
export const UNEXPLAINED = 0.02;
/** Of the asked rate; below it an open loop did not keep up. */
const KEPT_UP = 0.98;

/** Below it, p99 is the slowest request or nearly so. */
const FEW_REQUESTS = 100;

interface Mark {
  readonly mark: string;
  readonly meaning: string;
  applies(cell: CellResult): boolean;
  detail(cell: CellResult): string;
}

const MARKS: readonly Mark[] = [
  {
    mark: '!',
    meaning: `a client process used more than ${percent(BUSY_CLIENT)} of a core, so the client may be the bottleneck`,
    applies: ({ clientCpuShare }) => clientCpuShare > BUSY_CLIENT,
    detail: ({ clientCpuShare }) => percent(clientCpuShare),
  },
  {
    mark: '≠',
    meaning: 'the answer was not bit for bit that of the first arm',
    applies: ({ answersEqual }) => !answersEqual,
    detail: () => '',
  },
  {
    mark: '~',
    meaning: `the phases add up to something else than the time around the call, by more than ${percent(UNEXPLAINED)}`,
    applies: ({ explainedShare }) => isFigure(explainedShare) && Math.abs(explainedShare - 1) > UNEXPLAINED,
    detail: ({ explainedShare }) => percent(explainedShare),
  },
  {
    mark: '×',
    meaning: 'requests failed',
    applies: ({ failures }) => failures > 0,
    detail: ({ failures, requests }) => `${count(failures)} of ${count(requests + failures)}`,
  },
  {
    mark: '<',
    meaning: 'fewer were answered each second than were asked for',
    applies: ({ load, perSecond }) =>
      load.kind === 'open' && Math.max(perSecond.value, perSecond.high) < load.ratePerSecond * KEPT_UP,
    detail: ({ perSecond, load }) => (load.kind === 'open' ? percent(perSecond.value / load.ratePerSecond) : ''),
  },
  {
    mark: '?',
    meaning: `fewer than ${FEW_REQUESTS} requests were answered, so p95 and p99 are those of a few`,
    applies: ({ requests }) => requests < FEW_REQUESTS,
    detail: ({ requests }) => count(requests),
  },
];

/** Cells named in one sentence; the rest is counted. */
const NAMED = 4;

/** The marks of a row, '' for a cell whose figures mean what they say. */
export function marksOf(cell: CellResult): string {
  return MARKS.filter((mark) => mark.applies(cell))
    .map(({ mark }) => mark)
    .join('');
}

/** One sentence for each mark that was set, then {@link runNotes}. */
export function notesOf(results: BenchResults): string[] {
  const { cells, streams } = results;
  const ofMarks = MARKS.flatMap((mark) => {
    const marked = cells.filter((cell) => mark.applies(cell));
    if (marked.length === 0) return [];
    const named = marked.slice(0, NAMED).map((cell) => `${cellName(cell)}${bracketed(mark.detail(cell))}`);
    const more = marked.length > NAMED ? ` and ${marked.length - NAMED} more` : '';
    return [`${mark.mark} ${mark.meaning}: ${named.join('; ')}${more}.`];
  });
  const texts = streams.filter(({ textEqual }) => !textEqual).map(({ way }) => way);
  if (texts.length > 0) ofMarks.push(`≠ the text was not that of the first way: ${texts.join(', ')}.`);
  return [...ofMarks, ...runNotes(results)];
}

/** That the run ended early, where it did, and what it says of itself. */
export function runNotes({ notes, cutShort }: BenchResults): string[] {
  const all = cutShort === undefined ? notes : [`The run ended early: ${cutShort}.`, ...notes];
  return all.map((note) => note.replaceAll(/\s+/g, ' '));
}

/** `text_embedding, 2 KB, rest_json, 8 at a time`. */
export function cellName(cell: CellResult): string {
  return [plainName(cell.model), payloadOf(cell).label, armName(cell.arm), loadLabel(cell.load)].join(', ');
}

function bracketed(text: string): string {
  return text === '' ? '' : ` (${text})`;
}
