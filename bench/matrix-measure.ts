/**
 * Measures the cells of the matrix, closed loops before open ones, and ends in time: a quick run on a busy machine leaves cells out.
 *
 * Used by `matrix.ts`. Owns the order, in which what matters most comes first, and what is told meanwhile.
 */

import { BenchError } from '../src/bench/bench-error.js';
import { loadName, payloadName } from '../src/bench/cell-result.js';
import { startLoad } from '../src/bench/load.js';
import type { LoadTarget } from '../src/bench/load-types.js';
import type { ProgressLine } from '../src/bench/progress-line.js';
import type { CellResult } from '../src/bench/results.js';
import { type CellSpec, type CutShort, type Progress, runCells } from '../src/bench/run-cells.js';
import { leftOutNote } from './left-out.js';
import { closedCells, type MatrixPlan, openCells, openCount } from './matrix-cells.js';

/** The server is ours and its models are loaded: one that answers nothing for so long never will. */
const SILENCE_MS = 30_000;

export interface MatrixSurroundings {
  readonly target: LoadTarget;
  readonly serverCpuUs: () => number;
  /** For the client; left out = anywhere. */
  readonly cpus: readonly number[] | undefined;
  readonly onNote: (note: string) => void;
  /** When the run began, on `performance.now()`. */
  readonly runBegan: number;
  readonly progress: ProgressLine;
  /** Ends it with the cells so far. */
  readonly signal: AbortSignal;
}

export interface MeasuredCells {
  /** In the order of the cells that were asked for. */
  readonly cells: readonly CellResult[];
  /** How many were asked for. */
  readonly total: number;
  /** Why it ended before all were measured, with the cell: a server that has died or answers nothing. */
  readonly failure?: string;
}

export async function measureCells(plan: MatrixPlan, surroundings: MatrixSurroundings): Promise<MeasuredCells> {
  const { target, serverCpuUs, cpus, progress, runBegan, signal } = surroundings;
  const runner = await startLoad(target, { processes: 1, silenceMs: SILENCE_MS, ...(cpus && { cpus }) });
  // Whoever waits for a client process hears that it has ended.
  const end = (): void => void runner.close();
  signal.addEventListener('abort', end);
  const began = performance.now();
  const closed = closedCells(plan);
  const total = closed.length + openCount(plan);
  // Each part asks every arm once before it measures, and says each time what it can't ask.
  const told = new Set<string>();
  const tell = (note: string): void => {
    if (!told.has(note) && !signal.aborted) surroundings.onNote(note);
    told.add(note);
  };
  let done = 0;
  let failure: string | undefined;
  const leftOut: string[] = [];
  const show = ({ done: ofPart, what }: Progress): void => {
    const seconds = (performance.now() - began) / 1000;
    const all = done + ofPart;
    progress.show({ done: all, total, what, secondsLeft: all === 0 ? undefined : (seconds / all) * (total - all) });
  };
  const onCutShort = ({ reason }: CutShort): void => {
    failure = reason;
  };
  const measure = async (cells: readonly CellSpec[]): Promise<CellResult[]> => {
    const results: CellResult[] = [];
    for (const part of partsOf(cells)) {
      if (signal.aborted || failure !== undefined) break;
      if (performance.now() - runBegan > plan.beginWithinMs.cells) leftOut.push(partName(part));
      else {
        const { rounds, msPerRound } = plan;
        const options = {
          rounds,
          warmUpRounds: 1,
          msPerRound,
          serverCpuUs,
          onNote: tell,
          onProgress: show,
          onCutShort,
        };
        try {
          results.push(...(await runCells(runner, part, options)));
        } catch (error) {
          if (!signal.aborted && !(error instanceof BenchError)) throw error;
          failure = (error as Error).message;
        }
      }
      done += part.length;
    }
    return results;
  };
  try {
    const first = await measure(closed);
    if (failure !== undefined) return { cells: first, total, failure };
    const open = openCells(plan, first);
    const withRate = new Set(open.map(({ payload }) => payloadName(payload)));
    const without = new Set(closed.map(({ payload }) => payloadName(payload)).filter((name) => !withRate.has(name)));
    if (without.size > 0) {
      tell(`There is no open loop of ${[...without].join('; ')}: no closed one says which rate can be answered.`);
    }
    const results = [...first, ...(await measure(open))];
    if (leftOut.length > 0) tell(leftOutNote('cells', leftOut));
    return { cells: results, total, ...(failure !== undefined && { failure }) };
  } finally {
    signal.removeEventListener('abort', end);
    await runner.close();
  }
}

/** All arms of a payload and load. */
function partName([first]: readonly CellSpec[]): string {
  const { payload, load } = first!;
  return `${payloadName(payload)} ${load.kind === 'closed' ? `with ${loadName(load)}` : 'in an open loop'}`;
}

/** Cells in a row that have the model and payload in common, and are closed loops of so many callers or open ones. */
function partsOf(cells: readonly CellSpec[]): CellSpec[][] {
  const parts = new Map<string, CellSpec[]>();
  for (const cell of cells) {
    const { payload, load } = cell;
    const key = `${payload.model} ${payload.payloadKb} ${load.kind === 'closed' ? load.concurrency : 'open'}`;
    const part = parts.get(key);
    if (part) part.push(cell);
    else parts.set(key, [cell]);
  }
  return [...parts.values()];
}
