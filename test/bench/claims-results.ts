/**
 * Results of runs that never were, for the tests of the claims: a cell, a stream, an experiment by the figures that a test cares about.
 */
import type { BenchResults, CellResult, Encoding, ExperimentResult, StreamResult } from '../../src/bench/results.js';

export const NOTHING: BenchResults = {
  schema: 1,
  startedAt: '2026-01-02T03:04:05.000Z',
  seconds: 600,
  quick: false,
  rounds: 5,
  environment: {
    node: 'v22.0.0',
    cpu: 'Acme 9000',
    cores: 2,
    os: 'Linux 6.1 x64',
    server: { name: 'tensorwire', version: '0.1.0' },
    pinned: true,
    clientProcesses: 1,
  },
  cells: [],
  streams: [],
  experiments: [],
  notes: [],
};

export function results(parts: Partial<BenchResults>): BenchResults {
  return { ...NOTHING, ...parts };
}

const exactly = (value: number) => ({ value, low: value, high: value });

export interface CellFigures {
  readonly model: string;
  readonly payloadKb: number;
  readonly encoding: Encoding;
  readonly concurrency?: number;
  readonly p50?: number;
  readonly p99?: number;
  readonly perSecond?: number;
  /** In codecs of both sides together. */
  readonly codecMs?: number;
  /** On the sockets, both ways. */
  readonly bytes?: number;
}

export function cell(figures: CellFigures): CellResult {
  const { model, payloadKb, encoding, concurrency = 1, p50 = 1, p99 = p50, perSecond = 1000, codecMs = 0.4 } = figures;
  const { bytes = 1000 } = figures;
  return {
    model,
    payloadKb,
    requestTensorBytes: payloadKb * 1024,
    responseTensorBytes: 4,
    arm: { encoding, gzip: false },
    load: { kind: 'closed', concurrency },
    requests: 100,
    failures: 0,
    p50Ms: exactly(p50),
    p95Ms: exactly(p50),
    p99Ms: exactly(p99),
    meanMs: p50,
    maxMs: p99,
    perSecond: exactly(perSecond),
    phases: [],
    explainedShare: 1,
    transitShare: 0.1,
    clientEncodeMs: codecMs / 4,
    clientDecodeMs: codecMs / 4,
    serverDecodeMs: codecMs / 4,
    serverEncodeMs: codecMs / 4,
    sentBytes: bytes / 2,
    receivedBytes: bytes / 2,
    clientCpuUs: 100,
    serverCpuUs: 100,
    clientCpuShare: 0.3,
    serverCpuShare: 0.3,
    answersEqual: true,
  };
}

export function stream(way: StreamResult['way'], totalMs: number): StreamResult {
  return {
    way,
    tokens: 100,
    totalMs: exactly(totalMs),
    firstTokenMs: exactly(2),
    gapP50Ms: 1,
    gapP99Ms: 2,
    sentBytes: 300,
    receivedBytes: 3000,
    clientCpuUs: 2000,
    serverCpuUs: 4000,
    clientDecodeMs: 0.1,
    textEqual: true,
  };
}

export function experiment(name: string, figures: Readonly<Record<string, number>>): ExperimentResult {
  return { name, figures, method: `What ${name} does.` };
}
