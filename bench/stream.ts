/**
 * What does a served token stream cost above ONNX Runtime alone, what do streams gain by running together, and what do those that run
 * notice of those that begin?
 *
 * Two models: the one that comes with the server, and one of SmolLM2-135M's shape with random 4-bit weights. `of_raw_loop`: milliseconds per
 * token of a bare `session.run` loop (logits only, fixed shapes) over those of one stream end to end over gRPC, first token not counted;
 * by turns, at the same capacity. `batching_gain`: 16 streams at once against the same 16 one after another, prompts included.
 * `itl_p99_over_p50`: gaps between tokens of eight streams while prompts of 300 tokens come in. `ttft_steps`: how much later than alone the first
 * token of a short prompt is while eight others run, in steps of those.
 */

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { median, quantile } from '../src/bench/statistics.js';
import { converse } from './conversation.js';
import { interleave, medianRatio, ratioSpan } from './interleave.js';
import { SMOLLM2_135M, writeLlamaFolder } from './llama-folder.js';
import { startTensorwire, workDirectory } from './peer.js';
import { type Bench, BenchError, type BenchOptions, type Figures, say } from './result.js';
import type { DecoderLoopReply, DecoderLoopRequest } from './servers/decoder-loop.js';
import {
  gaps,
  grpcStream,
  msPerToken,
  STREAMING_MODEL_INFER,
  type StreamClients,
  startStreamClients,
} from './streams.js';

const STREAMS = 16;
const RUNNING = 8;

/** A stream of this many tokens behind a prompt of that many stays within one capacity, that of the bare loop. */
const CAPACITY = 256;
const PROMPT = 136;
const TOKENS = 112;

export const stream: Bench = {
  name: 'stream',
  question: 'token streams against a bare loop, together and alone, and while others begin',
  run,
};

interface Served {
  readonly name: 'stories' | 'llama-135m';
  /** The ONNX file that the bare loop runs. */
  readonly file: string;
  /** A prompt of about PROMPT tokens. */
  readonly prompt: string;
}

async function run({ quick }: BenchOptions): Promise<Figures> {
  const repository = workDirectory();
  const shipped = join(repository, 'stories');
  cpSync(join(import.meta.dirname, '../models/stories'), shipped, { recursive: true });
  const tiny: Served = { name: 'stories', file: join(shipped, 'onnx/model.onnx'), prompt: 'tell me more '.repeat(40) };
  const large: Served = {
    name: 'llama-135m',
    file: writeLlamaFolder(join(repository, 'llama-135m'), SMOLLM2_135M),
    prompt: 'x'.repeat(PROMPT),
  };
  const { server, stop } = await startTensorwire(repository, ['--intra-op-thread-count', '1']);
  const clients = startStreamClients();
  const others = startStreamClients();
  const loop = converse<DecoderLoopRequest, DecoderLoopReply>('servers/decoder-loop.ts');
  const origin = `http://127.0.0.1:${server.grpcPort}`;
  const ask = asker(clients, origin);
  try {
    const rounds = quick ? 3 : 9;
    const tinyRatio = await ofRawLoop(tiny, { ask, loop, rounds, repeats: quick ? 4 : 16 });
    const largeRatio = await ofRawLoop(large, { ask, loop, rounds: quick ? 2 : 5, repeats: 1 });
    const gain = await batchingGain(tiny, ask, rounds);
    const during = await whileOthersBegin(large, ask, asker(others, origin), quick ? 2 : 5);
    return { of_raw_loop_tiny: tinyRatio, of_raw_loop_135m: largeRatio, batching_gain: gain, ...during };
  } finally {
    loop.end();
    clients.end();
    others.end();
    await stop();
  }
}

type Ask = ReturnType<typeof asker>;

function asker(clients: StreamClients, origin: string) {
  return (streams: readonly Parameters<typeof grpcStream>[0][], oneByOne = false) =>
    clients.read({
      protocol: 'grpc',
      origin,
      path: STREAMING_MODEL_INFER,
      streams: streams.map(grpcStream),
      oneByOne,
    });
}

interface LoopOptions {
  readonly ask: Ask;
  readonly loop: ReturnType<typeof converse<DecoderLoopRequest, DecoderLoopReply>>;
  readonly rounds: number;
  /** Streams one after another in one measurement. */
  readonly repeats: number;
}

async function ofRawLoop({ name, file, prompt }: Served, { ask, loop, rounds, repeats }: LoopOptions): Promise<number> {
  const numbers = await interleave(
    [
      {
        name: 'served',
        measure: async () => {
          const wanted = Array.from({ length: repeats }, () => ({ model: name, prompt, tokens: TOKENS }));
          const { streams } = await ask(wanted, true);
          return median(streams.map((reply) => msPerToken(reply, TOKENS)));
        },
      },
      {
        name: 'bare',
        measure: async () => {
          const request = { model: file, capacity: CAPACITY, length: PROMPT, steps: TOKENS, rounds: repeats };
          return (await loop.ask(request)).stepMs;
        },
      },
    ],
    { rounds, warmUp: 1 },
  );
  const ratio = medianRatio(numbers.bare, numbers.served);
  say(
    `${name}: ${median(numbers.served).toFixed(3)} ms per token served, ${median(numbers.bare).toFixed(3)} bare: ` +
      `${ratio.toFixed(3)} of the bare loop (${ratioSpan(numbers.bare, numbers.served)})`,
  );
  return ratio;
}

async function batchingGain({ name }: Served, ask: Ask, rounds: number): Promise<number> {
  const tokens = 96;
  const wanted = Array.from({ length: STREAMS }, (_, i) => ({
    model: name,
    prompt: `Once upon a time there were ${i} friends`,
    tokens,
  }));
  const rate = async (oneByOne: boolean): Promise<number> => {
    const { elapsedMs } = await ask(wanted, oneByOne);
    return (STREAMS * tokens) / (elapsedMs / 1000);
  };
  const numbers = await interleave(
    [
      { name: 'together', measure: () => rate(false) },
      { name: 'alone', measure: () => rate(true) },
    ],
    { rounds, warmUp: 1 },
  );
  const gain = medianRatio(numbers.together, numbers.alone);
  say(
    `${name}: ${median(numbers.together).toFixed(0)} tokens/s by ${STREAMS} streams at once, ` +
      `${median(numbers.alone).toFixed(0)} one after another: ${gain.toFixed(2)} (${ratioSpan(numbers.together, numbers.alone)})`,
  );
  return gain;
}

/** Eight streams run; long prompts come in one after another, and in another run short ones. */
async function whileOthersBegin({ name }: Served, ask: Ask, askAlso: Ask, rounds: number): Promise<Figures> {
  const ratios: number[] = [];
  const steps: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    // Each prompt is its own, or the prefix cache would have it.
    const long = (i: number) => ({ model: name, prompt: `${round}-${i} ${'y'.repeat(300)}`, tokens: 2 });
    const short = (i: number) => ({ model: name, prompt: `${round}+${i} ${'z'.repeat(20)}`, tokens: 2 });
    const { streams: alone } = await ask([short(8), short(9)], true);
    const meeting = async (coming: readonly ReturnType<typeof long>[]) => {
      const wanted = Array.from({ length: RUNNING }, (_, i) => ({
        model: name,
        prompt: `${coming[0]!.prompt.slice(0, 8)}${i}`,
        tokens: 200,
      }));
      const running = ask(wanted);
      // The eight have begun by then, and are far from their end.
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const { streams: late } = await askAlso(coming, true);
      const { streams } = await running;
      // The first ones start together, and so each waits for the prompts of the others.
      const between = streams.flatMap((reply) => gaps(reply).slice(16));
      if (between.length < 100) throw new BenchError('too few gaps between tokens were seen');
      return { between, firstMs: late.map(({ atMs }) => atMs[0]!) };
    };
    const { between } = await meeting([long(0), long(1)]);
    const [p50, p99] = [quantile(between, 0.5), quantile(between, 0.99)];
    const met = await meeting([0, 1, 2, 3].map(short));
    const step = quantile(met.between, 0.5);
    const ownMs = Math.min(...alone.map(({ atMs }) => atMs[0]!));
    const waits = met.firstMs.map((ms) => (ms - ownMs) / step);
    if (round === 0) continue;
    ratios.push(p99 / p50);
    steps.push(median(waits));
    say(
      `${name} with ${RUNNING} running: gap ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)}; ` +
        `a prompt of 24 tokens has its first token ${median(waits).toFixed(1)} steps later than alone`,
    );
  }
  return { itl_p99_over_p50: median(ratios), ttft_steps: median(steps) };
}
