/**
 * What do ten channels gain over one, and do ten channels have ten connections?
 *
 * One experiment of `run.ts`. grpc-js as the client, 64 requests in flight, closed loop, for three sizes. Channels of grpc-js to one
 * address share one connection unless each has a pool of subchannels of its own; connections are counted by a
 * proxy. Client and server share this machine's cores, so a gain that more cores would bring doesn't show.
 */

import type { ExperimentResult } from '../../src/bench/results.js';
import { quantile } from '../../src/bench/statistics.js';
import { type Caller, channelCaller, unframed } from './callers.js';
import { byTurns, type ExperimentContext, type Sample } from './experiment.js';
import { identityRequest } from './payloads.js';
import { startProxy } from './tcp-proxy.js';

const IN_FLIGHT = 64;
const CHANNELS = 10;
const SIZES_KB = [2, 100, 1000] as const;
const OWN_POOL = { 'grpc.use_local_subchannel_pool': 1 };

export async function channelPool({ quick, lab, say }: ExperimentContext): Promise<ExperimentResult> {
  const { grpcPort: port } = await lab.plain();
  const open = {
    one: (to: number) => [channelCaller({ port: to }, OWN_POOL)],
    ten_shared: (to: number) => many(to, {}),
    ten_own: (to: number) => many(to, OWN_POOL),
  };
  const figures: Record<string, number> = {};
  const arms: Record<string, Caller[]> = {};
  for (const [name, channels] of Object.entries(open)) {
    figures[`${name}_connections`] = await connectionsOf(port, channels);
    arms[name] = channels(port);
  }
  try {
    for (const kb of SIZES_KB) {
      const { grpcPath, frame } = identityRequest((kb * 1024) / 4);
      const message = unframed(frame);
      const runs = Object.entries(arms).map(([name, channels]) => {
        return [name, () => load(channels, grpcPath, message, quick ? 150 : 350)] as const;
      });
      const medians = await byTurns(Object.fromEntries(runs), { rounds: quick ? 2 : 9, against: 'one' });
      for (const [name, value] of Object.entries(medians)) figures[`${name}_${kb}k`] = value;
      say(
        `${kb} KB: one channel ${medians.one_per_second!.toFixed(0)}/s, ten with a connection each ` +
          `${medians.ten_own_per_second!.toFixed(0)}/s`,
      );
    }
  } finally {
    for (const channel of Object.values(arms).flat()) channel.close();
  }
  return {
    name: 'channel_pool',
    figures,
    method:
      `${IN_FLIGHT} requests in flight on one channel, on ${CHANNELS} that share their connections (grpc-js's default) and on ${CHANNELS} with ` +
      'a connection each, in turn among the channels; prepared messages of 2, 100 and 1000 KB, answered with as much. Connections counted by a proxy.',
  };
}

async function load(channels: readonly Caller[], path: string, message: Buffer, forMs: number): Promise<Sample> {
  const latencies: number[] = [];
  const began = performance.now();
  let next = 0;
  const client = async (): Promise<void> => {
    while (performance.now() - began < forMs) {
      const sent = performance.now();
      await channels[next++ % channels.length]!.call(path, message);
      latencies.push(performance.now() - sent);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, client));
  return {
    per_second: (latencies.length / (performance.now() - began)) * 1000,
    p50_ms: quantile(latencies, 0.5),
    p99_ms: quantile(latencies, 0.99),
  };
}

function many(port: number, options: object): Caller[] {
  return Array.from({ length: CHANNELS }, () => channelCaller({ port }, options));
}

/** Connections that these channels open when each is used. */
async function connectionsOf(port: number, open: (port: number) => Caller[]): Promise<number> {
  const { grpcPath, frame } = identityRequest(16);
  const proxy = await startProxy({ backend: () => port });
  const channels = open(proxy.port);
  try {
    for (const channel of channels) await channel.call(grpcPath, unframed(frame));
    return proxy.connections();
  } finally {
    for (const channel of channels) channel.close();
    proxy.close();
  }
}
