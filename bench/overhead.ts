/**
 * What do the latency budget and tracing cost a small request?
 *
 * The same server four times, with an identity model and 2 KB in and out, 16 requests at a time, on both protocols: plain (no budget, so
 * no metrics or advice of requests either), as users start it, with 10 % of its requests traced, with all of them. A collector takes
 * what is traced, on the CPU of the load. The figures are shares of throughput: the server has one CPU and fills it, so its throughput
 * is one over its CPU time per request, which other programs on the machine disturb far less than requests per second.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { identityModel, writeModel } from '../test/support/onnx.js';
import { pinnedTo, pinningSentence, SERVER_CPU } from './affinity.js';
import { bytesOf, floats, grpcBody, MODEL_INFER, outputBytes } from './grpc-body.js';
import { type Arm, interleave, median, medianRatio, ratioSpan } from './interleave.js';
import { type Concurrency, load, loadWithCpu, requestsFor, type Target } from './load.js';
import { bodyFile, startTensorwire, workDirectory } from './peer.js';
import { assertBytes, GRPC_HEADERS, probeGrpc, probeHttp } from './probe.js';
import { binaryOutput, restBody } from './rest-body.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';

const ARMS = ['plain', 'default', 'tracing_10', 'tracing_100'] as const;
type ArmName = (typeof ARMS)[number];
type Running = Awaited<ReturnType<typeof startTensorwire>>;

const ELEMENTS = 500;
const PROTOCOLS: readonly { name: 'grpc' | 'rest'; load: Concurrency }[] = [
  { name: 'grpc', load: { connections: 4, streams: 4 } },
  { name: 'rest', load: { connections: 16, streams: 1 } },
];

export const overhead: Bench = {
  name: 'overhead',
  question: 'throughput at 2 KB with the latency budget off, on, and with 10 % and all of the requests traced',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const directory = workDirectory();
  const config = 'max_batch_size: 32\ndynamic_batching { }\n';
  writeModel(directory, 'identity', { config, versions: { 1: identityModel('FP32', ['n']) } });
  const timing = quick ? { rounds: 7, seconds: 0.3, warmUp: 10_000 } : { rounds: 31, seconds: 0.6, warmUp: 64_000 };
  const collector = await startCollector();
  const servers = await pinnedTo(SERVER_CPU, () => startServers(directory, collector.endpoint));
  const figures: Record<string, number> = {};
  const worst = { budget: -1, tracing: -1 };
  say(pinningSentence());
  say('  CPU us/request   plain   default   10 % traced   all traced   budget costs   10 % costs (ratios)   all costs');
  try {
    for (const protocol of PROTOCOLS) {
      const arms: Arm<ArmName>[] = [];
      for (const name of ARMS) arms.push(await armOf(name, servers[name], { protocol, directory, timing }));
      const cpu = await interleave(arms, { rounds: timing.rounds, warmUp: 2 });
      const cost = (of: ArmName, against: ArmName): number => 1 - medianRatio(cpu[against], cpu[of]);
      const budget = cost('default', 'plain');
      const tracing = cost('tracing_10', 'default');
      const all = cost('tracing_100', 'default');
      figures[`${protocol.name}_budget_cost`] = budget;
      figures[`${protocol.name}_tracing_cost`] = tracing;
      figures[`${protocol.name}_tracing_all_cost`] = all;
      worst.budget = Math.max(worst.budget, budget);
      worst.tracing = Math.max(worst.tracing, tracing);
      const us = (name: ArmName): string => median(cpu[name]).toFixed(1);
      const percent = (share: number): string => `${(100 * share).toFixed(1)} %`.padStart(8);
      say(
        `  ${protocol.name} ${us('plain').padStart(17)} ${us('default').padStart(9)} ${us('tracing_10').padStart(13)} ${us('tracing_100').padStart(12)} ${percent(budget).padStart(14)} ${percent(tracing).padStart(12)} (${ratioSpan(cpu.tracing_10, cpu.default)}) ${percent(all)}`,
      );
    }
  } finally {
    for (const server of Object.values(servers)) await server.stop();
    collector.close();
  }
  say(`the collector got ${collector.requests} requests of ${(collector.bytes / 1e6).toFixed(0)} MB`);
  return { budget_cost: worst.budget, tracing_cost: worst.tracing, ...figures };
}

async function startServers(directory: string, endpoint: string): Promise<Record<ArmName, Running>> {
  const tracing = (ratio: string): Record<string, string> => ({
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_TRACES_SAMPLER: 'parentbased_traceidratio',
    OTEL_TRACES_SAMPLER_ARG: ratio,
  });
  const off = { OTEL_SDK_DISABLED: 'true' };
  return {
    plain: await startTensorwire(directory, ['--latency-budget', 'false'], off),
    default: await startTensorwire(directory, [], off),
    tracing_10: await startTensorwire(directory, [], tracing('0.1')),
    tracing_100: await startTensorwire(directory, [], tracing('1')),
  };
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
  protocol: 'grpc' | 'rest',
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
