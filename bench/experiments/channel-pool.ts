/**
 * What do ten channels gain over one, and do ten channels have ten connections?
 *
 * One experiment of `run.ts`. grpc-js as the client, 64 requests in flight, closed loop, for three sizes. Channels of grpc-js to one
 * address share one connection unless each has a pool of subchannels of its own; connections are counted in the kernel's table of
 * sockets. Client and server share this machine's cores, so a gain that more cores would bring doesn't show.
 */
import { readFileSync } from 'node:fs';
import type { ExperimentResult } from '../../src/bench/results.js';
import { type Caller, channelCaller, unframed } from './callers.js';
import { byTurns, type ExperimentContext, quantile, type Sample } from './experiment.js';
import { identityRequest } from './payloads.js';

const IN_FLIGHT = 64;
const CHANNELS = 10;
const SIZES_KB = [2, 100, 1000] as const;
const OWN_POOL = { 'grpc.use_local_subchannel_pool': 1 };

export async function channelPool({ quick, lab, say }: ExperimentContext): Promise<ExperimentResult> {
  const { grpcPort: port } = await lab.plain();
  const many = (options: object) => Array.from({ length: CHANNELS }, () => channelCaller({ port }, options));
  const figures: Record<string, number> = {};
  const arms: Record<string, Caller[]> = {};
  const small = identityRequest(16);
  // One arm after the other, so that each one's connections can be told from those before.
  for (const [name, open] of Object.entries({
    one: () => [channelCaller({ port })],
    ten_shared: () => many({}),
    ten_own: () => many(OWN_POOL),
  })) {
    const before = connectionsTo(port);
    arms[name] = open();
    for (const channel of arms[name]) await channel.call(small.grpcPath, unframed(small.frame));
    figures[`${name}_connections`] = connectionsTo(port) - before;
  }
  // The first arm's connection is the one that shared channels find; alone they would open one, too.
  figures.ten_shared_connections = Math.max(1, figures.ten_shared_connections!);
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
      'a connection each, in turn among the channels; prepared messages of 2, 100 and 1000 KB, answered with as much. Connections by the ' +
      "kernel's table.",
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

/** Established connections whose server's side is `port` here. */
export function connectionsTo(port: number): number {
  const local = new RegExp(`^ *\\d+: [0-9A-F]+:${port.toString(16).toUpperCase().padStart(4, '0')} [0-9A-F:]+ 01 `);
  return ['tcp', 'tcp6']
    .flatMap((table) => readFileSync(`/proc/net/${table}`, 'latin1').split('\n'))
    .filter((line) => local.test(line)).length;
}
