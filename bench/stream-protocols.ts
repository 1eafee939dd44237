/**
 * 100 tokens over the gRPC stream and over server-sent events: what is the difference?
 *
 * One engine, one model, one stream at a time and then eight, by turns. Total time, bytes on the wire, CPU time of the client and of the
 * server. The article that this server comes from claims 180 to 250 ms against 400 to 600; a model as fast as the one used here, about a
 * millisecond for a token, leaves the protocols nothing to hide behind.
 */

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { median } from '../src/bench/statistics.js';
import { startTensorwire, workDirectory } from './peer.js';
import { cpuTime } from './process-cpu.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';
import type { StreamsReply, StreamsRequest } from './servers/stream-clients.js';
import { eventStream, grpcStream, STREAMING_MODEL_INFER, startStreamClients } from './streams.js';

const TOKENS = 100;
const MODEL = 'stories';
const PROMPT = 'Once upon a time';

export const streamProtocols: Bench = {
  name: 'stream-protocols',
  question: '100 tokens over the gRPC stream and over server-sent events: time, bytes, CPU',
  run,
};

interface Sample {
  readonly totalMs: number;
  readonly bytes: number;
  readonly clientUs: number;
  readonly serverUs: number;
}

async function run({ quick }: BenchOptions): Promise<Figures> {
  const repository = workDirectory();
  cpSync(join(import.meta.dirname, '../models', MODEL), join(repository, MODEL), { recursive: true });
  const { server, pid, stop } = await startTensorwire(repository);
  const clients = startStreamClients();
  const generation = { model: MODEL, prompt: PROMPT, tokens: TOKENS };
  const completion = Buffer.from(
    JSON.stringify({
      model: MODEL,
      prompt: PROMPT,
      max_tokens: TOKENS,
      ignore_eos: true,
      temperature: 0,
      stream: true,
    }),
  ).toString('base64');
  const grpc = {
    protocol: 'grpc',
    origin: `http://127.0.0.1:${server.grpcPort}`,
    path: STREAMING_MODEL_INFER,
  } as const;
  const http = { protocol: 'sse', origin: `http://127.0.0.1:${server.httpPort}` } as const;
  const arms = {
    grpc: { ...grpc, one: grpcStream(generation) },
    sse: { ...http, path: `/v2/models/${MODEL}/generate_stream`, one: eventStream(generation) },
    openai: { ...http, path: '/v1/completions', one: { body: completion, atMs: 0, leaveAfter: 0 } },
  };
  type Name = keyof typeof arms;
  const names = Object.keys(arms) as Name[];
  const measure = async (name: Name, count: number, rounds: number): Promise<Sample> => {
    const { one, ...target } = arms[name];
    const request: StreamsRequest = { ...target, streams: Array.from({ length: count }, () => one), oneByOne: false };
    const before = cpuTime(pid).totalUs;
    const replies: StreamsReply[] = [];
    for (let i = 0; i < rounds; i++) replies.push(await clients.read(request));
    const serverUs = cpuTime(pid).totalUs - before;
    const tokens = rounds * count * TOKENS;
    const sum = (value: (reply: StreamsReply) => number) => replies.reduce((total, reply) => total + value(reply), 0);
    return {
      totalMs: median(replies.flatMap(({ streams }) => streams.map(({ endMs }) => endMs))),
      bytes: sum(({ bytesIn, bytesOut }) => bytesIn + bytesOut) / (rounds * count),
      clientUs: (sum(({ cpuMs }) => cpuMs) * 1000) / tokens,
      serverUs: serverUs / tokens,
    };
  };
  try {
    const figures: Record<string, number> = {};
    for (const count of [1, 8]) {
      const samples = Object.fromEntries(names.map((name) => [name, [] as Sample[]])) as Record<Name, Sample[]>;
      for (let round = -1; round < (quick ? 3 : 9); round++) {
        const order = round % 2 === 0 ? names : [...names].reverse();
        for (const name of order) {
          const sample = await measure(name, count, quick ? 3 : 10);
          if (round >= 0) samples[name].push(sample);
        }
      }
      const middle = (name: Name, key: keyof Sample) => median(samples[name].map((sample) => sample[key]));
      for (const name of names) {
        say(
          `${name.padEnd(6)} ${count} at once: ${middle(name, 'totalMs').toFixed(1)} ms for ${TOKENS} tokens, ` +
            `${middle(name, 'bytes').toFixed(0)} bytes, client ${middle(name, 'clientUs').toFixed(0)} us and ` +
            `server ${middle(name, 'serverUs').toFixed(0)} us of CPU a token`,
        );
      }
      const ratio = (key: keyof Sample) =>
        median(samples.sse.map((sample, round) => sample[key] / samples.grpc[round]![key]));
      figures[`sse_over_grpc_time_${count}`] = ratio('totalMs');
      figures[`sse_over_grpc_bytes_${count}`] = ratio('bytes');
      figures[`sse_over_grpc_client_cpu_${count}`] = ratio('clientUs');
      figures[`sse_over_grpc_server_cpu_${count}`] = ratio('serverUs');
      if (count === 1) figures.grpc_ms = middle('grpc', 'totalMs');
      if (count === 1) figures.sse_ms = middle('sse', 'totalMs');
    }
    return figures;
  } finally {
    clients.end();
    await stop();
  }
}
