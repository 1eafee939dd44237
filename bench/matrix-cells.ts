/**
 * Which cells the matrix has, in a full run and in a quick one, and at which rates its open loops run.
 *
 * Used by `matrix.ts`. Pure. Owns what is left out and why.
 */
import type { ArmSpec, CellResult, Load } from '../src/bench/results.js';
import type { CellSpec } from '../src/bench/run-cells.js';
import { MATRIX_MODELS, PAYLOAD_SIZES_KB, payloadFor } from './matrix-models.js';

export interface MatrixPlan {
  readonly sizesKb: readonly number[];
  readonly concurrencies: readonly number[];
  /** Compression is asked for by no more callers: the client compresses one request after another and would be what is measured. */
  readonly zipCallers: number;
  readonly rounds: number;
  readonly msPerRound: number;
  /** From the run's beginning; what would begin later is left out, and said to be. */
  readonly beginWithinMs: {
    readonly cells: number;
    readonly streams: number;
    readonly independent: number;
    readonly experiments: number;
  };
  /** Rounds of the token streams. */
  readonly streamRounds: number;
  /** Of the comparison with h2load. */
  readonly independent: { readonly rounds: number; readonly msPerRound: number };
}

const NEVER = Number.POSITIVE_INFINITY;

export function matrixPlan(quick: boolean): MatrixPlan {
  return quick
    ? {
        sizesKb: [2, 100, 1000],
        concurrencies: [1, 8],
        zipCallers: 1,
        rounds: 3,
        msPerRound: 80,
        // On a calm machine the last experiment begins after 110 s. Twice as slow, each part still gets something, and all of it three minutes.
        beginWithinMs: { cells: 85_000, streams: 105_000, independent: 115_000, experiments: 145_000 },
        streamRounds: 3,
        independent: { rounds: 3, msPerRound: 300 },
      }
    : {
        sizesKb: PAYLOAD_SIZES_KB,
        concurrencies: [1, 8, 64],
        zipCallers: 8,
        rounds: 4,
        msPerRound: 500,
        beginWithinMs: { cells: NEVER, streams: NEVER, independent: NEVER, experiments: NEVER },
        streamRounds: 9,
        independent: { rounds: 7, msPerRound: 1000 },
      };
}

const PLAIN: readonly ArmSpec[] = (['rest_json', 'rest_binary', 'grpc_raw', 'grpc_typed'] as const).map((encoding) => ({
  encoding,
  gzip: false,
}));

/** Compression saves bytes and costs CPU: of the text, where it can save most, and of raw bytes, where the article claims as much. */
const ZIPPED: readonly ArmSpec[] = [
  { encoding: 'rest_json', gzip: true },
  { encoding: 'grpc_raw', gzip: true },
];
/** Below it a body is a few packets whatever is done to it. */
const ZIP_FROM_KB = 100;

/** Every model and size by every arm, by so many callers; few callers first. */
export function closedCells({ sizesKb, concurrencies, zipCallers }: MatrixPlan): CellSpec[] {
  return concurrencies.flatMap((concurrency) =>
    payloads(sizesKb).flatMap((payload) => {
      const zips = payload.payloadKb! >= ZIP_FROM_KB && concurrency <= zipCallers;
      const load: Load = { kind: 'closed', concurrency };
      return [...PLAIN, ...(zips ? ZIPPED : [])].map((arm) => ({ payload, arm, load }));
    }),
  );
}

/** How many cells `openCells` makes where everything was answered. */
export function openCount({ sizesKb }: MatrixPlan): number {
  return MATRIX_MODELS.length * sizesKb.length * PLAIN.length;
}

/** Of what the slowest arm can answer at most. */
const SHARE_OF_CAPACITY = 0.5;

/** The same models and sizes at a fixed rate, by every arm that does not compress: half of what the slowest of them could answer. */
export function openCells({ sizesKb }: MatrixPlan, closed: readonly CellResult[]): CellSpec[] {
  return payloads(sizesKb).flatMap((payload) => {
    const capacities = PLAIN.map(({ encoding }) => {
      const own = closed.filter(
        ({ model, payloadKb, arm }) =>
          model === payload.model && payloadKb === payload.payloadKb && arm.encoding === encoding && !arm.gzip,
      );
      return Math.max(...own.map(({ perSecond }) => perSecond.value));
    });
    const slowest = Math.min(...capacities.filter((capacity) => capacity > 0));
    if (!Number.isFinite(slowest)) return [];
    const load: Load = { kind: 'open', ratePerSecond: rounded(slowest * SHARE_OF_CAPACITY) };
    return PLAIN.map((arm) => ({ payload, arm, load }));
  });
}

/** Two digits: nobody aims at 187.43 a second. */
function rounded(rate: number): number {
  return Math.max(1, Number(rate.toPrecision(2)));
}

function payloads(sizesKb: readonly number[]) {
  return MATRIX_MODELS.flatMap((model) => sizesKb.map((kb) => payloadFor(model, kb)));
}
