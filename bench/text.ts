/**
 * What does batching gain for texts of mixed lengths, and how much of the arithmetic goes into padding?
 *
 * 32 closed-loop clients send one text each to an encoder with self-attention and random weights: served with dynamic batching, and served
 * with `max_batch_size: 1`. Batches win what a run costs beyond its arithmetic, so there are three cases: a deep and narrow encoder on
 * search queries, where that is most of it; one of MiniLM's shape on the same; and that one on sentences, each of which fills a core's
 * arithmetic by itself. Two more arms say what those of the first are worth: one client that waits for each answer, and a bare
 * `session.run` loop over batches of similar lengths and over single texts, whose ratio is all that batching can gain. The arms of a case
 * take turns. Half of the cores are workers.
 */

import { availableParallelism } from 'node:os';
import { median } from '../src/bench/statistics.js';
import { writeTextModel } from '../test/support/huggingface.js';
import { VOCABULARY } from '../test/support/wordpiece.js';
import { grpcGroup, startClients } from './clients.js';
import { grpcContentBody } from './content-body.js';
import { converse } from './conversation.js';
import { MODEL_INFER, outputBytes } from './grpc-body.js';
import { interleave, medianRatio, ratioSpan } from './interleave.js';
import { startTensorwire, workDirectory } from './peer.js';
import { probeGrpc } from './probe.js';
import { type Bench, BenchError, type BenchOptions, type Figures, say } from './result.js';
import type { ClientGroup } from './servers/clients.js';
import type { TextLoopReply, TextLoopRequest } from './servers/text-loop.js';

const MAX_BATCH = 32;
const CLIENTS = 32;
const TEXTS = 512;
interface Case {
  readonly name: 'deep' | 'minilm' | 'sentences';
  readonly model: { readonly hidden: number; readonly layers: number; readonly heads: number };
  /** Tokens of a text, log-normal, the two special ones included. */
  readonly tokens: { readonly median: number; readonly sigma: number; readonly least: number; readonly most: number };
}

/** People search with two or three words most of the time. */
const QUERIES = { median: 5, sigma: 0.4, least: 3, most: 16 };
const MINILM = { hidden: 384, layers: 6, heads: 12 };
const CASES: readonly [Case, Case, Case] = [
  { name: 'deep', model: { hidden: 32, layers: 24, heads: 2 }, tokens: QUERIES },
  { name: 'minilm', model: MINILM, tokens: QUERIES },
  { name: 'sentences', model: MINILM, tokens: { median: 16, sigma: 0.7, least: 4, most: 128 } },
];
const MAX_TOKENS = 128;

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
  for (const one of CASES) writeServed(directory, one);
  const [deep, ...others] = CASES;
  // Outside the repository, or the server would take it for a model.
  const { onnxFile } = writeTextModel(workDirectory(), 'bare', optionsOf(deep));
  const workers = ['--worker-count', String(threads), '--intra-op-thread-count', '1'];
  const { server, stop } = await startTensorwire(directory, workers);
  const clients = startClients();
  const loop = converse<TextLoopRequest, TextLoopReply>('servers/text-loop.ts');
  const origin = `http://127.0.0.1:${server.grpcPort}`;
  const scratch = workDirectory();

  const served = <Name extends string>(name: Name, asked: ClientGroup) => ({
    name,
    measure: async () => (await clients.load([asked], timing.seconds))[asked.name]!.perSecond,
  });
  const groupsOf = async (one: Case) => {
    const lengths = mixedLengths(one);
    await sameAnswers(origin, lengths, one);
    const group = (model: string): Promise<ClientGroup> =>
      grpcGroup(
        { name: model, directory: scratch, origin, path: MODEL_INFER, clients: CLIENTS },
        lengths.map((length, i) => body(model, textOf(length, i))),
      );
    return { lengths, batched: await group(`${one.name}-batched`), single: await group(`${one.name}-single`) };
  };
  const bare = <Name extends string>(name: Name, batches: TextLoopRequest['batches']) => ({
    name,
    measure: async () =>
      (await loop.ask({ model: onnxFile, threads, batches, ms: timing.seconds * 1000 })).textsPerSecond,
  });

  try {
    say(`${threads} worker(s) of 1 thread; ${CLIENTS} clients`);
    const { lengths, batched, single } = await groupsOf(deep);
    const before = await counted(server.metricsPort, deep);
    const rates = await interleave<'batched' | 'single' | 'oneClient' | 'bareBatches' | 'bareSingles'>(
      [
        served('batched', batched),
        served('single', single),
        // Of the model that does not batch: one text at a time never does, and the counts below stay those of 32 clients.
        served('oneClient', { ...single, clients: 1 }),
        bare('bareBatches', similarLengths(lengths)),
        bare(
          'bareSingles',
          lengths.map((length) => [1, length] as const),
        ),
      ],
      { rounds: timing.rounds, warmUp: 1 },
    );
    const cost = costs(before, await counted(server.metricsPort, deep));
    tell(deep, rates, cost.meanBatch);
    say(`one client         ${median(rates.oneClient).toFixed(0)} texts/s`);
    say(`bare, batches      ${median(rates.bareBatches).toFixed(0)} texts/s`);
    say(`bare, one by one   ${median(rates.bareSingles).toFixed(0)} texts/s`);
    const figures: Record<string, number> = {
      batching_gain: medianRatio(rates.batched, rates.single),
      gain_over_one_client: medianRatio(rates.batched, rates.oneClient),
      bare_batching_gain: medianRatio(rates.bareBatches, rates.bareSingles),
      of_raw_loop: medianRatio(rates.batched, rates.bareBatches),
      padding_waste: cost.waste,
    };
    for (const other of others) {
      const groups = await groupsOf(other);
      const start = await counted(server.metricsPort, other);
      const measured = await interleave<'batched' | 'single'>(
        [served('batched', groups.batched), served('single', groups.single)],
        { rounds: Math.min(5, timing.rounds), warmUp: 1 },
      );
      const own = costs(start, await counted(server.metricsPort, other));
      tell(other, measured, own.meanBatch);
      figures[`${other.name}_batching_gain`] = medianRatio(measured.batched, measured.single);
      figures[`${other.name}_padding_waste`] = own.waste;
    }
    return figures;
  } finally {
    clients.end();
    loop.end();
    await stop();
  }
}

type Counts = Record<'tokens' | 'padding' | 'rows' | 'runs', number>;

function costs(before: Counts, after: Counts): { meanBatch: number; waste: number } {
  const since = (key: keyof Counts): number => after[key] - before[key];
  // Tokens are counted with their padding.
  return { meanBatch: since('rows') / since('runs'), waste: since('padding') / since('tokens') };
}

function tell({ name, model }: Case, rates: Record<'batched' | 'single', readonly number[]>, meanBatch: number): void {
  say(`${name}: ${model.layers} layers, ${model.hidden} wide`);
  say(`with batching      ${median(rates.batched).toFixed(0)} texts/s in batches of ${meanBatch.toFixed(1)}`);
  say(`one by one         ${median(rates.single).toFixed(0)} texts/s`);
  say(`gain by round      ${ratioSpan(rates.batched, rates.single)}`);
}

function optionsOf({ model }: Case) {
  return { head: 'hidden', ...model, maxTokens: MAX_TOKENS, pooling: ['mean'], normalize: true } as const;
}

/** The model of a case twice, served with and without batching. */
function writeServed(directory: string, one: Case): void {
  const batching = `max_batch_size: ${MAX_BATCH}\ndynamic_batching { }\n`;
  writeTextModel(directory, `${one.name}-batched`, { ...optionsOf(one), config: batching });
  writeTextModel(directory, `${one.name}-single`, { ...optionsOf(one), config: 'max_batch_size: 1\n' });
}

/** Tokens of each text; the same in every run. */
function mixedLengths({ tokens: { median, sigma, least, most } }: Case): number[] {
  let state = 7;
  const uniform = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  const normal = (): number => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return Array.from({ length: TEXTS }, () => {
    const length = Math.round(median * Math.exp(sigma * normal()));
    return Math.max(least, Math.min(most, length));
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
async function sameAnswers(origin: string, lengths: readonly number[], { name, model: shape }: Case): Promise<void> {
  for (const [i, length] of lengths.slice(0, 16).entries()) {
    const vectors = [];
    for (const model of [`${name}-batched`, `${name}-single`]) {
      const bytes = Uint8Array.from(outputBytes(await probeGrpc(origin, MODEL_INFER, body(model, textOf(length, i)))));
      vectors.push(new Float32Array(bytes.buffer));
    }
    const [a, b] = vectors as [Float32Array, Float32Array];
    const norm = Math.hypot(...a);
    if (a.length !== shape.hidden || Math.abs(norm - 1) > 1e-3) {
      throw new BenchError(`an answer of ${a.length} numbers and length ${norm} is no embedding of this model`);
    }
    const far = Math.max(...a.map((x, k) => Math.abs(x - b[k]!)));
    if (!(far <= 1e-5)) throw new BenchError(`the answers for one text differ by ${far}`);
  }
}

/** What the server has counted for the batching model of a case. */
async function counted(port: number, { name: own }: Case): Promise<Counts> {
  const exposition = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  const value = (name: string): number => {
    const found = new RegExp(`^${name}\\{[^}]*model="${own}-batched"[^}]*\\} (\\S+)$`, 'm').exec(exposition)?.[1];
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
