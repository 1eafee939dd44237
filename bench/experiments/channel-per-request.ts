/**
 * What does a new channel for each request cost, against one that is kept?
 *
 * One experiment of `run.ts`. grpc-js, plain and with TLS, and HTTP/1.1 with a new connection for each request beside it. The channels of
 * grpc-js share connections to one address, but only while one of them is open: closed after each request, as in the article's example,
 * every one connects anew, which `connections_of_ten` counts. On this machine there is no network: `rtt10` goes through a proxy with a
 * round trip of 10 ms.
 */
import type { ExperimentResult } from '../../src/bench/results.js';
import { type Caller, channelCaller, restCaller, type Target, unframed } from './callers.js';
import { byTurns, type ExperimentContext, type Sample } from './experiment.js';
import { type Asked, identityRequest } from './payloads.js';
import { startProxy } from './tcp-proxy.js';

const ROUND_TRIP_MS = 10;
/** For the channel that is kept, or the new ones beside it would find its connection and open none. */
const OWN_POOL = { 'grpc.use_local_subchannel_pool': 1 };

export async function channelPerRequest({ quick, lab, say }: ExperimentContext): Promise<ExperimentResult> {
  const figures: Record<string, number> = {};
  const asked = identityRequest(512);
  const [plain, secure] = [await lab.plain(), await lab.secure()];
  for (const [label, { grpcPort, httpPort, ca }] of Object.entries({ plain, tls: secure })) {
    const rounds = { requests: quick ? 10 : 25, rounds: quick ? 3 : 7 };
    await measure(label, { port: grpcPort, ca }, { port: httpPort, ca }, asked, rounds, figures);
    const proxies = await Promise.all(
      [grpcPort, httpPort].map((port) => startProxy({ backend: () => port, roundTripMs: ROUND_TRIP_MS })),
    );
    try {
      const [grpc, http] = proxies.map(({ port }) => ({ port, ca })) as [Target, Target];
      const slower = { requests: quick ? 2 : 4, rounds: quick ? 2 : 5 };
      await measure(`${label}_rtt10`, grpc, http, asked, slower, figures);
    } finally {
      for (const proxy of proxies) proxy.close();
    }
  }
  for (const label of ['plain', 'plain_rtt10', 'tls', 'tls_rtt10']) {
    figures[`${label}_tax_ms`] = figures[`${label}_new_channel_ms`]! - figures[`${label}_kept_ms`]!;
    figures[`${label}_h1_tax_ms`] = figures[`${label}_h1_new_connection_ms`]! - figures[`${label}_h1_kept_ms`]!;
  }
  say(`a new channel costs ${figures.plain_tax_ms!.toFixed(1)} ms, with TLS ${figures.tls_tax_ms!.toFixed(1)} ms`);
  figures.connections_of_ten = await connectionsOfTen(plain.grpcPort, asked);
  return {
    name: 'channel_per_request',
    figures,
    method:
      'Requests of 2 KB one after another: on one channel of grpc-js that is kept and on a new one each; and over HTTP/1.1 on a kept and on a new connection each. tax: new less kept. ' +
      `rtt10: through a proxy with a round trip of ${ROUND_TRIP_MS} ms. TLS 1.3 without tickets, a certificate on P-256 signed by one authority. ` +
      'No name is resolved.',
  };
}

async function measure(
  label: string,
  grpc: Target,
  http: Target,
  asked: Asked,
  { requests, rounds }: { requests: number; rounds: number },
  figures: Record<string, number>,
): Promise<void> {
  const message = unframed(asked.frame);
  const overGrpc = (caller: Caller) => caller.call(asked.grpcPath, message);
  const overRest = (caller: Caller) => caller.call(asked.restPath, asked.binary, asked.binaryHeaders);
  const series = async (one: () => Promise<unknown>): Promise<Sample> => {
    const began = performance.now();
    for (let i = 0; i < requests; i++) await one();
    return { ms: (performance.now() - began) / requests };
  };
  const closing = async (caller: Caller, ask: (caller: Caller) => Promise<unknown>): Promise<void> => {
    try {
      await ask(caller);
    } finally {
      caller.close();
    }
  };
  const rest = (keepAlive: boolean) => restCaller({ ...http, connections: 1, keepAlive });
  const [channel, connection, oneByOne] = [channelCaller(grpc, OWN_POOL), rest(true), rest(false)];
  try {
    const medians = await byTurns(
      {
        kept: () => series(() => overGrpc(channel)),
        new_channel: () => series(() => closing(channelCaller(grpc), overGrpc)),
        h1_kept: () => series(() => overRest(connection)),
        h1_new_connection: () => series(() => overRest(oneByOne)),
      },
      { rounds },
    );
    for (const [name, value] of Object.entries(medians)) figures[`${label}_${name}`] = value;
  } finally {
    for (const caller of [channel, connection, oneByOne]) caller.close();
  }
}

/** Connections that ten channels open which are made, used and closed one after another. */
async function connectionsOfTen(port: number, asked: Asked): Promise<number> {
  const proxy = await startProxy({ backend: () => port });
  try {
    for (let i = 0; i < 10; i++) {
      const caller = channelCaller({ port: proxy.port });
      await caller.call(asked.grpcPath, unframed(asked.frame));
      caller.close();
    }
    return proxy.connections();
  } finally {
    proxy.close();
  }
}
