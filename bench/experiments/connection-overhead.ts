/**
 * 100 requests at once: what does each cost on one HTTP/2 connection and on six of HTTP/1.1, warm and fresh, plain and with TLS?
 *
 * One experiment of `run.ts`. `identity` computes nothing, so the wall time over 100 is all overhead; of `compute` the time that its
 * computing took (by the server's own `server-timing`) is taken off. The same behind a proxy with a round trip
 * of 10 ms, where six connections take 17 turns and one HTTP/2 connection takes one: what a loopback can't show.
 */

import type { ExperimentResult } from '../../src/bench/results.js';
import { quantile } from '../../src/bench/statistics.js';
import { type Caller, http2Caller, phaseMs, restCaller } from './callers.js';
import { byTurns, type ExperimentContext, type Sample } from './experiment.js';
import type { Served } from './lab.js';
import { type Asked, computeRequest, identityRequest } from './payloads.js';
import { startProxy } from './tcp-proxy.js';

const TOGETHER = 100;
const BROWSER_CONNECTIONS = 6;
const ROUND_TRIP_MS = 10;

type Ask = (caller: Caller, asked: Asked) => Promise<string>;
const overGrpc: Ask = async (caller, { grpcPath, frame }) => (await caller.call(grpcPath, frame)).timing;
const overRest: Ask = async (caller, { restPath, json }) => (await caller.call(restPath, json)).timing;

export async function connectionOverhead({ quick, lab, say }: ExperimentContext): Promise<ExperimentResult> {
  const figures: Record<string, number> = {};
  // As much as a small embedding.
  const small = identityRequest(64);
  for (const [name, served] of Object.entries({ plain: await lab.plain(), tls: await lab.secure() })) {
    await measure(`small_${name}`, served, small, quick ? 1 : name === 'tls' ? 9 : 25, figures);
  }
  const plain = await lab.plain();
  // What is computed hides what opening connections costs.
  await measure('compute_plain', plain, computeRequest('compute'), quick ? 1 : 3, figures, false);
  const proxies = await Promise.all(
    [plain.grpcPort, plain.httpPort].map((port) => startProxy({ backend: () => port, roundTripMs: ROUND_TRIP_MS })),
  );
  try {
    const [grpcPort, httpPort] = proxies.map(({ port }) => port) as [number, number];
    await measure('small_rtt10', { ...plain, grpcPort, httpPort }, small, quick ? 1 : 5, figures);
  } finally {
    for (const proxy of proxies) proxy.close();
  }
  say(
    `ms for each of ${TOGETHER}: one HTTP/2 connection ${figures.small_plain_h2_each_ms!.toFixed(3)}, ` +
      `six of HTTP/1.1 ${figures.small_plain_h1_six_each_ms!.toFixed(3)}; ` +
      `with a round trip of ${ROUND_TRIP_MS} ms ${figures.small_rtt10_h2_each_ms!.toFixed(2)} and ` +
      `${figures.small_rtt10_h1_six_each_ms!.toFixed(2)}`,
  );
  return {
    name: 'connection_overhead',
    figures,
    method:
      `${TOGETHER} requests started at once; wall time until the last answer over ${TOGETHER} (each), less what computing needed ` +
      `(overhead), and what the median request waited (p50). Bare clients with prepared bytes: 64 numbers to a model that computes nothing ` +
      `(small), 16 to one of some milliseconds (compute). rtt10: behind a proxy that keeps bytes back for a round trip of ${ROUND_TRIP_MS} ms.`,
  };
}

async function measure(
  label: string,
  { grpcPort, httpPort, ca }: Pick<Served, 'grpcPort' | 'httpPort' | 'ca'>,
  asked: Asked,
  rounds: number,
  figures: Record<string, number>,
  withFresh = true,
): Promise<void> {
  const h2 = () => http2Caller({ port: grpcPort, ca });
  const h1 = (connections: number, keepAlive = true) => restCaller({ port: httpPort, ca, connections, keepAlive });
  const warm = { h2: h2(), h1_six: h1(BROWSER_CONNECTIONS), h1_hundred: h1(TOGETHER) };
  const fresh = async (caller: Caller, ask: Ask): Promise<Sample> => {
    try {
      return await burst(caller, asked, ask);
    } finally {
      caller.close();
    }
  };
  try {
    const medians = await byTurns(
      {
        h2: () => burst(warm.h2, asked, overGrpc),
        h1_six: () => burst(warm.h1_six, asked, overRest),
        h1_hundred: () => burst(warm.h1_hundred, asked, overRest),
        ...(withFresh && {
          h2_fresh: () => fresh(h2(), overGrpc),
          h1_six_fresh: () => fresh(h1(BROWSER_CONNECTIONS), overRest),
          h1_connection_each: () => fresh(h1(TOGETHER, false), overRest),
        }),
      },
      { rounds },
    );
    for (const [name, value] of Object.entries(medians)) figures[`${label}_${name}`] = value;
  } finally {
    for (const caller of Object.values(warm)) caller.close();
  }
}

async function burst(caller: Caller, asked: Asked, ask: Ask): Promise<Sample> {
  const began = performance.now();
  const waited: number[] = [];
  let computeMs = 0;
  await Promise.all(
    Array.from({ length: TOGETHER }, async () => {
      const timing = await ask(caller, asked);
      computeMs += phaseMs(timing, 'compute');
      waited.push(performance.now() - began);
    }),
  );
  const each = (performance.now() - began) / TOGETHER;
  // The models run one request at a time, so their computing doesn't overlap.
  return { each_ms: each, overhead_ms: Math.max(0, each - computeMs / TOGETHER), p50_ms: quantile(waited, 0.5) };
}
