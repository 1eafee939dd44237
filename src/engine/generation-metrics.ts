/**
 * What Prometheus sees of generated text: vLLM's metrics by vLLM's names, since dashboards know them, and beside them what only this server
 * has.
 *
 * Called by `model-metrics.ts` (register). All is read at scrape time: from the counts of main, and from the gauges that each model's thread
 * keeps in shared memory. Labels are bounded: models of the repository, reasons and numbers of streams from closed sets.
 */
import type { BucketCounts } from '../base/bucket-counts.js';
import type { Labels, Metrics } from '../base/metrics.js';
import { GAUGE } from '../runtime/generation-messages.js';
import type { GenerationCounts } from './generation-counts.js';
import type { Slot } from './slot.js';

export interface GenerationMetricSource {
  /** All versions there are, loaded or not. */
  slots(): readonly Slot[];
}

type Values<T> = (slot: Slot) => Iterable<readonly [more: Labels, value: T]>;

/** Times are counted in milliseconds and shown in seconds. */
const SECONDS = 1e-3;

export function registerGenerationMetrics(metrics: Metrics, engine: GenerationMetricSource): void {
  /** Counts go on while a model is unloaded. */
  const generative = () =>
    engine.slots().filter(({ model, generationCounts }) => model?.generation ?? generationCounts.isUsed);
  const each =
    <T>(name: 'model' | 'model_name', values: Values<T>) =>
    () =>
      generative().flatMap((slot) => {
        const labels = { [name]: slot.name, version: String(slot.version) };
        return [...values(slot)].map(([more, value]): [Labels, T] => [{ ...labels, ...more }, value]);
      });
  const vllm = ['model_name', 'version'];
  const own = ['model', 'version'];

  const gauge = (name: string, help: string, value: (slot: Slot) => number) =>
    metrics.gauge({ name, help, labels: vllm }, each('model_name', one(value)));
  const counter = (name: string, help: string, value: (slot: Slot) => number) =>
    metrics.counter({ name, help, labels: vllm }, each('model_name', one(value)));
  const histogram = (name: string, help: string, counts: (counts: GenerationCounts) => BucketCounts, scale = SECONDS) =>
    metrics.bucketHistogram(
      { name, help, labels: vllm, scale },
      each(
        'model_name',
        one(({ generationCounts }) => counts(generationCounts)),
      ),
    );

  gauge('vllm:num_requests_running', 'Streams in the batch', read(GAUGE.running));
  gauge('vllm:num_requests_waiting', 'Streams that wait for a place', read(GAUGE.waiting));
  gauge('vllm:kv_cache_usage_perc', 'Part of the memory for keys and values that is in use; 1 = all', kvUsage);
  counter(
    'vllm:num_preemptions_total',
    'Streams that left the batch for a while because older ones needed the memory',
    read(GAUGE.preemptions),
  );
  counter(
    'vllm:prefix_cache_queries_total',
    'Prompt tokens that were looked up in the prefix cache',
    read(GAUGE.promptTokens),
  );
  counter('vllm:prefix_cache_hits_total', 'Prompt tokens that came from the prefix cache', read(GAUGE.prefixHitTokens));
  counter(
    'vllm:prompt_tokens_total',
    'Prompt tokens of answered requests',
    (slot) => slot.generationCounts.promptTokens,
  );
  counter('vllm:generation_tokens_total', 'Tokens generated', (slot) => slot.generationCounts.generatedTokens);
  metrics.counter(
    {
      name: 'vllm:request_success_total',
      help: 'Requests by what ended them',
      labels: [...vllm, 'finished_reason'],
    },
    each('model_name', finishedReasons),
  );
  histogram(
    'vllm:time_to_first_token_seconds',
    'From the first byte of a request to its first token',
    (c) => c.firstTokenMs,
  );
  histogram('vllm:inter_token_latency_seconds', 'From token to token', (c) => c.betweenTokensMs);
  histogram(
    'vllm:request_time_per_output_token_seconds',
    'From token to token, the mean of each request',
    (c) => c.meanBetweenTokensMs,
  );
  histogram(
    'vllm:e2e_request_latency_seconds',
    'From the first byte of a request to its last token',
    (c) => c.requestMs,
  );
  histogram('vllm:request_queue_time_seconds', 'Waiting for a place', (c) => c.queueMs);
  histogram('vllm:request_prefill_time_seconds', 'From the place to the first token', (c) => c.prefillMs);
  histogram('vllm:request_decode_time_seconds', 'From the first token to the last', (c) => c.decodeMs);
  histogram('vllm:request_prompt_tokens', 'Tokens of prompts', (c) => c.promptSizes, 1);
  histogram('vllm:request_generation_tokens', 'Tokens generated for one request', (c) => c.generatedSizes, 1);
  metrics.bucketHistogram(
    {
      name: 'nv_inference_first_response_histogram_ms',
      help: 'From the first byte of a request to the first of its responses, in milliseconds',
      labels: own,
    },
    each(
      'model',
      one(({ generationCounts }) => generationCounts.firstResponseMs),
    ),
  );

  const ownGauge = (name: string, help: string, value: (slot: Slot) => number) =>
    metrics.gauge({ name, help, labels: own }, each('model', one(value)));
  ownGauge('tensorwire_streams_paused', 'Streams whose readers have used up their windows', read(GAUGE.paused));
  ownGauge('tensorwire_kv_cache_bytes', 'Memory held for keys and values of running streams', read(GAUGE.kvBytes));
  ownGauge('tensorwire_prefix_cache_bytes', 'Memory held for those of ended streams', read(GAUGE.prefixBytes));
  metrics.counter(
    {
      name: 'tensorwire_streams_cancelled_total',
      help: 'Streams that ended early, by why',
      labels: [...own, 'reason'],
    },
    each('model', ({ generationCounts: { cancelled, failed } }) =>
      Object.entries({ ...cancelled, failed }).map(([reason, count]) => [{ reason }, count] as const),
    ),
  );
  metrics.counter(
    {
      name: 'tensorwire_decode_steps_total',
      help: 'Steps of the decoder by how many streams they had',
      labels: [...own, 'streams'],
    },
    each('model', stepsBySize),
  );
  metrics.counter(
    { name: 'tensorwire_prefill_runs_total', help: 'Runs of the decoder over parts of prompts', labels: own },
    each('model', one(read(GAUGE.prefillRuns))),
  );
  metrics.counter(
    {
      name: 'tensorwire_step_duration_ms_total',
      help: 'Time of the thread that generates: in the decoder over prompts, over steps, and between runs',
      labels: [...own, 'part'],
    },
    each('model', (slot) => [
      [{ part: 'prefill' }, read(GAUGE.prefillMs)(slot)],
      [{ part: 'decode' }, read(GAUGE.decodeMs)(slot)],
      [{ part: 'host' }, read(GAUGE.hostMs)(slot)],
    ]),
  );
}

const NO_LABELS: Labels = {};

function one<T>(value: (slot: Slot) => T): Values<T> {
  return (slot) => [[NO_LABELS, value(slot)]];
}

/** Of the model's thread; 0 while there is none. */
function read(gauge: number): (slot: Slot) => number {
  return ({ model }) => model?.generation?.streams.gauges[gauge] ?? 0;
}

function kvUsage({ model }: Slot): number {
  if (!model?.generation) return 0;
  const { spec, streams } = model.generation;
  return spec.kvCacheBytes > 0 ? streams.gauges[GAUGE.kvUsedBytes]! / spec.kvCacheBytes : 0;
}

/** Ends as vLLM calls them: all that is no end of its own is an abort. */
function finishedReasons({ generationCounts: { finished, cancelled, failed } }: Slot): [Labels, number][] {
  const aborted = Object.values(cancelled).reduce((sum, count) => sum + count, failed);
  return [
    [{ finished_reason: 'stop' }, finished.stop],
    [{ finished_reason: 'length' }, finished.length],
    [{ finished_reason: 'abort' }, aborted],
  ];
}

/** Numbers of streams that occurred. */
function stepsBySize({ model }: Slot): [Labels, number][] {
  const gauges = model?.generation?.streams.gauges.subarray(GAUGE.stepsBySize) ?? [];
  return Array.from(gauges, (count, index): [Labels, number] => [{ streams: String(index + 1) }, count]).filter(
    ([, count]) => count > 0,
  );
}
