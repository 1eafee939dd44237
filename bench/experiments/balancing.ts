/**
 * Three replicas behind a balancer that sees connections alone: which share of the requests does the busiest get?
 *
 * One experiment of `run.ts`. Four clients, one of which sends eight times as much as each of the others, and twelve alike. Over gRPC
 * with one connection each, over REST with keep-alive (as many connections as requests in flight) and with a connection for each
 * request, with the client's own round robin over the replicas, and with the article's remedy, affinity by the client's address, which
 * binds all of a client's connections to one replica. Requests are counted by the replicas' own statistics.
 */
import type { ExperimentResult } from '../../src/bench/results.js';
import { BenchError } from '../result.js';
import { type Caller, channelCaller, restCaller, unframed } from './callers.js';
import type { ExperimentContext } from './experiment.js';
import type { Served } from './lab.js';
import { identityRequest } from './payloads.js';
import { startProxy, type TcpProxy } from './tcp-proxy.js';

const REPLICAS = 3;
const UNEQUAL = [8, 1, 1, 1];
const EQUAL = new Array<number>(12).fill(1);
/** Or channels of different clients, all in one process here, would share connections. */
const OWN_POOL = { 'grpc.use_local_subchannel_pool': 1 };
const POOL = 10;

type Protocol = 'grpcPort' | 'httpPort';
type Choose = (client: number) => number;

export async function balancing({ quick, lab, say }: ExperimentContext): Promise<ExperimentResult> {
  const replicas = await Promise.all(Array.from({ length: REPLICAS }, () => lab.replica()));
  const requests = quick ? 30 : 200;
  const rest = (connections: number, keepAlive: boolean) => (port: number) =>
    restCaller({ port, connections, keepAlive });
  const channel = (port: number) => channelCaller({ port }, OWN_POOL);
  const measure = (weights: readonly number[], protocol: Protocol, open: (port: number) => Caller, choose: Chooser) =>
    shareOfBusiest({ replicas, weights, requests, protocol, open, choose });
  try {
    const figures: Record<string, number> = {
      grpc_unequal: await measure(UNEQUAL, 'grpcPort', channel, roundRobin),
      grpc_least_connections_unequal: await measure(UNEQUAL, 'grpcPort', channel, leastConnections),
      grpc_equal: await measure(EQUAL, 'grpcPort', channel, roundRobin),
      grpc_pool_unequal: await measure(UNEQUAL, 'grpcPort', pooled, roundRobin),
      grpc_affinity_unequal: await measure(UNEQUAL, 'grpcPort', channel, byClient),
      grpc_pool_affinity_unequal: await measure(UNEQUAL, 'grpcPort', pooled, byClient),
      grpc_affinity_one_address: await measure(UNEQUAL, 'grpcPort', channel, byOneAddress),
      grpc_client_round_robin: await clientRoundRobin(replicas, requests),
      rest_keep_alive_unequal: await measure(UNEQUAL, 'httpPort', rest(64, true), roundRobin),
      rest_one_connection_unequal: await measure(UNEQUAL, 'httpPort', rest(1, true), roundRobin),
      rest_new_connections_unequal: await measure(UNEQUAL, 'httpPort', rest(64, false), roundRobin),
      even: 1 / REPLICAS,
    };
    const percent = (name: string) => `${(100 * figures[name]!).toFixed(0)} %`;
    say(
      `busiest of three: ${percent('grpc_unequal')} by connections, ${percent('grpc_client_round_robin')} by the client's round robin, ` +
        `${percent('rest_keep_alive_unequal')} REST with keep-alive`,
    );
    return {
      name: 'balancing',
      figures,
      method:
        'Share of the busiest of three replicas, by their own counts. Clients of weights 8, 1, 1, 1 (unequal), with as many requests in flight, ' +
        'or twelve alike (equal), through a TCP balancer: round robin or least connections, or by affinity to the client. pool: ' +
        `${POOL} connections for each client. one_address: all clients behind one address, as behind a NAT.`,
    };
  } finally {
    for (const { stop } of replicas) await stop();
  }
}

/** A channel pool of one client. */
function pooled(port: number): Caller {
  const channels = Array.from({ length: POOL }, () => channelCaller({ port }, OWN_POOL));
  let next = 0;
  return {
    call: (path, body, headers) => channels[next++ % POOL]!.call(path, body, headers),
    close: () => {
      for (const one of channels) one.close();
    },
  };
}

/** Which replica a new connection of a client goes to; `open` are the connections that each has now. */
type Chooser = (open: number[]) => Choose;

const roundRobin: Chooser = () => {
  let next = 0;
  return () => next++ % REPLICAS;
};
const leastConnections: Chooser = (open) => () => open.indexOf(Math.min(...open));
/** Each client's address in turn to a replica, and there it stays: the fairest that affinity can be. */
const byClient: Chooser = () => (client) => client % REPLICAS;
const byOneAddress: Chooser = () => () => 0;

interface Scene {
  readonly replicas: readonly Served[];
  readonly weights: readonly number[];
  readonly requests: number;
  readonly protocol: Protocol;
  readonly open: (port: number) => Caller;
  readonly choose: Chooser;
}

async function shareOfBusiest({ replicas, weights, requests, protocol, open, choose }: Scene): Promise<number> {
  const connections = new Array<number>(REPLICAS).fill(0);
  const pick = choose(connections);
  const ports = replicas.map((replica) => replica[protocol]);
  const proxies: TcpProxy[] = [];
  const callers: Caller[] = [];
  try {
    // A port of the balancer for each client stands for its address.
    for (const client of weights.keys()) {
      const backend = (): number => {
        const chosen = pick(client);
        connections[chosen]!++;
        return ports[chosen]!;
      };
      proxies.push(await startProxy({ backend, closed: (port) => void connections[ports.indexOf(port)]!-- }));
    }
    callers.push(...proxies.map(({ port }) => open(port)));
    return await busiest(replicas, () => ask(callers, weights, requests, protocol));
  } finally {
    for (const caller of callers) caller.close();
    for (const proxy of proxies) proxy.close();
  }
}

/** grpc-js's own round robin over the replicas' addresses: one connection to each, calls in turn. */
async function clientRoundRobin(replicas: readonly Served[], requests: number): Promise<number> {
  const target = `ipv4:${replicas.map(({ grpcPort }) => `127.0.0.1:${grpcPort}`).join(',')}`;
  const serviceConfig = JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] });
  const options = { ...OWN_POOL, 'grpc.service_config': serviceConfig };
  const callers = UNEQUAL.map(() => channelCaller({ port: 0 }, options, target));
  try {
    // The first calls go to the replica that is connected first; those don't count.
    await ask(callers, UNEQUAL, 20, 'grpcPort');
    return await busiest(replicas, () => ask(callers, UNEQUAL, requests, 'grpcPort'));
  } finally {
    for (const caller of callers) caller.close();
  }
}

/** Every client sends `requests` times its weight, with as many in flight as its weight. */
async function ask(callers: readonly Caller[], weights: readonly number[], requests: number, protocol: Protocol) {
  const { grpcPath, frame, restPath, json } = identityRequest(16);
  const message = unframed(frame);
  const one = (caller: Caller) =>
    protocol === 'grpcPort' ? caller.call(grpcPath, message) : caller.call(restPath, json);
  const lanes = callers.flatMap((caller, client) => new Array<Caller>(weights[client]!).fill(caller));
  await Promise.all(
    lanes.map(async (caller) => {
      for (let i = 0; i < requests; i++) await one(caller);
    }),
  );
}

async function busiest(replicas: readonly Served[], load: () => Promise<void>): Promise<number> {
  const before = await Promise.all(replicas.map(served));
  await load();
  const counts = (await Promise.all(replicas.map(served))).map((count, i) => count - before[i]!);
  return Math.max(...counts) / counts.reduce((sum, count) => sum + count, 0);
}

/** Requests that a replica has answered so far, by its statistics. */
async function served({ httpPort }: Served): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/v2/models/identity/stats`);
  if (!response.ok) throw new BenchError(`statistics of a replica: status ${response.status}`);
  const { model_stats } = (await response.json()) as {
    model_stats: readonly { readonly inference_stats: { readonly success: { readonly count: number } } }[];
  };
  return Number(model_stats[0]!.inference_stats.success.count);
}
