/**
 * Results of a benchmark that was never run, as plausible as a real one's: JSON costs by the byte, gRPC a little more for each call.
 *
 * Used by the tests of the reports. The same options give the same results.
 */
import {
  type ArmSpec,
  armName,
  type BenchResults,
  type CellResult,
  type Encoding,
  type Interval,
  type Load,
  type PhaseResult,
  type StreamResult,
} from '../../src/bench/results.js';

export const MODELS = ['text_embedding', 'image_classification', 'llm_token'];
export const SIZES_KB = [2, 10, 100, 500, 1000];
export const LOADS: readonly Load[] = [
  { kind: 'closed', concurrency: 1 },
  { kind: 'closed', concurrency: 8 },
  { kind: 'closed', concurrency: 64 },
  { kind: 'open', ratePerSecond: 200 },
];
export const ARMS: readonly ArmSpec[] = (['rest_json', 'rest_binary', 'grpc_raw', 'grpc_typed'] as const).flatMap(
  (encoding) => [false, true].map((gzip) => ({ encoding, gzip })),
);
export const WAYS: readonly StreamResult['way'][] = [
  'grpc_stream',
  'sse',
  'sse_openai',
  'request_per_token_grpc',
  'request_per_token_rest',
];

export interface ResultOptions {
  readonly models?: readonly string[];
  /** null = a payload from outside. */
  readonly sizesKb?: readonly (number | null)[];
  readonly arms?: readonly ArmSpec[];
  readonly loads?: readonly Load[];
  readonly ways?: readonly StreamResult['way'][];
  readonly rounds?: number;
  /** Whether the server tells its phases and its CPU can be read. */
  readonly serverTells?: boolean;
}

/** Fixed milliseconds of a call, then of each KB of tensors, for one side's encode and decode. */
const COST: Record<Encoding, { fixed: number; perKb: number; wire: number }> = {
  rest_json: { fixed: 0.25, perKb: 0.02, wire: 2.6 },
  rest_binary: { fixed: 0.3, perKb: 0.0008, wire: 1 },
  grpc_raw: { fixed: 0.42, perKb: 0.0006, wire: 1 },
  grpc_typed: { fixed: 0.43, perKb: 0.002, wire: 1.01 },
};

export function benchResults(options: ResultOptions = {}): BenchResults {
  const { models = MODELS, sizesKb = SIZES_KB, arms = ARMS, loads = LOADS, ways = WAYS } = options;
  const { rounds = 5, serverTells = true } = options;
  const cells = models.flatMap((model, modelIndex) =>
    loads.flatMap((load) =>
      sizesKb.flatMap((kb) =>
        arms.map((arm) =>
          plausibleCell({ model, kb, arm, load, rounds, serverTells, computeMs: 0.2 + modelIndex * 0.6 }),
        ),
      ),
    ),
  );
  return {
    schema: 1,
    startedAt: '2026-01-02T03:04:05.000Z',
    seconds: 123.4,
    quick: false,
    rounds,
    environment: {
      node: 'v22.23.2',
      cpu: 'A CPU of 2 GHz',
      cores: 8,
      os: 'Linux 6.1',
      server: { name: 'tensorwire', version: '0.1.0' },
      pinned: true,
      clientProcesses: 2,
    },
    cells,
    streams: ways.map(plausibleStream),
    experiments: [
      {
        name: 'hpack',
        figures: { firstBytes: 812, laterBytes: 96, savedShare: 0.88 },
        method: 'Headers of 100 calls.',
      },
    ],
    notes: ['grpc-js decompresses requests and compresses no response.'],
  };
}

/** The cell with that model, size, arm and load. */
export function cellOf(results: BenchResults, kb: number | null, arm: string, load = LOADS[0]!): CellResult {
  const found = results.cells.find(
    (cell) => cell.payloadKb === kb && armName(cell.arm) === arm && JSON.stringify(cell.load) === JSON.stringify(load),
  );
  if (!found) throw new Error(`no cell of ${kb} KB, ${arm}`);
  return found;
}

/** A figure with an interval of that part of it to both sides; none where there was one round. */
export function around(value: number, part: number, rounds = 5): Interval {
  const half = rounds > 1 ? value * part : 0;
  return { value, low: value - half, high: value + half };
}

interface CellOptions {
  readonly model: string;
  readonly kb: number | null;
  readonly arm: ArmSpec;
  readonly load: Load;
  readonly rounds: number;
  readonly serverTells: boolean;
  readonly computeMs: number;
}

export function plausibleCell({ model, kb, arm, load, rounds, serverTells, computeMs }: CellOptions): CellResult {
  const bytes = (kb ?? 37.5) * 1024;
  const { fixed, perKb, wire } = COST[arm.encoding];
  const size = bytes / 1024;
  const squeeze = arm.gzip ? size * 0.015 : 0;
  const queueing = load.kind === 'closed' ? load.concurrency * 0.6 : 1.2;
  const work = fixed / 8 + (perKb * size) / 2 + squeeze / 4;
  const server = (name: string, ms: number): PhaseResult => ({ side: 'server', name, medianMs: ms, meanMs: ms * 1.08 });
  const client = (name: string, ms: number): PhaseResult => ({ side: 'client', name, medianMs: ms, meanMs: ms * 1.08 });
  const phases: PhaseResult[] = [
    client('encode', work * 0.8),
    client('send', 0.02 + size * 0.0004),
    ...(serverTells
      ? [
          server('receive', 0.03 + size * 0.0003),
          server('decode', work * queueing),
          server('admit', 0.005),
          server('preprocess', 0),
          server('queue', 0.02 * queueing),
          server('dispatch', 0.03),
          server('prefill', 0),
          server('compute', computeMs * queueing),
          server('collect', 0.02),
          server('encode', work * 0.6),
        ]
      : []),
    { side: 'between', name: 'transit', medianMs: fixed * queueing, meanMs: fixed * queueing * 1.1 },
    client('read', 0.02 + size * 0.0002),
    client('decode', work * 0.7),
  ];
  const p50 = phases.reduce((sum, { medianMs }) => sum + medianMs, 0) + (serverTells ? 0 : computeMs * queueing);
  const perSecond = load.kind === 'closed' ? (load.concurrency * 1000) / (p50 * 1.08) : load.ratePerSecond;
  const wireBytes = bytes * wire * (arm.gzip ? 0.35 : 1) + 220;
  const meanMs = phases.reduce((sum, phase) => sum + phase.meanMs, 0) * 1.002;
  return {
    model,
    payloadKb: kb,
    requestTensorBytes: bytes,
    responseTensorBytes: bytes / 4,
    arm,
    load,
    requests: 1000,
    failures: 0,
    p50Ms: around(p50, 0.02, rounds),
    p95Ms: around(p50 * 1.5, 0.04, rounds),
    p99Ms: around(p50 * 2.2, 0.1, rounds),
    meanMs,
    maxMs: p50 * 4,
    perSecond: around(perSecond, 0.02, rounds),
    phases,
    explainedShare: 0.998,
    transitShare: (fixed * queueing) / p50,
    clientEncodeMs: work * 0.8,
    clientDecodeMs: work * 0.7,
    serverDecodeMs: serverTells ? work : null,
    serverEncodeMs: serverTells ? work * 0.6 : null,
    sentBytes: wireBytes,
    receivedBytes: wireBytes / 4,
    clientCpuUs: work * 1200,
    serverCpuUs: serverTells ? work * 2200 : null,
    clientCpuShare: 0.4,
    serverCpuShare: serverTells ? 0.9 : null,
    answersEqual: true,
  };
}

export function plausibleStream(way: StreamResult['way'], index: number): StreamResult {
  return {
    way,
    tokens: 100,
    totalMs: around(190 + index * 90, 0.03),
    firstTokenMs: around(6 + index, 0.05),
    gapP50Ms: 1.9 + index * 0.9,
    gapP99Ms: 4 + index * 2,
    sentBytes: 400 + index * 20000,
    receivedBytes: 5000 + index * 15000,
    clientCpuUs: 9000 + index * 12000,
    serverCpuUs: 30000 + index * 15000,
    clientDecodeMs: 0.6 + index,
    textEqual: true,
  };
}
