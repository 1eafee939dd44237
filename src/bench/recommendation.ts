/**
 * The arm to take for one model, payload and load, and the figures that say so.
 *
 * Called by the verdict. Pure. The lowest median latency wins; among arms that noise can't tell apart there, the lowest p99, then the
 * highest throughput; what is still tied goes to the simplest, REST before gRPC. Owns that order.
 */
import { type CellGroup, type LoadName, type Payload, simplicity, wireBytes } from './cells.js';
import { byteSize, count, digits, factor, isFigure, milliseconds } from './figures.js';
import { clearlyLower, withinNoise } from './noise.js';
import { type ArmSpec, armName, type CellResult, type Interval, type Load } from './results.js';

export interface Recommendation {
  readonly model: string;
  readonly payload: Payload;
  readonly load: Load;
  readonly loadName: LoadName;
  readonly arm: ArmSpec;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly perSecond: number;
  /** Arms that noise can't tell from this one; empty where it is alone. */
  readonly tiedWith: readonly string[];
  /** A sentence in figures. */
  readonly reason: string;
}

/** More failures than this, and an arm is not recommended while another one is left. */
const MAX_FAILURES = 0.01;

/** `group` holds at least one cell. */
export function recommendationOf(group: CellGroup, rounds: number): Recommendation {
  const sound = group.cells.filter(
    (cell) => cell.answersEqual && cell.failures <= (cell.requests + cell.failures) * MAX_FAILURES,
  );
  const candidates = sound.length > 0 ? sound : group.cells;
  let tied = notBeaten(candidates, ({ p50Ms }) => p50Ms, rounds);
  tied = notBeaten(tied, ({ p99Ms }) => p99Ms, rounds);
  tied = notBeaten(tied, ({ perSecond }) => negative(perSecond), rounds);
  const chosen = tied.reduce((a, b) => (simplicity(b.arm) < simplicity(a.arm) ? b : a));
  const others = tied.filter((cell) => cell !== chosen);
  return {
    model: group.model,
    payload: group.payload,
    load: group.load,
    loadName: group.loadName,
    arm: chosen.arm,
    p50Ms: chosen.p50Ms.value,
    p99Ms: chosen.p99Ms.value,
    perSecond: chosen.perSecond.value,
    tiedWith: others.map(({ arm }) => armName(arm)),
    reason: reasonOf(chosen, others, group.cells, rounds),
  };
}

/** Those that no other one is clearly lower than. */
function notBeaten(cells: readonly CellResult[], figure: (cell: CellResult) => Interval, rounds: number): CellResult[] {
  return cells.filter((cell) => !cells.some((other) => clearlyLower(figure(other), figure(cell), rounds)));
}

function negative({ value, low, high }: Interval): Interval {
  return { value: -value, low: -high, high: -low };
}

function reasonOf(chosen: CellResult, tied: readonly CellResult[], all: readonly CellResult[], rounds: number): string {
  const parts = [figures(chosen)];
  if (tied.length > 0) parts.push(`within noise of ${tied.map(({ arm }) => armName(arm)).join(', ')}, so the simplest`);
  const rest = all.filter((cell) => cell !== chosen && !tied.includes(cell));
  // Against the best of the other protocol: that is the choice people have to make.
  const rival = best(rest.filter(({ arm }) => isGrpc(arm) !== isGrpc(chosen.arm))) ?? best(rest);
  if (rival) {
    const slower = withinNoise(chosen.p50Ms, rival.p50Ms, rounds)
      ? 'has the same p50 within noise, but not the same p99 or throughput'
      : `takes ${factor(rival.p50Ms.value, chosen.p50Ms.value)}`;
    parts.push(`${armName(rival.arm)} ${slower}: ${figures(rival)}`);
  }
  if (all.length === 1) parts.push('the only arm measured');
  if (!chosen.answersEqual) parts.push('no arm answered as the first one did');
  return parts.join('; ');
}

function figures(cell: CellResult): string {
  return [
    `p50 ${milliseconds(cell.p50Ms.value)}`,
    `p99 ${milliseconds(cell.p99Ms.value)}`,
    `${digits(cell.perSecond.value)}/s`,
    ...(isFigure(cell.serverCpuUs) ? [`server CPU ${count(cell.serverCpuUs)} us`] : []),
    `${byteSize(wireBytes(cell))} on the wire`,
  ].join(', ');
}

/** Whether an arm speaks gRPC. */
export function isGrpc({ encoding }: ArmSpec): boolean {
  return encoding === 'grpc_raw' || encoding === 'grpc_typed';
}

function best(cells: readonly CellResult[]): CellResult | undefined {
  return [...cells].sort((a, b) => a.p50Ms.value - b.p50Ms.value)[0];
}
