/**
 * Does a load generator that shares no code with ours see the same server? h2load sends the very bytes that our client would encode, at
 * the same concurrency, by turns with our load.
 *
 * Used by the protocol matrix on one cell per protocol. Choose cells whose time is the server's: there both must agree. Where the
 * client's own work counts, ours is slower by what a Node client costs, and should be.
 */

import { REQUEST_ID } from '../src/bench/call.js';
import type { LoadRunner, LoadTarget, Payload } from '../src/bench/load-types.js';
import type { ArmSpec } from '../src/bench/results.js';
import { median } from '../src/bench/statistics.js';
import { MODEL_INFER } from '../src/bench/transport-h2.js';
import { encodeInferFrame } from '../src/client/grpc-encode.js';
import { encodeInferBody } from '../src/client/rest-encode.js';
import { load, requestsFor, type Target } from './load.js';
import { bodyFile } from './peer.js';
import { GRPC_HEADERS, probeGrpc, probeHttp } from './probe.js';
import { BenchError } from './result.js';

export interface IndependentOptions {
  /** Already running; pin it where h2load is pinned (`LOAD_CPU`), and to nothing else. */
  readonly runner: LoadRunner;
  /** Without TLS. */
  readonly target: LoadTarget;
  /** The serving process. */
  readonly pid: number;
  readonly payload: Payload;
  /** Not compressed. */
  readonly arm: ArmSpec;
  readonly concurrency: number;
  readonly rounds: number;
  readonly msPerRound: number;
  /** For the body that h2load reads. */
  readonly directory: string;
}

/** Requests a second, medians over the rounds. */
export interface IndependentResult {
  readonly ours: number;
  readonly h2load: number;
  /** Median over the rounds of ours / h2load: both see the same noise within a round. */
  readonly ratio: number;
}

/** Measures by turns: h2load, ours; ours, h2load; ... after one round of each that is dropped. Throws BenchError where h2load is missing. */
export async function independentCheck(options: IndependentOptions): Promise<IndependentResult> {
  const { runner, payload, arm, concurrency, rounds, msPerRound } = options;
  const target = await targetOf(options);
  // As our processes do: gRPC's callers share a connection in each, REST's have one each.
  const connections = target.protocol === 'h2' ? Math.min(runner.processes, concurrency) : concurrency;
  const spread = { connections, streams: Math.ceil(concurrency / connections), pin: true };
  const requests = await requestsFor(msPerRound / 1000, target, spread);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = -1; round < rounds; round++) {
    const measureOurs = async (): Promise<void> => {
      const measured = await runner.measure(payload, arm, { kind: 'closed', concurrency }, msPerRound);
      if (measured.failures > 0) throw new BenchError(`${measured.failures} requests failed: ${measured.firstFailure}`);
      if (round >= 0) ours.push(measured.requests / measured.seconds);
    };
    const measureTheirs = async (): Promise<void> => {
      const { requestsPerSecond } = await load(target, { ...spread, requests });
      if (round >= 0) theirs.push(requestsPerSecond);
    };
    const turns = round % 2 === 0 ? [measureTheirs, measureOurs] : [measureOurs, measureTheirs];
    for (const turn of turns) await turn();
  }
  return {
    ours: median(ours),
    h2load: median(theirs),
    ratio: median(ours.map((rate, round) => rate / theirs[round]!)),
  };
}

/** The request's bytes in a file, and a probe of the right reply. */
async function targetOf({ target, pid, payload, arm, directory }: IndependentOptions): Promise<Target> {
  const { model, version, inputs } = payload;
  const request = { id: REQUEST_ID, model, ...(version === undefined ? {} : { version }), inputs };
  const name = `${arm.encoding} for h2load`;
  if (arm.encoding === 'grpc_raw' || arm.encoding === 'grpc_typed') {
    if (target.grpc === undefined) throw new BenchError('h2load has no gRPC address to go to');
    const frame = encodeInferFrame(request, arm.encoding === 'grpc_typed' ? 'typed' : 'raw');
    const origin = `http://${target.grpc.address}`;
    const reply = await probeGrpc(origin, MODEL_INFER, frame);
    return {
      name,
      pid,
      protocol: 'h2',
      url: `${origin}${MODEL_INFER}`,
      bodyFile: bodyFile(directory, `independent-${arm.encoding}`, frame),
      headers: GRPC_HEADERS,
      replyBytes: reply.length,
    };
  }
  if (target.http === undefined) throw new BenchError('h2load has no URL to go to');
  const { body, headers } = encodeInferBody(request, arm.encoding === 'rest_json' ? 'json' : 'binary');
  const path = version === undefined ? `${model}/infer` : `${model}/versions/${version}/infer`;
  const url = `${target.http.url.replace(/\/$/, '')}/v2/models/${path}`;
  const reply = await probeHttp(url, headers, body);
  return {
    name,
    pid,
    protocol: 'h1',
    url,
    bodyFile: bodyFile(directory, `independent-${arm.encoding}`, body),
    headers,
    replyBytes: reply.length,
  };
}
