/**
 * llama.cpp by node-llama-cpp on the CPU: one sequence for each stream, decoded in common batches.
 *
 * Started by `bench/stream-peers.ts` as a process of its own and driven over IPC: a PeerRequest in, a PeerReply out.
 */
import { join } from 'node:path';
import { getLlama, type LlamaModel, type Token } from 'node-llama-cpp';

/** As in `bench/stream-peers.ts`; this folder is a package of its own. */
interface PeerRequest {
  /** Directory that holds the folder `llama`, and the GGUF file beside it. */
  readonly directory: string;
  readonly streams: number;
  readonly promptTokens: number;
  readonly tokens: number;
}

let loaded: Promise<LlamaModel> | undefined;

async function load(directory: string): Promise<LlamaModel> {
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: 1, logLevel: 'error' as never });
  return llama.loadModel({ modelPath: join(directory, 'llama.gguf') });
}

process.on('message', async ({ directory, streams, promptTokens, tokens }: PeerRequest) => {
  loaded ??= load(directory);
  const model = await loaded;
  const context = await model.createContext({
    sequences: streams,
    contextSize: promptTokens + tokens + 8,
    batchSize: Math.max(64, streams),
    threads: 1,
  });
  const sequences = Array.from({ length: streams }, () => context.getSequence());
  const began = performance.now();
  let made = 0;
  await Promise.all(
    sequences.map(async (sequence, stream) => {
      const prompt = Array.from({ length: promptTokens }, (_, i) => 1 + (((stream * promptTokens + i) * 31) % 256));
      let left = tokens;
      for await (const _ of sequence.evaluate(prompt as Token[], { temperature: 0, yieldEogToken: true })) {
        made++;
        if (--left === 0) break;
      }
    }),
  );
  const elapsed = performance.now() - began;
  await context.dispose();
  process.send!({ tokensPerSecond: made / (elapsed / 1000), made });
});
process.once('disconnect', () => process.exit(0));
process.send!('ready');
