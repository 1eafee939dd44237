/**
 * What do the latency budget and tracing cost a small request?
 *
 * The same server three times, with an identity model and 2 KB in and out, 16 requests at a time, on both protocols: plain (no budget, so
 * no metrics or advice of requests either), as users start it, and with 10 % of its requests traced. A collector takes what is traced, on
 * the CPU of the load. The figures are shares of throughput: the server has one CPU and fills it, so its throughput is one over its CPU
 * time per request, which other programs on the machine disturb far less than requests per second. Two processes of one program differ
 * by up to a tenth in that, for as long as they live, so all three are started anew several times.
 */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { median } from '../src/bench/statistics.js';
import { identityModel, writeModel } from '../test/support/onnx.js';
import { pinnedTo, pinningSentence, SERVER_CPU } from './affinity.js';
import { bytesOf, floats, grpcBody, MODEL_INFER, outputBytes } from './grpc-body.js';
import { type Arm, interleave, medianRatio } from './interleave.js';
import { type Concurrency, load, loadWithCpu, requestsFor, type Target } from './load.js';
import { bodyFile, startTensorwire, workDirectory } from './peer.js';
import { assertBytes, GRPC_HEADERS, probeGrpc, probeHttp } from './probe.js';
import { binaryOutput, restBody } from './rest-body.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';

const ARMS = ['plain', 'default', 'tracing_10'] as const;
type ArmName = (typeof ARMS)[number];
type ProtocolName = 'grpc' | 'rest';
type Running = Awaited<ReturnType<typeof startTensorwire>>;

const ELEMENTS = 500;
const PROTOCOLS: readonly { name: ProtocolName; load: Concurrency }[] = [
  { name: 'grpc', load: { connections: 4, streams: 4 } },
  { name: 'rest', load: { connections: 16, streams: 1 } },
];

export const overhead: Bench = {
  name: 'overhead',
  question: 'throughput at 2 KB with the latency budget off, on, and with 10 % of the requests traced',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const directory = workDirectory();
  const config = 'max_batch_size: 32\ndynamic_batching { }\n';
  writeModel(directory, 'identity', { config, versions: { 1: identityModel('FP32', ['n']) } });
  const timing = quick
    ? { starts: 2, rounds: 4, seconds: 0.3, warmUp: 10_000 }
    : { starts: 7, rounds: 6, seconds: 0.5, warmUp: 40_000 };
  const collector = await startCollector();
  /** By protocol and arm, a median for each start. */
  const cpu = Object.fromEntries(
    PROTOCOLS.map(({ name }) => [name, Object.fromEntries(ARMS.map((arm) => [arm, [] as number[]]))]),
  ) as Record<ProtocolName, Record<ArmName, number[]>>;
  say(pinningSentence());
  say('  CPU us/request   plain   default   10 % traced');
  try {
    for (let start = 0; start < timing.starts; start++) {
      const servers = await pinnedTo(SERVER_CPU, () => startServers(directory, collector.endpoint, start));
      try {
        for (const protocol of PROTOCOLS) {
          const arms: Arm<ArmName>[] = [];
          for (const name of ARMS) arms.push(await armOf(name, servers[name], { protocol, directory, timing }));
          const measured = await interleave(arms, { rounds: timing.rounds, warmUp: 1 });
          for (const arm of ARMS) cpu[protocol.name][arm].push(median(measured[arm]));
          const us = (arm: ArmName): string => median(measured[arm]).toFixed(1);
          say(
            `  ${protocol.name} ${us('plain').padStart(17)} ${us('default').padStart(9)} ${us('tracing_10').padStart(13)}`,
          );
        }
      } finally {
        for (const server of Object.values(servers)) await server.stop();
      }
    }
  } finally {
    collector.close();
  }
  say(`the collector got ${collector.requests} requests of ${(collector.bytes / 1e6).toFixed(0)} MB`);
  const figures: Record<string, number> = {};
  for (const { name } of PROTOCOLS) {
    const cost = (of: ArmName, against: ArmName): number => 1 - medianRatio(cpu[name][against], cpu[name][of]);
    figures[`${name}_budget_cost`] = cost('default', 'plain');
    figures[`${name}_tracing_cost`] = cost('tracing_10', 'default');
  }
  const worst = (of: string): number => Math.max(...PROTOCOLS.map(({ name }) => figures[`${name}_${of}`]!));
  return { budget_cost: worst('budget_cost'), tracing_cost: worst('tracing_cost'), ...figures };
}

/** All three; which one is started first turns with `start`. */
async function startServers(directory: string, endpoint: string, start: number): Promise<Record<ArmName, Running>> {
  const off = { OTEL_SDK_DISABLED: 'true' };
  const traced = {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: '0.1',
  };
  const starters: Record<ArmName, () => Promise<Running>> = {
    plain: () => startTensorwire(directory, ['--latency-budget', 'false'], off),
    default: () => startTensorwire(directory, [], off),
    tracing_10: () => startTensorwire(directory, [], traced),
  };
  const running: Partial<Record<ArmName, Running>> = {};
  for (let i = 0; i < ARMS.length; i++) {
    const name = ARMS[(i + start) % ARMS.length]!;
    running[name] = await starters[name]();
  }
  return running as Record<ArmName, Running>;
}

interface ArmOptions {
  readonly protocol: (typeof PROTOCOLS)[number];
  readonly directory: string;
  readonly timing: { readonly seconds: number; readonly warmUp: number };
}

/** CPU per request of one server, which is warm when this resolves. */
async function armOf(
  name: ArmName,
  running: Running,
  { protocol, directory, timing }: ArmOptions,
): Promise<Arm<ArmName>> {
  const target = await targetOf(name, running, protocol.name, directory);
  const options = { ...protocol.load, pin: true };
  await load(target, { ...options, requests: timing.warmUp });
  const requests = await requestsFor(timing.seconds, target, options);
  return { name, measure: async () => (await loadWithCpu(target, { ...options, requests })).cpuUs };
}

/** Checks that the server answers rightly, and says how to load it. */
async function targetOf(
  name: ArmName,
  { server, pid }: Running,
  protocol: ProtocolName,
  directory: string,
): Promise<Target> {
  const data = floats(ELEMENTS);
  const request = { model: 'identity', shape: [1, ELEMENTS], data };
  if (protocol === 'grpc') {
    const body = grpcBody(request);
    const origin = `http://127.0.0.1:${server.grpcPort}`;
    const reply = await probeGrpc(origin, MODEL_INFER, body);
    assertBytes(name, outputBytes(reply), bytesOf(data));
    const common = { name, pid, headers: GRPC_HEADERS, replyBytes: reply.length };
    return { ...common, protocol: 'h2', url: `${origin}${MODEL_INFER}`, bodyFile: bodyFile(directory, 'grpc', body) };
  }
  const { body, headers } = restBody(request);
  const url = `http://127.0.0.1:${server.httpPort}/v2/models/identity/infer`;
  const reply = await probeHttp(url, headers, body);
  assertBytes(name, binaryOutput(reply), bytesOf(data));
  return {
    name,
    pid,
    headers,
    replyBytes: reply.length,
    protocol: 'h1',
    url,
    bodyFile: bodyFile(directory, 'rest', body),
  };
}

/** Takes whatever it is sent, reading it and no more. */
async function startCollector() {
  const taken = { requests: 0, bytes: 0 };
  const server = createServer((request, response) => {
    taken.requests++;
    request.on('data', (chunk: Buffer) => {
      taken.bytes += chunk.length;
    });
    request.on('end', () => response.writeHead(200).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return Object.assign(taken, { endpoint: `http://127.0.0.1:${port}`, close: () => server.close() });
}
