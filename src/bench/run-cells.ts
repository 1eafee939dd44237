/**
 * Fills cells: every arm of a payload and load by turns over several rounds, A B C, C B A, ..., so that a machine that gets slower
 * does so for all of them; answers of all arms compared bit for bit first.
 *
 * Called by `npm run bench` and `tensorwire bench`. Owns the order of things and the figures of a cell; must not know a transport.
 */
import { BenchError } from './bench-error.js';
import { cellResult, loadName, payloadName } from './cell-result.js';
import type { LoadRunner, Payload, Probe, RoundMeasurement } from './load-types.js';
import { type ArmSpec, armName, type CellResult, type Load } from './results.js';
import { tensorsDifference } from './tensor-bytes.js';

export interface CellSpec {
  readonly payload: Payload;
  readonly arm: ArmSpec;
  readonly load: Load;
}

export interface Progress {
  /** Cells finished, and how many there are (those that turned out impossible are not counted any more). */
  readonly done: number;
  readonly total: number;
  /** What is counted; cells where it is left out. */
  readonly unit?: string;
  /** What is measured now: `text_embedding 2 KB, 8 at a time, round 2 of 5, grpc_raw`. */
  readonly what: string;
  /** Seconds to go at the pace so far; undefined at first. */
  readonly secondsLeft: number | undefined;
}

export interface CutShort {
  readonly reason: string;
  /** Cells finished, and how many there would have been. */
  readonly done: number;
  readonly total: number;
}

export interface RunCellsOptions {
  readonly rounds: number;
  /** Rounds before those, whose figures are thrown away. */
  readonly warmUpRounds: number;
  readonly msPerRound: number;
  /** CPU time of the server so far in microseconds, where it is on this machine. */
  readonly serverCpuUs?: () => number;
  readonly onProgress?: (progress: Progress) => void;
  /**
   * Hears it where the run ends before all cells are measured: a server that is gone, processes that were closed. The cells that are
   * complete are the results then; without it that is an error.
   */
  readonly onCutShort?: (cut: CutShort) => void;
  /** A sentence for the report: an arm that the server doesn't have and why, a client that was busy, failures. */
  readonly onNote?: (note: string) => void;
}

/**
 * Measures all cells; results come in the order of `cells`, without those whose arm the server doesn't have
 * and those of which all requests failed (each told by `onNote`).
 * Throws BenchError when no arm of a payload can be asked.
 */
export async function runCells(
  runner: LoadRunner,
  cells: readonly CellSpec[],
  options: RunCellsOptions,
): Promise<CellResult[]> {
  const probes = await probeAll(runner, cells, options);
  const possible = cells.filter((cell) => probes.has(probeKey(cell)));
  const pace = new Pace(possible.length, options);
  const results = new Map<CellSpec, CellResult>();
  for (const group of groupsOf(possible)) {
    let measured: Awaited<ReturnType<typeof measureGroup>>;
    try {
      measured = await measureGroup(runner, group, options, pace);
    } catch (error) {
      if (!(error instanceof BenchError) || results.size === 0 || options.onCutShort === undefined) throw error;
      options.onCutShort({ reason: error.message, done: results.size, total: possible.length });
      break;
    }
    for (const [cell, rounds] of measured) {
      const { probe, answersEqual } = probes.get(probeKey(cell))!;
      const result = cellResult({ ...cell, probe, answersEqual, rounds }, options.onNote);
      if (result !== undefined) results.set(cell, result);
    }
  }
  return possible.flatMap((cell) => results.get(cell) ?? []);
}

interface ProbedArm {
  readonly probe: Probe;
  readonly answersEqual: boolean;
}

/** One call per payload and arm. */
async function probeAll(
  runner: LoadRunner,
  cells: readonly CellSpec[],
  { onNote }: RunCellsOptions,
): Promise<Map<string, ProbedArm>> {
  const probed = new Map<string, ProbedArm>();
  const asked = new Set<string>();
  const first = new Map<string, { readonly probe: Probe; readonly arm: string }>();
  const reasons = new Map<string, string>();
  for (const cell of cells) {
    const key = probeKey(cell);
    if (asked.has(key)) continue;
    asked.add(key);
    const payload = payloadName(cell.payload);
    const arm = armName(cell.arm);
    try {
      const probe = await runner.probe(cell.payload, cell.arm);
      const reference = first.get(payload) ?? { probe, arm };
      first.set(payload, reference);
      const difference = tensorsDifference(reference.probe.outputs, probe.outputs);
      probed.set(key, { probe, answersEqual: difference === undefined });
      if (difference !== undefined) {
        onNote?.(`${payload}: the answer by ${arm} is not that by ${reference.arm}: ${difference}`);
      }
    } catch (error) {
      if (!(error instanceof BenchError)) throw error;
      reasons.set(payload, error.message);
      onNote?.(`${payload} can't be asked by ${arm}: ${error.message}`);
    }
  }
  for (const { payload } of cells) {
    const name = payloadName(payload);
    if (!first.has(name)) throw new BenchError(`${name} can't be asked by any arm: ${reasons.get(name)}`);
  }
  return probed;
}

/** Cells of the same payload and load, each group where its first cell stands. */
function groupsOf(cells: readonly CellSpec[]): CellSpec[][] {
  const groups = new Map<string, CellSpec[]>();
  for (const cell of cells) {
    const key = `${payloadName(cell.payload)}, ${loadName(cell.load)}`;
    const group = groups.get(key);
    if (group) group.push(cell);
    else groups.set(key, [cell]);
  }
  return [...groups.values()];
}

async function measureGroup(
  runner: LoadRunner,
  group: readonly CellSpec[],
  options: RunCellsOptions,
  pace: Pace,
): Promise<Map<CellSpec, RoundMeasurement[]>> {
  const measured = new Map<CellSpec, RoundMeasurement[]>(group.map((cell) => [cell, []]));
  for (let round = -options.warmUpRounds; round < options.rounds; round++) {
    const order = round % 2 === 0 ? group : [...group].reverse();
    for (const cell of order) {
      pace.tell(cell, round);
      const measurement = await measureCell(runner, cell, options);
      if (round >= 0) measured.get(cell)!.push(measurement);
      pace.step(round === options.rounds - 1);
    }
  }
  return measured;
}

/** An error says at which cell. */
async function measureCell(
  runner: LoadRunner,
  { payload, arm, load }: CellSpec,
  options: RunCellsOptions,
): Promise<RoundMeasurement> {
  try {
    return await runner.measure(payload, arm, load, options.msPerRound, options);
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    throw new BenchError(`${payloadName(payload)}, ${loadName(load)}, ${armName(arm)}: ${error.message}`);
  }
}

/** How far it is and how long it will take. */
class Pace {
  readonly #began = performance.now();
  readonly #cells: number;
  readonly #options: RunCellsOptions;
  #done = 0;
  #steps = 0;

  constructor(cells: number, options: RunCellsOptions) {
    this.#cells = cells;
    this.#options = options;
  }

  tell({ payload, arm, load }: CellSpec, round: number): void {
    const { rounds, warmUpRounds, onProgress } = this.#options;
    if (!onProgress) return;
    const turn = round < 0 ? 'warm-up' : `round ${round + 1} of ${rounds}`;
    const steps = this.#cells * (rounds + warmUpRounds);
    const seconds = (performance.now() - this.#began) / 1000;
    onProgress({
      done: this.#done,
      total: this.#cells,
      what: `${payloadName(payload)}, ${loadName(load)}, ${turn}, ${armName(arm)}`,
      secondsLeft: this.#steps === 0 ? undefined : (seconds / this.#steps) * (steps - this.#steps),
    });
  }

  step(isLastRound: boolean): void {
    this.#steps++;
    if (isLastRound) this.#done++;
  }
}

function probeKey({ payload, arm }: CellSpec): string {
  return `${payloadName(payload)}, ${armName(arm)}`;
}
