/**
 * How soon does a started server answer, and what does one more worker cost in memory?
 *
 * `start_ms`: from spawning `node dist/main.js` with the models that come with it to the first answered ModelInfer. `worker_mb`: what
 * the third worker adds to the second for a model of 100 MB, each having run it. One worker alone holds the weights itself, two and
 * more share them, so the second's price (`worker_mb_second`) says something else and may be negative. The cache of shared weights is
 * filled by the first start; its price is printed, and the later start is measured.
 */

import { join } from 'node:path';
import { median } from '../src/bench/statistics.js';
import { bigModel, writeModel } from '../test/support/onnx.js';
import { floats, grpcBody, MODEL_INFER, outputBytes } from './grpc-body.js';
import { startTensorwire, workDirectory } from './peer.js';
import { assertBytes, probeGrpc } from './probe.js';
import { proportionalMb } from './process-cpu.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';

export const start: Bench = {
  name: 'start',
  question: 'milliseconds from process start to the first answer, and memory of a further worker for a 100 MB model',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const startMs = await firstAnswerMs(quick ? 3 : 9);
  const [one, two, three] = await workerMemory();
  return {
    start_ms: startMs,
    worker_mb: three - two,
    worker_mb_second: two - one,
  };
}

async function firstAnswerMs(starts: number): Promise<number> {
  const repository = join(import.meta.dirname, '../models');
  const data = Float32Array.from({ length: 64 }, (_, i) => i % 17);
  const body = grpcBody({ model: 'digits', input: 'image', shape: [1, 64], data });
  const milliseconds: number[] = [];
  // The first one also warms up the disk's cache and this process; it is dropped.
  for (let i = 0; i <= starts; i++) {
    const began = performance.now();
    const { server, stop } = await startTensorwire(repository);
    outputBytes(await probeGrpc(`http://127.0.0.1:${server.grpcPort}`, MODEL_INFER, body));
    if (i > 0) milliseconds.push(performance.now() - began);
    await stop();
  }
  const sorted = milliseconds.map((ms) => ms.toFixed(0)).sort((a, b) => Number(a) - Number(b));
  say(`start to first answer, ms: ${sorted.join(' ')}`);
  return median(milliseconds);
}

/** Memory of the serving process with one, two and three workers, in MB. */
async function workerMemory(): Promise<[number, number, number]> {
  const repository = workDirectory();
  const cache = workDirectory();
  writeModel(repository, 'big', { config: 'max_batch_size: 1\n', versions: { 1: bigModel(100) } });
  const data = floats(1024);
  const body = grpcBody({ model: 'big', shape: [1, 1024], data });
  let expected: Uint8Array | undefined;
  const memory: number[] = [];
  for (const workers of [1, 2, 3]) {
    const args = ['--model-cache-directory', cache, '--worker-count', String(workers), '--intra-op-thread-count', '1'];
    const seconds: string[] = [];
    let mb = 0;
    for (const attempt of ['first', 'second']) {
      const began = performance.now();
      const { server, pid, stop } = await startTensorwire(repository, args);
      seconds.push(`${attempt} start ${((performance.now() - began) / 1000).toFixed(2)} s`);
      // Each takes milliseconds, so that this many at once keep every worker busy.
      for (let round = 0; round < 3; round++) {
        const asks = Array.from({ length: 4 * workers }, () =>
          probeGrpc(`http://127.0.0.1:${server.grpcPort}`, MODEL_INFER, body),
        );
        for (const reply of await Promise.all(asks)) {
          const answer = outputBytes(reply);
          expected ??= answer;
          assertBytes(`big with ${workers} workers`, answer, expected);
        }
      }
      mb = proportionalMb(pid);
      await stop();
    }
    say(`${workers} worker(s): ${mb.toFixed(0)} MB, ${seconds.join(', ')}`);
    memory.push(mb);
  }
  return memory as [number, number, number];
}
