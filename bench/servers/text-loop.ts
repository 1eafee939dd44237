/**
 * What ONNX Runtime alone can do with texts: `session.run` over given batches of token tensors, on a number of threads.
 *
 * Started by `bench/text.ts` as a process of its own and driven over IPC: a TextLoopRequest in, a TextLoopReply out. Nothing is
 * tokenized and nothing pooled; each thread has a session of one intra-op thread.
 */
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

export interface TextLoopRequest {
  readonly model: string;
  readonly threads: number;
  /** Rows and padded tokens of each batch; run in this order, over and over. */
  readonly batches: readonly (readonly [rows: number, tokens: number])[];
  readonly ms: number;
}

export interface TextLoopReply {
  readonly textsPerSecond: number;
}

if (isMainThread) {
  const workers: Worker[] = [];
  process.on('message', async (request: TextLoopRequest) => {
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
    process.send!({ textsPerSecond: rates.reduce((sum, rate) => sum + rate, 0) } satisfies TextLoopReply);
  });
  // No thread is inside ONNX Runtime once a reply is out, so that ending here is safe.
  process.once('disconnect', () => process.exit(0));
  process.send!('ready');
} else {
  const { InferenceSession, Tensor } = await import('onnxruntime-node');
  const sessions = new Map<string, Awaited<ReturnType<typeof InferenceSession.create>>>();
  parentPort!.on('message', async ({ model, batches, ms }: TextLoopRequest) => {
    let session = sessions.get(model);
    if (!session) {
      session = await InferenceSession.create(model, {
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        logSeverityLevel: 4,
      });
      sessions.set(model, session);
    }
    const tensor = (rows: number, tokens: number, value: bigint) =>
      new Tensor('int64', new BigInt64Array(rows * tokens).fill(value), [rows, tokens]);
    const feeds = batches.map(([rows, tokens]) => ({
      input_ids: tensor(rows, tokens, 5n),
      attention_mask: tensor(rows, tokens, 1n),
      token_type_ids: tensor(rows, tokens, 0n),
    }));
    await session.run(feeds[0]!);
    const began = performance.now();
    let texts = 0;
    let elapsed = 0;
    for (let i = 0; elapsed < ms; i = (i + 1) % batches.length) {
      await session.run(feeds[i]!);
      texts += batches[i]![0];
      elapsed = performance.now() - began;
    }
    parentPort!.postMessage((texts / elapsed) * 1000);
  });
}
