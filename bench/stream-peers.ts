/**
 * How many tokens per second do 1, 4 and 16 streams get here, from transformers.js and from llama.cpp?
 *
 * The same shape (SmolLM2-135M's) with random 4-bit weights and one thread for each: ONNX for us and transformers.js, GGUF for llama.cpp. Ours
 * go the whole way, from a client over gRPC; the peers are called in their own process, the batch that each can make at once. A prompt of
 * 32 tokens and 64 more; prompts count in the time.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { median } from '../src/bench/statistics.js';
import { converse } from './conversation.js';
import { writeGguf } from './gguf.js';
import { interleave, medianRatio, ratioSpan } from './interleave.js';
import { SMOLLM2_135M, writeLlamaFolder } from './llama-folder.js';
import { startTensorwire, workDirectory } from './peer.js';
import { type Bench, BenchError, type BenchOptions, type Figures, say } from './result.js';
import { grpcStream, STREAMING_MODEL_INFER, startStreamClients } from './streams.js';

const PROMPT_TOKENS = 32;
const TOKENS = 64;
const PEERS = join(import.meta.dirname, 'peers');

export const streamPeers: Bench = {
  name: 'stream-peers',
  question: 'tokens per second against transformers.js and llama.cpp, 1, 4 and 16 streams',
  run,
};

export interface PeerRequest {
  readonly directory: string;
  readonly streams: number;
  readonly promptTokens: number;
  readonly tokens: number;
}

interface PeerReply {
  readonly tokensPerSecond: number;
  readonly made: number;
}

async function run({ quick }: BenchOptions): Promise<Figures> {
  if (!existsSync(join(PEERS, 'node_modules'))) {
    throw new BenchError('the peers are not installed: npm install --prefix bench/peers (half a gigabyte)');
  }
  const directory = workDirectory();
  writeLlamaFolder(join(directory, 'llama'), SMOLLM2_135M);
  const { model } = JSON.parse(readFileSync(join(directory, 'llama', 'tokenizer.json'), 'utf8')) as {
    model: { vocab: Record<string, number> };
  };
  writeGguf(join(directory, 'llama.gguf'), SMOLLM2_135M, Object.keys(model.vocab));
  const { server, stop } = await startTensorwire(directory, ['--intra-op-thread-count', '1']);
  const clients = startStreamClients();
  const peers = {
    transformers: converse<PeerRequest, PeerReply>('peers/transformers.ts'),
    llamacpp: converse<PeerRequest, PeerReply>('peers/llama-cpp.ts'),
  };
  try {
    const figures: Record<string, number> = {};
    for (const streams of [1, 4, 16]) {
      let turn = 0;
      const served = async (): Promise<number> => {
        // Other prompts each time, as the prefix cache would know them.
        turn++;
        const wanted = Array.from({ length: streams }, (_, i) =>
          grpcStream({ model: 'llama', prompt: `${turn}/${i} `.padEnd(PROMPT_TOKENS, 'abcdefgh'), tokens: TOKENS }),
        );
        const origin = `http://127.0.0.1:${server.grpcPort}`;
        const request = {
          protocol: 'grpc',
          origin,
          path: STREAMING_MODEL_INFER,
          streams: wanted,
          oneByOne: false,
        } as const;
        return (streams * TOKENS) / ((await clients.read(request)).elapsedMs / 1000);
      };
      const peer = (name: keyof typeof peers) => async (): Promise<number> => {
        const { tokensPerSecond, made } = await peers[name].ask({
          directory,
          streams,
          promptTokens: PROMPT_TOKENS,
          tokens: TOKENS,
        });
        if (made !== streams * TOKENS)
          throw new BenchError(`${name} made ${made} tokens instead of ${streams * TOKENS}`);
        return tokensPerSecond;
      };
      const rates = await interleave(
        [
          { name: 'tensorwire', measure: served },
          { name: 'transformers', measure: peer('transformers') },
          { name: 'llamacpp', measure: peer('llamacpp') },
        ],
        { rounds: quick ? 2 : 5, warmUp: 1 },
      );
      for (const name of ['transformers', 'llamacpp'] as const) {
        figures[`of_${name}_${streams}`] = medianRatio(rates.tensorwire, rates[name]);
        say(
          `${streams} streams: ${median(rates.tensorwire).toFixed(1)} tokens/s, ${name} ${median(rates[name]).toFixed(1)}: ` +
            `${figures[`of_${name}_${streams}`]!.toFixed(2)} (${ratioSpan(rates.tensorwire, rates[name])})`,
        );
      }
    }
    return figures;
  } finally {
    for (const peer of Object.values(peers)) peer.end();
    clients.end();
    await stop();
  }
}
