/**
 * What ONNX Runtime alone can do: `session.run` in a loop on a number of threads, without a server around it.
 *
 * Started by `bench/batching.ts` as a process of its own and driven over IPC: `{ model, threads, batch, columns, ms }` in, rows per
 * second out. Inputs and outputs are preallocated, as the server does it; each thread has a session of one intra-op thread.
 */
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

export interface LoopRequest {
  readonly model: string;
  readonly threads: number;
  readonly batch: number;
  /** Features of INPUT0 and of OUTPUT0. */
  readonly inputs: number;
  readonly outputs: number;
  readonly ms: number;
}

export interface LoopReply {
  readonly rowsPerSecond: number;
}

if (isMainThread) {
  const workers: Worker[] = [];
  process.on('message', async (request: LoopRequest) => {
    while (workers.length < request.threads) workers.push(new Worker(new URL(import.meta.url)));
    const rates = await Promise.all(
      workers.map(
        (worker) =>
          new Promise<number>((resolve, reject) => {
            worker.once('error', reject);
            worker.once('message', (rate: number) => {
              worker.off('error', reject);
              resolve(rate);
            });
            worker.postMessage(request);
          }),
      ),
    );
    process.send!({ rowsPerSecond: rates.reduce((sum, rate) => sum + rate, 0) } satisfies LoopReply);
  });
  // No thread is inside ONNX Runtime once a reply is out, so that ending here is safe.
  process.once('disconnect', () => process.exit(0));
  process.send!('ready');
} else {
  const { InferenceSession, Tensor } = await import('onnxruntime-node');
  let session: Awaited<ReturnType<typeof InferenceSession.create>> | undefined;
  parentPort!.on('message', async ({ model, batch, inputs, outputs, ms }: LoopRequest) => {
    session ??= await InferenceSession.create(model, {
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      logSeverityLevel: 4,
    });
    const tensor = (columns: number) =>
      new Tensor('float32', new Float32Array(batch * columns).fill(0.5), [batch, columns]);
    const feeds = { INPUT0: tensor(inputs) };
    const fetches = { OUTPUT0: tensor(outputs) };
    await session.run(feeds, fetches);
    const began = performance.now();
    let rows = 0;
    let elapsed = 0;
    while (elapsed < ms) {
      await session.run(feeds, fetches);
      rows += batch;
      elapsed = performance.now() - began;
    }
    parentPort!.postMessage((rows / elapsed) * 1000);
  });
}
