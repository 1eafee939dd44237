/**
 * What does batching gain for texts of mixed lengths, and how much of the arithmetic goes into padding?
 *
 * 32 closed-loop clients send one text each, of 4 to 128 tokens, to an encoder with self-attention and random weights: served with
 * dynamic batching, and served with `max_batch_size: 1`. Two more say what those are worth: one client that waits for each answer, and
 * a bare `session.run` loop over batches of similar lengths and over single texts, whose ratio is all that batching can gain. All take
 * turns. Half of the cores are workers.
 */
import { availableParallelism } from 'node:os';
import { writeTextModel } from '../test/support/huggingface.js';
import { VOCABULARY } from '../test/support/wordpiece.js';
import { grpcGroup, startClients } from './clients.js';
import { grpcContentBody } from './content-body.js';
import { converse } from './conversation.js';
import { MODEL_INFER, outputBytes } from './grpc-body.js';
import { interleave, median, medianRatio, ratioSpan } from './interleave.js';
import { startTensorwire, workDirectory } from './peer.js';
import { probeGrpc } from './probe.js';
import { type Bench, BenchError, type BenchOptions, type Figures, say } from './result.js';
import type { ClientGroup } from './servers/clients.js';
import type { TextLoopReply, TextLoopRequest } from './servers/text-loop.js';

/** The encoder that the figures are of. */
const MODEL = { hidden: 128, layers: 4, heads: 4 };
const MAX_BATCH = 32;
const CLIENTS = 32;
const TEXTS = 512;
const LENGTHS = { median: 16, sigma: 0.7, least: 4, most: 128 };
/** What the padding of a batch may waste; the same in the bare loop. */
const WASTE = 0.2;

export const text: Bench = {
  name: 'text',
  question: 'texts of mixed lengths per second with dynamic batching and one by one, and what padding wastes',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const timing = quick ? { rounds: 3, seconds: 2 } : { rounds: 7, seconds: 4 };
  const threads = Math.max(1, Math.floor(availableParallelism() / 2));
  const directory = workDirectory();
  const lengths = mixedLengths();
  const graph = writeModels(directory);
  const workers = ['--worker-count', String(threads), '--intra-op-thread-count', '1'];
  const { server, stop } = await startTensorwire(directory, workers);
  const clients = startClients();
  const loop = converse<TextLoopRequest, TextLoopReply>('text-loop.ts');
  try {
    say(`${threads} worker(s) of 1 thread; ${MODEL.layers} layers, ${MODEL.hidden} wide; ${CLIENTS} clients`);
    const origin = `http://127.0.0.1:${server.grpcPort}`;
    const scratch = workDirectory();
    const group = (model: string): Promise<ClientGroup> =>
      grpcGroup(
        { name: model, directory: scratch, origin, path: MODEL_INFER, clients: CLIENTS },
        lengths.map((length, i) => body(model, textOf(length, i))),
      );
    const batched = await group('batched');
    const single = await group('single');
    await sameAnswers(origin, lengths);
    const served = <Name extends string>(name: Name, asked: ClientGroup) => ({
      name,
      measure: async () => (await clients.load([asked], timing.seconds))[asked.name]!.perSecond,
    });
    const bare = <Name extends string>(name: Name, batches: TextLoopRequest['batches']) => ({
      name,
      measure: async () =>
        (await loop.ask({ model: graph, threads, batches, ms: timing.seconds * 1000 })).textsPerSecond,
    });
    const singles = lengths.map((length) => [1, length] as const);
    const before = await counted(server.metricsPort);
    const rates = await interleave<'batched' | 'single' | 'oneClient' | 'bareBatches' | 'bareSingles'>(
      [
        served('batched', batched),
        served('single', single),
        // Of the model that does not batch: one text at a time never does, and the counts below stay those of 32 clients.
        served('oneClient', { ...single, clients: 1 }),
        bare('bareBatches', similarLengths(lengths)),
        bare('bareSingles', singles),
      ],
      { rounds: timing.rounds, warmUp: 1 },
    );
    const after = await counted(server.metricsPort);
    const since = (key: keyof typeof after): number => after[key] - before[key];
    const meanBatch = since('rows') / since('runs');
    say(`with batching      ${median(rates.batched).toFixed(0)} texts/s in batches of ${meanBatch.toFixed(1)}`);
    say(`one by one         ${median(rates.single).toFixed(0)} texts/s`);
    say(`one client         ${median(rates.oneClient).toFixed(0)} texts/s`);
    say(`bare, batches      ${median(rates.bareBatches).toFixed(0)} texts/s`);
    say(`bare, one by one   ${median(rates.bareSingles).toFixed(0)} texts/s`);
    say(`gain by round      ${ratioSpan(rates.batched, rates.single)}`);
    return {
      batching_gain: medianRatio(rates.batched, rates.single),
      gain_over_one_client: medianRatio(rates.batched, rates.oneClient),
      bare_batching_gain: medianRatio(rates.bareBatches, rates.bareSingles),
      of_raw_loop: medianRatio(rates.batched, rates.bareBatches),
      padding_waste: since('padding') / (since('tokens') + since('padding')),
    };
  } finally {
    clients.end();
    loop.end();
    await stop();
  }
}

/** The same model twice, served with and without batching; returns the ONNX file for the loop. */
function writeModels(directory: string): string {
  const options = { head: 'hidden', ...MODEL, maxTokens: LENGTHS.most, pooling: ['mean'], normalize: true } as const;
  writeTextModel(directory, 'batched', { ...options, config: `max_batch_size: ${MAX_BATCH}\ndynamic_batching { }\n` });
  writeTextModel(directory, 'single', { ...options, config: 'max_batch_size: 1\n' });
  // Outside the repository, or the server would take it for a model.
  return writeTextModel(workDirectory(), 'bare', options).onnxFile;
}

/** Tokens of each text, log-normal, special tokens included; the same in every run. */
function mixedLengths(): number[] {
  let state = 7;
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const normal = (): number => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Array.from({ length: TEXTS }, () => {
    const length = Math.round(LENGTHS.median * Math.exp(LENGTHS.sigma * normal()));
    return Math.max(LENGTHS.least, Math.min(LENGTHS.most, length));
  });
}

/** Words that are one token each. */
const WORDS = VOCABULARY.filter((piece) => /^[a-z]{2,}$/.test(piece));

/** A text of `tokens` tokens, two of which are the special ones around it. */
function textOf(tokens: number, seed: number): Buffer {
  const words = Array.from({ length: tokens - 2 }, (_, i) => WORDS[(seed * 31 + i * 17) % WORDS.length]!);
  return Buffer.from(words.join(' '));
}

function body(model: string, content: Uint8Array): Buffer {
  return grpcContentBody({ model, input: 'text', elements: [content], output: 'sentence_embedding' });
}

/** Batches such as the server can make of what 32 clients send at once: of similar lengths, each padded to its longest. */
function similarLengths(lengths: readonly number[]): [rows: number, tokens: number][] {
  const batches: [number, number][] = [];
  for (let from = 0; from + CLIENTS <= lengths.length; from += CLIENTS) {
    const waiting = lengths.slice(from, from + CLIENTS).sort((a, b) => b - a);
    let rows = 0;
    let tokens = 0;
    const longest = (): number => waiting[batchStart]!;
    let batchStart = 0;
    for (const [i, length] of waiting.entries()) {
      if (rows > 0 && 1 - (tokens + length) / ((rows + 1) * longest()) > WASTE) {
        batches.push([rows, longest()]);
        [rows, tokens, batchStart] = [0, 0, i];
      }
      rows++;
      tokens += length;
    }
    batches.push([rows, longest()]);
  }
  return batches;
}

/** Both names serve the same model, so that their answers differ by no more than rounding. */
async function sameAnswers(origin: string, lengths: readonly number[]): Promise<void> {
  for (const [i, length] of lengths.slice(0, 16).entries()) {
    const vectors = [];
    for (const model of ['batched', 'single']) {
      const bytes = Uint8Array.from(outputBytes(await probeGrpc(origin, MODEL_INFER, body(model, textOf(length, i)))));
      vectors.push(new Float32Array(bytes.buffer));
    }
    const [a, b] = vectors as [Float32Array, Float32Array];
    const norm = Math.hypot(...a);
    if (a.length !== MODEL.hidden || Math.abs(norm - 1) > 1e-3) {
      throw new BenchError(`an answer of ${a.length} numbers and length ${norm} is no embedding of this model`);
    }
    const far = Math.max(...a.map((x, k) => Math.abs(x - b[k]!)));
    if (!(far <= 1e-5)) throw new BenchError(`the answers for one text differ by ${far}`);
  }
}

/** What the server has counted for the batching model. */
async function counted(port: number): Promise<Record<'tokens' | 'padding' | 'rows' | 'runs', number>> {
  const exposition = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const value = (name: string): number => {
    const found = new RegExp(`^${name}\\{[^}]*model="batched"[^}]*\\} (\\S+)$`, 'm').exec(exposition)?.[1];
    if (found === undefined) throw new BenchError(`the server's metrics have no ${name}`);
    return Number(found);
  };
  return {
    tokens: value('tensorwire_tokens_total'),
    padding: value('tensorwire_padding_tokens_total'),
    rows: value('nv_inference_count'),
    runs: value('nv_inference_exec_count'),
  };
}
