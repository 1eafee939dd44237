/**
 * What a run of the benchmark writes as `results.json`, and what every report is made from: cells, streams, experiments.
 *
 * Written by the runs (`run-cells.ts`, `streams.ts`, the experiments of `bench/`), read by the reports. Plain data, version 1. All times
 * are milliseconds, all sizes bytes, CPU microseconds; "KB" is 1024 bytes as in the article. A figure that could not be had is null.
 */

/** How tensors travel. */
export type Encoding = 'rest_json' | 'rest_binary' | 'grpc_raw' | 'grpc_typed';

/** One way of asking; `gzip`: request compressed, and over REST the answer, too. */
export interface ArmSpec {
  readonly encoding: Encoding;
  readonly gzip: boolean;
}

/** `rest_json`, `rest_json+gzip`: the name of an arm in tables and files. */
export function armName({ encoding, gzip }: ArmSpec): string {
  return gzip ? `${encoding}+gzip` : encoding;
}

/** Closed: so many callers, each asks again when answered. Open: requests come at fixed times whatever the answers do. */
export type Load =
  | { readonly kind: 'closed'; readonly concurrency: number }
  | { readonly kind: 'open'; readonly ratePerSecond: number };

/** A figure with its 95 % confidence interval over the rounds (bootstrap); low = high = value where there was one round. */
export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** One phase of the budget, its median over the requests of a cell; `side` as in the client's budget. */
export interface PhaseResult {
  readonly side: 'client' | 'server' | 'between';
  readonly name: string;
  readonly medianMs: number;
  /** Means add up to the mean wall time; medians need not. */
  readonly meanMs: number;
}

export interface CellResult {
  readonly model: string;
  /** The article's column; null for a payload that was given from outside. */
  readonly payloadKb: number | null;
  /** Tensor bytes in raw form, each way. */
  readonly requestTensorBytes: number;
  readonly responseTensorBytes: number;
  readonly arm: ArmSpec;
  readonly load: Load;
  readonly requests: number;
  readonly failures: number;
  /** From when the request was due (open) or asked for (closed) to its decoded tensors. */
  readonly p50Ms: Interval;
  readonly p95Ms: Interval;
  readonly p99Ms: Interval;
  readonly meanMs: number;
  readonly maxMs: number;
  readonly perSecond: Interval;
  readonly phases: readonly PhaseResult[];
  /** Median over requests of (sum of all phases) / (wall time measured around the call), and of the share that neither side's stamps saw. */
  readonly explainedShare: number;
  readonly transitShare: number;
  /** Medians per request. */
  readonly clientEncodeMs: number;
  readonly clientDecodeMs: number;
  /** Null where the server tells no phases. */
  readonly serverDecodeMs: number | null;
  readonly serverEncodeMs: number | null;
  /** On the sockets, everything counted: headers, framing, TLS; per request. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly clientCpuUs: number;
  /** Null where the server runs elsewhere. */
  readonly serverCpuUs: number | null;
  /** Of one core, of the busiest client process; over 0.8 the client may be the bottleneck and the report says so. */
  readonly clientCpuShare: number;
  /** Server's CPU time over wall time, all its threads; null where it runs elsewhere. */
  readonly serverCpuShare: number | null;
  /** Whether the answer was bit for bit that of the first arm. */
  readonly answersEqual: boolean;
}

/** 100 tokens by one way. */
export interface StreamResult {
  readonly way: 'grpc_stream' | 'sse' | 'sse_openai' | 'request_per_token_grpc' | 'request_per_token_rest';
  readonly tokens: number;
  readonly totalMs: Interval;
  readonly firstTokenMs: Interval;
  /** Between two tokens, at the client. */
  readonly gapP50Ms: number;
  readonly gapP99Ms: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly clientCpuUs: number;
  readonly serverCpuUs: number | null;
  /** Time in taking messages apart at the client, all tokens together. */
  readonly clientDecodeMs: number;
  /** Whether the text was that of the first way. */
  readonly textEqual: boolean;
}

/** Figures of one experiment for the claims, by name; see `bench/experiments/`. */
export interface ExperimentResult {
  readonly name: string;
  readonly figures: Readonly<Record<string, number>>;
  /** What was done, in a sentence or two, for the report. */
  readonly method: string;
}

export interface Environment {
  readonly node: string;
  readonly cpu: string;
  readonly cores: number;
  readonly os: string;
  /** What the server says of itself. */
  readonly server: { readonly name: string; readonly version: string };
  /** Whether server and clients had cores of their own (taskset). */
  readonly pinned: boolean;
  readonly clientProcesses: number;
}

export interface BenchResults {
  readonly schema: 1;
  readonly startedAt: string;
  readonly seconds: number;
  readonly quick: boolean;
  readonly rounds: number;
  /** What a run that was ended early has: `interrupted, 12 of 60 cells`. Left out of a whole one. */
  readonly cutShort?: string;
  /** The command line that runs it again, without secrets; for the report. */
  readonly command?: string;
  readonly environment: Environment;
  readonly cells: readonly CellResult[];
  readonly streams: readonly StreamResult[];
  readonly experiments: readonly ExperimentResult[];
  /** What deserves a sentence in the report: cells whose client was busy, arms that a server doesn't have and why. */
  readonly notes: readonly string[];
}
