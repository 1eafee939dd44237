/** What Prometheus is shown of generated text: vLLM's names, from main's counts and the thread's gauges. */
import { expect, test } from 'vitest';
import { BucketCounts } from '../../src/base/bucket-counts.js';
import { Metrics } from '../../src/base/metrics.js';
import { GenerationCounts } from '../../src/engine/generation-counts.js';
import { registerGenerationMetrics } from '../../src/engine/generation-metrics.js';
import type { Slot } from '../../src/engine/slot.js';
import { GAUGE } from '../../src/runtime/generation-messages.js';
import { generateRequest, heard, playedGenerator } from '../support/token-streams.js';

/** Values by line without comments. */
async function scrape(...slots: { name: string; model?: unknown; generationCounts: GenerationCounts }[]) {
  const metrics = new Metrics();
  registerGenerationMetrics(metrics, {
    slots: () => slots.map((slot) => ({ version: 1, ...slot }) as unknown as Slot),
  });
  const { body } = await metrics.render();
  const lines = String(body)
    .split('\n')
    .filter((line) => /^(vllm|tensorwire|nv_)/.test(line));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]),
  );
}

test('a stream is seen in the counters, the histograms and the gauges of its model', async () => {
  const { generator, streams, counts, model } = playedGenerator();
  const first = generator.generate(generateRequest(), heard());
  streams.token(0, 'a');
  streams.token(0, 'b', { afterMs: 40 });
  streams.end(0, 'c', { finishReason: 'length' });
  generator.generate(generateRequest(), heard()).cancel();
  first.cancel();
  streams.gauges[GAUGE.running] = 2;
  streams.gauges[GAUGE.waiting] = 5;
  streams.gauges[GAUGE.paused] = 1;
  streams.gauges[GAUGE.kvUsedBytes] = 250;
  streams.gauges[GAUGE.kvBytes] = 500;
  streams.gauges[GAUGE.promptTokens] = 12;
  streams.gauges[GAUGE.prefixHitTokens] = 4;
  streams.gauges[GAUGE.decodeMs] = 9.5;
  streams.gauges[GAUGE.stepsBySize] = 7;
  streams.gauges[GAUGE.stepsBySize + 2] = 3;
  const seen = await scrape({ name: 'story', model, generationCounts: counts });
  const of = (name: string, more = '') => seen.get(`${name}{model_name="story",version="1"${more}}`);
  expect(of('vllm:num_requests_running')).toBe(2);
  expect(of('vllm:num_requests_waiting')).toBe(5);
  expect(of('vllm:kv_cache_usage_perc')).toBe(0.25);
  expect(of('vllm:prefix_cache_queries_total')).toBe(12);
  expect(of('vllm:prefix_cache_hits_total')).toBe(4);
  expect(of('vllm:prompt_tokens_total')).toBe(3);
  expect(of('vllm:generation_tokens_total')).toBe(3);
  expect(of('vllm:request_success_total', ',finished_reason="length"')).toBe(1);
  expect(of('vllm:request_success_total', ',finished_reason="stop"')).toBe(0);
  expect(of('vllm:request_success_total', ',finished_reason="abort"')).toBe(1);
  expect(of('vllm:inter_token_latency_seconds_count')).toBe(2);
  expect(of('vllm:inter_token_latency_seconds_sum')).toBeGreaterThan(0.041 - 1e-6);
  expect(of('vllm:inter_token_latency_seconds_bucket', ',le="+Inf"')).toBe(2);
  for (const name of ['time_to_first_token', 'e2e_request_latency', 'request_queue_time', 'request_prefill_time']) {
    expect(of(`vllm:${name}_seconds_count`), name).toBe(1);
  }
  expect(of('vllm:request_prompt_tokens_bucket', ',le="2"')).toBe(0);
  expect(of('vllm:request_prompt_tokens_bucket', ',le="5"')).toBe(1);
  expect(seen.get('nv_inference_first_response_histogram_ms_count{model="story",version="1"}')).toBe(1);
  expect(seen.get('tensorwire_streams_paused{model="story",version="1"}')).toBe(1);
  expect(seen.get('tensorwire_streams_cancelled_total{model="story",version="1",reason="client"}')).toBe(1);
  expect(seen.get('tensorwire_decode_steps_total{model="story",version="1",streams="1"}')).toBe(7);
  expect(seen.get('tensorwire_decode_steps_total{model="story",version="1",streams="2"}')).toBeUndefined();
  expect(seen.get('tensorwire_decode_steps_total{model="story",version="1",streams="3"}')).toBe(3);
  expect(seen.get('tensorwire_step_duration_ms_total{model="story",version="1",part="decode"}')).toBe(9.5);
});

test('counts outlive an unloading, and a model that makes no text has none', async () => {
  const { generator, streams, counts } = playedGenerator();
  generator.generate(generateRequest(), heard());
  streams.end(0, 'c');
  const seen = await scrape(
    { name: 'story', generationCounts: counts },
    { name: 'plain', model: {}, generationCounts: new GenerationCounts() },
  );
  expect(seen.get('vllm:generation_tokens_total{model_name="story",version="1"}')).toBe(1);
  expect(seen.get('vllm:num_requests_running{model_name="story",version="1"}')).toBe(0);
  expect([...seen.keys()].filter((line) => line.includes('plain'))).toEqual([]);
});

test('a histogram of buckets counts what is at a bound below it, and what is past all in the last', async () => {
  const counts = new BucketCounts([1, 2.5, 300]);
  for (const value of [0, 1, 1.5, 300, 301, Number.NaN]) counts.observe(value);
  const metrics = new Metrics();
  metrics.bucketHistogram({ name: 'h_seconds', help: 'Help', labels: ['a'], scale: 1e-3 }, () => [
    [{ a: 'x' }, counts],
  ]);
  const { body } = await metrics.render();
  expect(
    String(body)
      .split('\n')
      .filter((line) => line.includes('h_seconds')),
  ).toEqual([
    '# HELP h_seconds Help',
    '# TYPE h_seconds histogram',
    'h_seconds_bucket{a="x",le="0.001"} 2',
    'h_seconds_bucket{a="x",le="0.0025"} 3',
    'h_seconds_bucket{a="x",le="0.3"} 4',
    'h_seconds_bucket{a="x",le="+Inf"} 5',
    'h_seconds_sum{a="x"} 0.6035',
    'h_seconds_count{a="x"} 5',
  ]);
});
