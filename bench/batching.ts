/**
 * What does dynamic batching gain, and how much of ONNX Runtime's own speed reaches the clients?
 *
 * A multi-layer perceptron of 117 MB of weights, 59 MFLOP a row, is asked 64 requests of one row at a time: served with dynamic
 * batching, served without, and run by a bare `session.run` loop at its best batch size on as many threads as the server has workers.
 * The three take turns and never run at the same time. Half of the cores are workers: the front end and the load need the others.
 */

import { copyFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { median } from '../src/bench/statistics.js';
import { mlpModel, writeModel } from '../test/support/onnx.js';
import { converse } from './conversation.js';
import { floats, grpcBody, MODEL_INFER, outputBytes } from './grpc-body.js';
import { interleave, medianRatio } from './interleave.js';
import { load, requestsFor, type Target } from './load.js';
import { bodyFile, startTensorwire, workDirectory } from './peer.js';
import { assertBytes, GRPC_HEADERS, probeGrpc } from './probe.js';
import { type Bench, BenchError, type BenchOptions, type Figures, say } from './result.js';
import type { LoopReply, LoopRequest } from './servers/raw-loop.js';

const MODEL = { inputs: 256, hidden: 3072, layers: 4, outputs: 64 };
const MAX_BATCH = 32;
const BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64];
const LOAD = { connections: 4, streams: 16, pin: false };

export const batching: Bench = {
  name: 'batching',
  question: 'rows per second with dynamic batching, without it, and in a bare session.run loop',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const timing = quick ? { rounds: 3, seconds: 2 } : { rounds: 7, seconds: 4 };
  const threads = Math.max(1, Math.floor(availableParallelism() / 2));
  const directory = workDirectory();
  const model = writeModels(directory);
  const workers = ['--worker-count', String(threads), '--intra-op-thread-count', '1'];
  const { server, pid, stop } = await startTensorwire(directory, workers);
  const loop = converse<LoopRequest, LoopReply>('servers/raw-loop.ts');
  try {
    say(`${threads} worker(s) of 1 thread; 64 requests of one row at a time; max_batch_size ${MAX_BATCH}`);
    const { inputs, outputs } = MODEL;
    const raw = async (batch: number, seconds: number): Promise<number> =>
      (await loop.ask({ model, threads, batch, inputs, outputs, ms: seconds * 1000 })).rowsPerSecond;
    const best = await bestBatch(raw, quick ? 0.7 : 1.5);
    const arms = [];
    for (const name of ['batched', 'single'] as const) {
      const target = await targetOf(name, `http://127.0.0.1:${server.grpcPort}`, pid);
      const requests = await requestsFor(timing.seconds, target, LOAD);
      arms.push({ name, measure: async () => (await load(target, { ...LOAD, requests })).requestsPerSecond });
    }
    const rates = await interleave<'batched' | 'single' | 'raw'>(
      [...arms, { name: 'raw', measure: () => raw(best, timing.seconds) }],
      { rounds: timing.rounds, warmUp: 1 },
    );
    say(`with batching    ${median(rates.batched).toFixed(0)} rows/s`);
    say(`without          ${median(rates.single).toFixed(0)} rows/s`);
    say(`bare loop        ${median(rates.raw).toFixed(0)} rows/s at batch size ${best}`);
    return {
      batching_gain: medianRatio(rates.batched, rates.single),
      of_raw_loop: medianRatio(rates.batched, rates.raw),
    };
  } finally {
    loop.end();
    await stop();
  }
}

/** The same model twice, served with and without `dynamic_batching`; returns a file of it for the loop. */
function writeModels(directory: string): string {
  const bytes = mlpModel(MODEL);
  const versions = { 1: bytes };
  writeModel(directory, 'batched', { config: `max_batch_size: ${MAX_BATCH}\ndynamic_batching { }\n`, versions });
  // As in Triton, a model whose batches may be larger gets `dynamic_batching` when its configuration names no scheduler.
  const single = writeModel(directory, 'single', { config: 'max_batch_size: 1\n', versions });
  // Outside the repository, or the server would take it for a model.
  const copy = join(workDirectory(), 'model.onnx');
  copyFileSync(join(single, '1/model.onnx'), copy);
  return copy;
}

async function bestBatch(rate: (batch: number, seconds: number) => Promise<number>, seconds: number): Promise<number> {
  let best = 1;
  let bestRate = 0;
  const seen: string[] = [];
  for (const batch of BATCH_SIZES) {
    const rows = await rate(batch, seconds);
    seen.push(`${batch}: ${rows.toFixed(0)}`);
    if (rows > bestRate) [best, bestRate] = [batch, rows];
  }
  say(`bare loop, rows/s by batch size   ${seen.join('   ')}`);
  return best;
}

let firstAnswer: Uint8Array | undefined;

/** Both names must give the same answer: it is the same model. */
async function targetOf(name: string, origin: string, pid: number): Promise<Target> {
  const body = grpcBody({ model: name, shape: [1, MODEL.inputs], data: floats(MODEL.inputs) });
  const reply = await probeGrpc(origin, MODEL_INFER, body);
  const answer = outputBytes(reply);
  firstAnswer ??= answer;
  assertBytes(name, answer, firstAnswer);
  if (answer.length !== MODEL.outputs * 4 || answer.every((byte) => byte === 0)) {
    throw new BenchError(`${name}: an answer of ${answer.length} bytes is none of this model`);
  }
  const url = `${origin}${MODEL_INFER}`;
  const file = bodyFile(workDirectory(), name, body);
  return { name, url, pid, protocol: 'h2', bodyFile: file, headers: GRPC_HEADERS, replyBytes: reply.length };
}
