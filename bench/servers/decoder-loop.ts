/**
 * What ONNX Runtime alone can do with a decoder: `session.run` of one token in a loop, without a server around it.
 *
 * Started by `bench/stream.ts` as a process of its own and driven over IPC: a DecoderLoopRequest in, a DecoderLoopReply out. Shapes are
 * fixed and tensors are made once; of the outputs only the logits are fetched, and the likeliest token goes into the next step. Keys and
 * values stay as they were at first: carrying them on is what a server adds.
 */
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

export interface DecoderLoopRequest {
  /** Path of an ONNX file with optimum's names. */
  readonly model: string;
  /** Tokens that keys and values have room for. */
  readonly capacity: number;
  /** Tokens that are there at the first step, and how many steps follow. */
  readonly length: number;
  readonly steps: number;
  /** Times that this is done. */
  readonly rounds: number;
}

export interface DecoderLoopReply {
  readonly stepMs: number;
}

if (isMainThread) {
  let worker: Worker | undefined;
  process.on('message', (request: DecoderLoopRequest) => {
    worker ??= new Worker(new URL(import.meta.url));
    worker.once('message', (reply: DecoderLoopReply) => process.send!(reply));
    worker.postMessage(request);
  });
  // The thread is not inside ONNX Runtime once a reply is out, so that ending here is safe.
  process.once('disconnect', () => process.exit(0));
  process.send!('ready');
} else {
  const { InferenceSession, Tensor } = await import('onnxruntime-node');
  type Session = Awaited<ReturnType<typeof InferenceSession.create>>;
  const sessions = new Map<string, Session>();
  const load = async (model: string): Promise<Session> => {
    let session = sessions.get(model);
    if (!session) {
      session = await InferenceSession.create(model, {
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        logSeverityLevel: 4,
        extra: { session: { intra_op: { allow_spinning: '0' } } },
      });
      sessions.set(model, session);
    }
    return session;
  };
  parentPort!.on('message', async ({ model, capacity, length, steps, rounds }: DecoderLoopRequest) => {
    const session = await load(model);
    // A plain graph puts the new token behind all that is there; GroupQueryAttention puts it into the room that there is.
    const behind = session.inputNames.includes('position_ids');
    const ids = new BigInt64Array(1).fill(1n);
    const mask = new BigInt64Array(behind ? capacity + 1 : capacity);
    const positions = new BigInt64Array(1);
    const feeds: Record<string, InstanceType<typeof Tensor>> = {};
    for (const input of session.inputMetadata) {
      if (!input.isTensor) continue;
      const { name, shape } = input;
      if (name === 'input_ids') feeds[name] = new Tensor('int64', ids, [1, 1]);
      else if (name === 'attention_mask') feeds[name] = new Tensor('int64', mask, [1, mask.length]);
      else if (name === 'position_ids') feeds[name] = new Tensor('int64', positions, [1, 1]);
      else {
        const [kvHeads, headDim] = [Number(shape[1]), Number(shape[3])];
        const past = new Float32Array(kvHeads * capacity * headDim).fill(0.01);
        feeds[name] = new Tensor('float32', past, [1, kvHeads, capacity, headDim]);
      }
    }
    const round = async (): Promise<void> => {
      for (let step = 0; step < steps; step++) {
        mask.fill(0n).fill(1n, 0, length + step + (behind ? 0 : 1));
        if (behind) mask[capacity] = 1n;
        positions[0] = BigInt(length + step);
        const { logits } = await session.run(feeds, ['logits']);
        ids[0] = BigInt(likeliest(logits!.data as Float32Array));
      }
    };
    await round();
    const began = performance.now();
    for (let i = 0; i < rounds; i++) await round();
    parentPort!.postMessage({ stepMs: (performance.now() - began) / (rounds * steps) } satisfies DecoderLoopReply);
  });
}

function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}
