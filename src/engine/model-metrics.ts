/**
 * What Prometheus sees of the models: Triton's counters by Triton's names, queue depths, batch sizes, and the latency budget.
 *
 * Called by the composition root: registered once, and told of each finished request. Labels are bounded: model and version exist only
 * for models of the repository, whatever names clients send; arm and phase are closed sets.
 */
import { BucketCounts } from '../base/bucket-counts.js';
import type { Labels, Metrics, Source } from '../base/metrics.js';
import { PHASES } from '../base/timeline.js';
import type { RequestObserver } from './finished-request.js';
import { registerGenerationMetrics } from './generation-metrics.js';
import { registerMemoryMetrics } from './memory-metrics.js';
import type { Slot } from './slot.js';
import type { Arm } from './types.js';

/** Milliseconds; the same for totals and phases, so that they can be compared. */
const LATENCY_BUCKETS_MS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000];

export interface MetricSource {
  /** All versions there are, loaded or not. */
  slots(): readonly Slot[];
  memoryBytesOf(slot: Slot): number;
  readonly inFlight: number;
  /** Requests that meant no ready model. */
  readonly unknownModelCount: number;
}

/** Counts and states of the models. */
export function registerModelMetrics(metrics: Metrics, engine: MetricSource): void {
  /** Counts go on while a model is unloaded; one that was never loaded has none. */
  const served = () => engine.slots().filter(({ model, loads }) => model !== undefined || loads.success > 0);
  const each =
    (value: (slot: Slot) => number): Source =>
    () =>
      served().map((slot): [Labels, number] => [labelsOf(slot), value(slot)]);
  const labels = ['model', 'version'];
  const counter = (name: string, help: string, value: (slot: Slot) => number) =>
    metrics.counter({ name, help, labels }, each(value));
  const us = (ms: number) => Math.round(ms * 1e3);

  counter('nv_inference_request_success', 'Number of successful inference requests', (m) => m.statistics.success.count);
  metrics.counter(
    {
      name: 'nv_inference_request_failure',
      help: 'Number of failed inference requests',
      labels: [...labels, 'reason'],
    },
    () =>
      served().flatMap((model) =>
        Object.entries(model.statistics.failures).map(([reason, count]): [Labels, number] => [
          { ...labelsOf(model), reason },
          count,
        ]),
      ),
  );
  counter('nv_inference_count', 'Number of inferences performed (batch items)', (m) => m.statistics.inferenceCount);
  counter('nv_inference_exec_count', 'Number of model executions performed', (m) => m.statistics.executionCount);
  counter('nv_inference_request_duration_us', 'Cumulative request duration in microseconds', (m) =>
    us(m.statistics.success.ms),
  );
  counter('nv_inference_queue_duration_us', 'Cumulative queuing duration in microseconds', (m) =>
    us(m.statistics.queue.ms),
  );
  counter('nv_inference_compute_input_duration_us', 'Cumulative compute input duration in microseconds', (m) =>
    us(m.statistics.computeInput.ms),
  );
  counter('nv_inference_compute_infer_duration_us', 'Cumulative compute inference duration in microseconds', (m) =>
    us(m.statistics.computeInfer.ms),
  );
  counter('nv_inference_compute_output_duration_us', 'Cumulative compute output duration in microseconds', (m) =>
    us(m.statistics.computeOutput.ms),
  );
  metrics.gauge(
    { name: 'nv_inference_pending_request_count', help: 'Number of requests awaiting execution', labels },
    each(({ model }) => model?.queue.count ?? 0),
  );
  metrics.gauge(
    { name: 'tensorwire_queue_limit', help: 'Requests that may await execution; 0 = no bound', labels },
    each(({ model }) => model?.queue.limit ?? 0),
  );
  metrics.gauge(
    {
      name: 'tensorwire_model_ready',
      help: '1 for a version that answers requests, or is loaded when they come; else 0',
      labels,
    },
    () => engine.slots().map((slot): [Labels, number] => [labelsOf(slot), slot.isAskable ? 1 : 0]),
  );
  metrics.gauge(
    { name: 'tensorwire_queue_bytes', help: 'Bytes of inputs awaiting execution', labels },
    each(({ model }) => model?.queue.bytes ?? 0),
  );
  metrics.counter(
    {
      name: 'tensorwire_batch_executions_total',
      help: 'Number of model executions by rows in the batch',
      labels: [...labels, 'rows'],
    },
    () =>
      served().flatMap((model) =>
        model.statistics
          .batchSizes()
          .map(([rows, count]): [Labels, number] => [{ ...labelsOf(model), rows: String(rows) }, count]),
      ),
  );
  counter(
    'tensorwire_tokens_total',
    'Tokens of texts computed, padding included; requests of raw tensors are not counted',
    (m) => m.statistics.tokenCount,
  );
  counter(
    'tensorwire_padding_tokens_total',
    'Tokens computed that were padding',
    (m) => m.statistics.paddingTokenCount,
  );
  metrics.gauge({ name: 'tensorwire_requests_in_flight', help: 'Requests accepted and not yet answered' }, () => [
    [{}, engine.inFlight],
  ]);

  metrics.counter(
    { name: 'tensorwire_requests_without_model_total', help: 'Requests for a model or version that is not ready' },
    () => [[{}, engine.unknownModelCount]],
  );

  registerMemoryMetrics(metrics, engine);
  registerGenerationMetrics(metrics, engine);
}

/** The budgets of one model's requests that came in one encoding. */
class Budgets {
  readonly total = new BucketCounts(LATENCY_BUCKETS_MS);
  readonly phases = PHASES.map(() => new BucketCounts(LATENCY_BUCKETS_MS));
}

/** Histograms of the budget; what it returns takes each request. */
export function registerBudgetMetrics(metrics: Metrics): RequestObserver {
  const models = new Map<string, Map<Arm, Budgets>>();
  const lengths = new Float64Array(PHASES.length);
  metrics.bucketHistogram(
    {
      name: 'tensorwire_request_duration_ms',
      help: 'From the first byte of a request to its encoded reply, in milliseconds',
    },
    function* () {
      for (const [model, arms] of models) for (const [arm, { total }] of arms) yield [{ model, arm }, total];
    },
  );
  metrics.bucketHistogram(
    {
      name: 'tensorwire_phase_duration_ms',
      help: 'Phases of the latency budget, in milliseconds; they add up to the request duration',
    },
    function* () {
      for (const [model, arms] of models) {
        for (const [arm, { phases }] of arms) {
          for (const [i, phase] of PHASES.entries()) yield [{ model, arm, phase }, phases[i]!];
        }
      }
    },
  );
  const budgetsOf = (model: string, arm: Arm): Budgets => {
    let arms = models.get(model);
    if (arms === undefined) models.set(model, (arms = new Map()));
    let own = arms.get(arm);
    if (own === undefined) arms.set(arm, (own = new Budgets()));
    return own;
  };
  return ({ arm, modelName, timeline }) => {
    // Only a request that a model answered has a model's name for a label, whatever else clients write.
    if (arm === undefined || timeline.scattered === 0) return;
    const { total, phases } = budgetsOf(modelName, arm);
    total.observe(timeline.measure(lengths));
    for (let i = 0; i < phases.length; i++) phases[i]!.observe(lengths[i]!);
  };
}

function labelsOf({ name, version }: Slot): Labels {
  return { model: name, version: String(version) };
}
