/**
 * From which payload on one arm is faster than another: where the lines of their median latencies cross.
 *
 * Called by the verdict and the latency plots. Pure. Between two measured payloads both latencies are taken as straight lines on
 * logarithmic axes, as the plots draw them; beyond the smallest and the largest payload nothing is said.
 */
import { type LoadGroup, type LoadName, loadGroups, modelsOf, type Payload, payloadOf, payloadsOf } from './cells.js';
import { clearlyLower } from './noise.js';
import { armName, type CellResult } from './results.js';

export interface Crossover {
  readonly model: string;
  readonly loadName: LoadName;
  /** The simpler arm and the other one. */
  readonly arms: readonly [string, string];
  /** From small to large; empty = none in the range measured. */
  readonly crossings: readonly Crossing[];
  /** Where there is none: the arm that is never the slower one; undefined where noise tells them apart nowhere. */
  readonly fasterThroughout: string | undefined;
  /** The arm that is clearly the faster one at the largest payload, and the payload from which on it always is. */
  readonly clearFrom: { readonly arm: string; readonly payload: Payload } | undefined;
  /** The range measured. */
  readonly smallest: Payload;
  readonly largest: Payload;
}

export interface Crossing {
  readonly bytes: number;
  readonly ms: number;
  /** The arm that is faster beyond it. */
  readonly fasterBeyond: string;
  /** Whether the arms differ by more than noise somewhere on both sides. */
  readonly clear: boolean;
}

/** One point of a line. */
export interface LatencyPoint {
  readonly bytes: number;
  readonly ms: number;
}

/** Pairs that somebody chooses between; compression is compared with the same arm without it. */
const PAIRS: readonly (readonly [string, string])[] = [
  ['rest_json', 'rest_binary'],
  ['rest_json', 'grpc_raw'],
  ['rest_json', 'grpc_typed'],
  ['rest_binary', 'grpc_raw'],
  ['grpc_raw', 'grpc_typed'],
  ['rest_json', 'rest_json+gzip'],
  ['grpc_raw', 'grpc_raw+gzip'],
];

export function crossoversOf(cells: readonly CellResult[], rounds: number): Crossover[] {
  return modelsOf(cells).flatMap((model) => {
    const ofModel = cells.filter((cell) => cell.model === model);
    return loadGroups(ofModel).flatMap((load) => PAIRS.flatMap((arms) => crossoverOf(load, arms, rounds) ?? []));
  });
}

function crossoverOf(
  { key, label, cells }: LoadGroup,
  arms: readonly [string, string],
  rounds: number,
): Crossover | undefined {
  const pairs = payloadsOf(cells).flatMap((payload) => {
    const [a, b] = arms.map((name) =>
      cells.find((cell) => armName(cell.arm) === name && payloadOf(cell).key === payload.key),
    );
    return a && b ? [{ payload, a, b }] : [];
  });
  const [first, last] = [pairs[0], pairs.at(-1)];
  if (!first || !last || first.payload.bytes === last.payload.bytes) return undefined;
  const point = ({ payload }: { payload: Payload }, cell: CellResult): LatencyPoint => ({
    bytes: payload.bytes,
    ms: cell.p50Ms.value,
  });
  const found = crossings(
    pairs.map((pair) => point(pair, pair.a)),
    pairs.map((pair) => point(pair, pair.b)),
  );
  const aLower = pairs.filter(({ a, b }) => clearlyLower(a.p50Ms, b.p50Ms, rounds));
  const bLower = pairs.filter(({ a, b }) => clearlyLower(b.p50Ms, a.p50Ms, rounds));
  return {
    model: first.a.model,
    loadName: { key, label },
    arms,
    crossings: found.map(({ bytes, ms, secondBeyond }) => {
      const [before, beyond] = secondBeyond ? [aLower, bLower] : [bLower, aLower];
      const clear =
        before.some(({ payload }) => payload.bytes <= bytes) && beyond.some(({ payload }) => payload.bytes >= bytes);
      return { bytes, ms, fasterBeyond: arms[secondBeyond ? 1 : 0], clear };
    }),
    fasterThroughout:
      found.length > 0 || aLower.length + bLower.length === 0 ? undefined : arms[aLower.length > 0 ? 0 : 1],
    clearFrom: clearFrom(
      pairs.map(({ payload, a, b }) => ({
        payload,
        faster: clearlyLower(a.p50Ms, b.p50Ms, rounds)
          ? arms[0]
          : clearlyLower(b.p50Ms, a.p50Ms, rounds)
            ? arms[1]
            : undefined,
      })),
    ),
    smallest: first.payload,
    largest: last.payload,
  };
}

function clearFrom(payloads: readonly { payload: Payload; faster: string | undefined }[]): Crossover['clearFrom'] {
  const arm = payloads.at(-1)?.faster;
  if (arm === undefined) return undefined;
  const before = payloads.findLastIndex(({ faster }) => faster !== arm);
  return { arm, payload: payloads[before + 1]!.payload };
}

/** Where two lines over the same payloads cross. Touching without crossing is none. */
export function crossings(
  first: readonly LatencyPoint[],
  second: readonly LatencyPoint[],
): { bytes: number; ms: number; secondBeyond: boolean }[] {
  const found: { bytes: number; ms: number; secondBeyond: boolean }[] = [];
  // Payloads at which both are the same take no side; the crossing lies at the last of them.
  let previous: { index: number; difference: number } | undefined;
  first.forEach((point, index) => {
    const difference = Math.log(point.ms) - Math.log(second[index]!.ms);
    if (difference === 0) return;
    if (previous && previous.difference > 0 !== difference > 0) {
      const from = index - previous.index > 1 ? index - 1 : previous.index;
      const before = index - previous.index > 1 ? 0 : previous.difference;
      const part = before / (before - difference);
      const between = (a: number, b: number) => Math.exp(Math.log(a) + part * (Math.log(b) - Math.log(a)));
      const start = first[from]!;
      found.push({
        bytes: between(start.bytes, point.bytes),
        ms: between(start.ms, point.ms),
        secondBeyond: difference > 0,
      });
    }
    previous = { index, difference };
  });
  return found;
}
