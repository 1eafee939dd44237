/**
 * How far is this server from the floor, a grpc-js echo that computes nothing?
 *
 * Three servers answer the same requests in turns: tensorwire with an identity model and everything on, a bare grpc-js echo tuned the
 * same way, and the echo that people write (proto-loader, stock settings). The figure is CPU per request of the serving process.
 */

import { median } from '../src/bench/statistics.js';
import { identityModel, writeModel } from '../test/support/onnx.js';
import { pinnedTo, pinningSentence, SERVER_CPU } from './affinity.js';
import { bytesOf, floats, grpcBody, MODEL_INFER, outputBytes } from './grpc-body.js';
import { type Arm, interleave, medianRatio, ratioSpan } from './interleave.js';
import { type Concurrency, load, loadWithCpu, requestsFor, type Target } from './load.js';
import { bodyFile, servingFlags, startPeer, startTensorwire, workDirectory } from './peer.js';
import { assertBytes, GRPC_HEADERS, probeGrpc } from './probe.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';

type Server = 'tensorwire' | 'tuned' | 'stock';

interface Running {
  readonly name: Server;
  readonly pid: number;
  readonly port: number;
  stop(): Promise<void>;
}

const SIZES_KB = [0.1, 2, 10, 100, 500, 1000];
const WARM_UP_KB = 2;
const TOGETHER: Concurrency = { connections: 4, streams: 4 };
const ALONE: Concurrency = { connections: 1, streams: 1 };

export const floor: Bench = {
  name: 'floor',
  question: 'CPU per gRPC request against a tuned and a stock grpc-js echo, from 0.1 KB to 1 MB',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const directory = workDirectory();
  const servers = await start(directory);
  const timing = quick ? { rounds: 3, seconds: 0.25, warmUp: 8_000 } : { rounds: 7, seconds: 0.6, warmUp: 64_000 };
  const figures: Record<string, number> = {};
  say(pinningSentence());
  say(
    '  size        at a time   tensorwire (main thread)       tuned     stock   CPU us/request     ratio (span)   speed-up',
  );
  try {
    for (const server of servers) {
      const small = await target(server, WARM_UP_KB, directory);
      await load(small, { ...TOGETHER, requests: timing.warmUp, pin: true });
    }
    for (const kb of SIZES_KB) {
      const targets = await Promise.all(servers.map((server) => target(server, kb, directory)));
      await together(targets, kb, timing, figures);
      await alone(
        targets.filter(({ name }) => name !== 'stock'),
        kb,
        timing,
        figures,
      );
    }
  } finally {
    for (const server of servers) await server.stop();
  }
  return figures;
}

interface Timing {
  readonly rounds: number;
  readonly seconds: number;
  /** Requests before anything is measured: V8 compiles what runs often, late. */
  readonly warmUp: number;
}

async function together(targets: readonly NamedTarget[], kb: number, timing: Timing, figures: Record<string, number>) {
  const { cpu, main } = await measure(targets, TOGETHER, timing);
  const ratio = medianRatio(cpu.tensorwire, cpu.tuned);
  const speedup = medianRatio(cpu.stock, cpu.tensorwire);
  figures[`cpu_ratio_${kb}k`] = ratio;
  figures[`speedup_${kb}k`] = speedup;
  line(kb, 16, cpu, main, ratio, speedup);
}

async function alone(targets: readonly NamedTarget[], kb: number, timing: Timing, figures: Record<string, number>) {
  const { cpu, main } = await measure(targets, ALONE, timing);
  const ratio = medianRatio(cpu.tensorwire, cpu.tuned);
  figures[`cpu_ratio_${kb}k_alone`] = ratio;
  line(kb, 1, cpu, main, ratio);
}

async function measure(targets: readonly NamedTarget[], concurrency: Concurrency, { rounds, seconds }: Timing) {
  const main: number[] = [];
  const arms: Arm<Server>[] = [];
  for (const each of targets) {
    const options = { ...concurrency, pin: true };
    const requests = await requestsFor(seconds, each, options);
    arms.push({
      name: each.name,
      measure: async () => {
        const { cpuUs, mainUs } = await loadWithCpu(each, { ...options, requests });
        if (each.name === 'tensorwire') main.push(mainUs);
        return cpuUs;
      },
    });
  }
  return { cpu: await interleave(arms, { rounds, warmUp: 1 }), main: median(main) };
}

type NamedTarget = Target & { readonly name: Server };

/** Checks that `server` answers a body of this size rightly, and says how to load it. */
async function target({ name, pid, port }: Running, kb: number, directory: string): Promise<NamedTarget> {
  const data = floats(kb * 250);
  const body = grpcBody({ model: 'identity', shape: [1, data.length], data });
  const origin = `http://127.0.0.1:${port}`;
  const reply = await probeGrpc(origin, MODEL_INFER, body);
  assertBytes(`${name}, ${kb} KB`, outputBytes(reply), bytesOf(data));
  return {
    name,
    pid,
    protocol: 'h2',
    url: `${origin}${MODEL_INFER}`,
    bodyFile: bodyFile(directory, `${kb}k`, body),
    headers: GRPC_HEADERS,
    replyBytes: reply.length,
  };
}

function start(directory: string): Promise<Running[]> {
  const config = 'max_batch_size: 32\ndynamic_batching { }\n';
  writeModel(directory, 'identity', { config, versions: { 1: identityModel('FP32', ['n']) } });
  return pinnedTo(SERVER_CPU, async () => {
    const { server, pid, stop } = await startTensorwire(directory);
    return [
      { name: 'tensorwire', pid, port: server.grpcPort, stop },
      { name: 'tuned', ...(await startPeer('servers/grpc-tuned.ts', servingFlags())) },
      { name: 'stock', ...(await startPeer('servers/grpc-stock.ts', [])) },
    ];
  });
}

function line(
  kb: number,
  inFlight: number,
  cpu: Record<Server, number[]>,
  main: number,
  ratio: number,
  speedup?: number,
) {
  const us = (numbers?: readonly number[]): string => (numbers ? median(numbers).toFixed(0) : '-').padStart(9);
  const span = `${ratio.toFixed(2)} (${ratioSpan(cpu.tensorwire, cpu.tuned)})`;
  say(
    `${String(kb).padStart(6)} KB ${String(inFlight).padStart(12)} ${us(cpu.tensorwire)} ${`(${main.toFixed(0)})`.padStart(10)} ${us(cpu.tuned)} ${us(cpu.stock)}   ${span.padStart(22)} ${speedup?.toFixed(2) ?? ''}`,
  );
}
