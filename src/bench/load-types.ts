/**
 * What the load processes are asked and what they answer: payloads, servers, one round's figures.
 *
 * Used by everything in `src/bench/`. Plain data that crosses process borders by structured clone, so typed arrays arrive as such.
 */
import type { InputTensor, OutputTensor, TlsOptions } from '../client/types.js';
import type { ArmSpec, Load, PhaseResult } from './results.js';

/** One request, the same for all arms. */
export interface Payload {
  readonly model: string;
  /** Left out = the server's choice. */
  readonly version?: string;
  /** The article's column; null for inputs that were given from outside. */
  readonly payloadKb: number | null;
  readonly inputs: readonly InputTensor[];
}

/** One server by its two doors; an arm whose door is missing can't be asked. */
export interface LoadTarget {
  /** `host:port`. */
  readonly grpc?: { readonly address: string; readonly tls?: boolean | TlsOptions };
  /** `http://host:port` or `https://...`; a path is a prefix of every request's. */
  readonly http?: { readonly url: string; readonly tls?: TlsOptions };
}

export interface LoadOptions {
  /** Client processes that share every load; at least 1. */
  readonly processes: number;
  /** The longest silence of a server that owes an answer; default two minutes, as servers may load a model first. */
  readonly silenceMs?: number;
  /** CPUs that they are pinned to in turns (`taskset`); left out = anywhere. */
  readonly cpus?: readonly number[];
  /** Connections of each process: gRPC's callers share `grpcConnections` (default 1), REST's have one each up to `httpConnections` (default 64). */
  readonly grpcConnections?: number;
  readonly httpConnections?: number;
}

/** One call's answer, for checking and for sizes. */
export interface Probe {
  readonly outputs: readonly OutputTensor[];
  /** In raw form. */
  readonly requestTensorBytes: number;
  readonly responseTensorBytes: number;
  /** The `server-timing` value, where the server tells one. */
  readonly serverTiming?: string;
}

/** One round of one arm under one load, all processes together. Times in milliseconds. */
export interface RoundMeasurement {
  /** Answered rightly. */
  readonly requests: number;
  readonly failures: number;
  /** Text of the first failure. */
  readonly firstFailure?: string;
  /** Closed: from the first request to the last answer. Open: as long as was planned, or for how much longer the server fell behind. */
  readonly seconds: number;
  /**
   * From due (open) or asked for (closed, but for each caller's first) to decoded; a uniform sample of bounded size where there were more
   * requests.
   */
  readonly latenciesMs: Float64Array;
  readonly meanMs: number;
  readonly maxMs: number;
  readonly phases: readonly PhaseResult[];
  readonly explainedShare: number;
  readonly transitShare: number;
  /** Totals on the sockets. */
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Totals; of the server null where nobody can tell. */
  readonly clientCpuUs: number;
  readonly serverCpuUs: number | null;
  /** CPU over wall time of the busiest process. */
  readonly clientCpuShare: number;
}

export interface MeasureOptions {
  /** CPU time of the server so far in microseconds, all its threads; read when the measured part begins and when it has ended. */
  readonly serverCpuUs?: () => number;
}

/** Client processes under load orders. One order at a time. */
export interface LoadRunner {
  readonly processes: number;
  /** One call. Throws BenchError with the server's words when the arm is not possible there. */
  probe(payload: Payload, arm: ArmSpec): Promise<Probe>;
  /** `ms` of load after a lead-in that opens the connections; ends when the last request is answered. */
  measure(payload: Payload, arm: ArmSpec, load: Load, ms: number, options?: MeasureOptions): Promise<RoundMeasurement>;
  close(): Promise<void>;
}
