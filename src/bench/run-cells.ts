/**
 * Fills cells: every arm of a payload and load by turns over several rounds, A B C, C B A, ..., so that a machine that gets slower
 * does so for all of them; answers of all arms compared bit for bit first.
 *
 * Called by `npm run bench` and `tensorwire bench`. Owns the order of things and the figures of a cell; must not know a transport.
 */
import { BenchError } from './bench-error.js';
import type { LoadRunner, Payload, Probe, RoundMeasurement } from './load-types.js';
import { type ArmSpec, armName, type CellResult, type Load, type PhaseResult } from './results.js';
import { bootstrap, histogramOf, median, percentileIntervals } from './statistics.js';
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
  /** What is measured now: `text_embedding 2 KB, 8 at a time, round 2 of 5, grpc_raw`. */
  readonly what: string;
  /** Seconds to go at the pace so far; undefined at first. */
  readonly secondsLeft: number | undefined;
}

export interface RunCellsOptions {
  readonly rounds: number;
  /** Rounds before those, whose figures are thrown away. */
  readonly warmUpRounds: number;
  readonly msPerRound: number;
  /** CPU time of the server so far in microseconds, where it is on this machine. */
  readonly serverCpuUs?: () => number;
  readonly onProgress?: (progress: Progress) => void;
  /** A sentence for the report: an arm that the server doesn't have and why, a client that was busy, failures. */
  readonly onNote?: (note: string) => void;
}

/** Client CPU over wall time from which on the client may be what is measured. */
export const BUSY_CLIENT_SHARE = 0.8;

/**
 * Measures all cells; results come in the order of `cells`, without those whose arm the server doesn't have (each told by `onNote`).
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
    for (const [cell, rounds] of await measureGroup(runner, group, options, pace)) {
      results.set(cell, resultOf(cell, probes.get(probeKey(cell))!, rounds, options));
    }
  }
  return possible.map((cell) => results.get(cell)!);
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
      const measurement = await runner.measure(cell.payload, cell.arm, cell.load, options.msPerRound, options);
      if (round >= 0) measured.get(cell)!.push(measurement);
      pace.step(round === options.rounds - 1);
    }
  }
  return measured;
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

function resultOf(
  cell: CellSpec,
  { probe, answersEqual }: ProbedArm,
  rounds: readonly RoundMeasurement[],
  { onNote }: RunCellsOptions,
): CellResult {
  const { payload, arm, load } = cell;
  const total = (figure: (round: RoundMeasurement) => number): number =>
    rounds.reduce((sum, round) => sum + figure(round), 0);
  const middle = (figure: (round: RoundMeasurement) => number): number => median(rounds.map(figure));
  const requests = total((round) => round.requests);
  const failures = total((round) => round.failures);
  const serverKnown = rounds.every(({ serverCpuUs }) => serverCpuUs !== null);
  const serverCpuUs = total((round) => round.serverCpuUs ?? 0);
  const seconds = total((round) => round.seconds);
  const phases = phasesOf(rounds);
  const phase = (side: PhaseResult['side'], name: string): number | null =>
    phases.find((each) => each.side === side && each.name === name)?.medianMs ?? null;
  const [p50Ms, p95Ms, p99Ms] = percentileIntervals(
    rounds.map(({ latenciesMs }) => histogramOf(latenciesMs)),
    [50, 95, 99],
  );
  const clientCpuShare = middle((round) => round.clientCpuShare);
  const name = `${payloadName(payload)}, ${loadName(load)}, ${armName(arm)}`;
  if (failures > 0) {
    const reason = rounds.find(({ firstFailure }) => firstFailure !== undefined)?.firstFailure;
    onNote?.(`${name}: ${failures} of ${requests + failures} requests failed: ${reason}`);
  }
  if (clientCpuShare > BUSY_CLIENT_SHARE) {
    onNote?.(`${name}: the client used ${Math.round(clientCpuShare * 100)} % of a core and may be what was measured`);
  }
  return {
    model: payload.model,
    payloadKb: payload.payloadKb,
    requestTensorBytes: probe.requestTensorBytes,
    responseTensorBytes: probe.responseTensorBytes,
    arm,
    load,
    requests,
    failures,
    p50Ms: p50Ms!,
    p95Ms: p95Ms!,
    p99Ms: p99Ms!,
    meanMs: total((round) => round.meanMs * round.requests) / requests,
    maxMs: Math.max(...rounds.map(({ maxMs }) => maxMs)),
    perSecond: bootstrap(rounds, perSecond),
    phases,
    explainedShare: middle((round) => round.explainedShare),
    transitShare: middle((round) => round.transitShare),
    clientEncodeMs: phase('client', 'encode') ?? 0,
    clientDecodeMs: phase('client', 'decode') ?? 0,
    serverDecodeMs: phase('server', 'decode'),
    serverEncodeMs: phase('server', 'encode'),
    sentBytes: total((round) => round.sentBytes) / (requests + failures),
    receivedBytes: total((round) => round.receivedBytes) / (requests + failures),
    clientCpuUs: total((round) => round.clientCpuUs) / (requests + failures),
    serverCpuUs: serverKnown ? serverCpuUs / (requests + failures) : null,
    clientCpuShare,
    serverCpuShare: serverKnown ? serverCpuUs / 1e6 / seconds : null,
    answersEqual,
  };
}

function perSecond(rounds: readonly RoundMeasurement[]): number {
  let requests = 0;
  let seconds = 0;
  for (const round of rounds) {
    requests += round.requests;
    seconds += round.seconds;
  }
  return requests / seconds;
}

/** Of each phase the median of the rounds' medians and the mean of all requests, in the order in which they came. */
function phasesOf(rounds: readonly RoundMeasurement[]): PhaseResult[] {
  const first = rounds.find(({ phases }) => phases.length > 0)?.phases ?? [];
  const requests = rounds.reduce((sum, round) => sum + round.requests, 0);
  return first.map(({ side, name }) => {
    const same = rounds.map(({ phases }) => phases.find((phase) => phase.side === side && phase.name === name));
    const sum = rounds.reduce((total, round, index) => total + (same[index]?.meanMs ?? 0) * round.requests, 0);
    return { side, name, medianMs: median(same.map((phase) => phase?.medianMs ?? 0)), meanMs: sum / requests };
  });
}

export function payloadName({ model, version, payloadKb }: Payload): string {
  const name = version === undefined ? model : `${model} version ${version}`;
  return payloadKb === null ? name : `${name} ${payloadKb} KB`;
}

export function loadName(load: Load): string {
  return load.kind === 'closed' ? `${load.concurrency} at a time` : `${load.ratePerSecond} a second`;
}

function probeKey({ payload, arm }: CellSpec): string {
  return `${payloadName(payload)}, ${armName(arm)}`;
}
