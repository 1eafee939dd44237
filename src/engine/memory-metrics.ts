/**
 * What Prometheus sees of the memory budget: what each loaded model cost, and how often models were loaded and unloaded.
 *
 * Called by `model-metrics.ts` (register). Labels are bounded: models of the repository, outcomes and reasons from closed sets.
 */
import type { Labels, Metrics } from '../base/metrics.js';
import type { Slot } from './slot.js';

export interface MemoryMetricSource {
  /** All versions there are, loaded or not. */
  slots(): readonly Slot[];
  /** 0 where it is not loaded or was not measured. */
  memoryBytesOf(slot: Slot): number;
}

export function registerMemoryMetrics(metrics: Metrics, engine: MemoryMetricSource): void {
  metrics.gauge(
    {
      name: 'tensorwire_model_memory_bytes',
      help: 'What loading the model took, measured; only under a memory budget',
      labels: ['model', 'version'],
    },
    () =>
      engine
        .slots()
        .map((slot): [Labels, number] => [
          { model: slot.name, version: String(slot.version) },
          engine.memoryBytesOf(slot),
        ])
        .filter(([, bytes]) => bytes > 0),
  );
  metrics.counter(
    {
      name: 'tensorwire_model_loads_total',
      help: 'Loads of the model, of all its versions, by how they ended',
      labels: ['model', 'outcome'],
    },
    () => byModel(engine.slots(), 'outcome', ({ loads }) => loads),
  );
  metrics.counter(
    {
      name: 'tensorwire_model_unloads_total',
      help: 'Times that the model was unloaded to stay within the memory budget, or lost with its workers',
      labels: ['model', 'reason'],
    },
    () => byModel(engine.slots(), 'reason', ({ unloads }) => unloads),
  );
}

/** Counts that are not zero, one for each version: the registry adds up those of equal labels. */
function byModel(
  slots: readonly Slot[],
  label: string,
  counts: (slot: Slot) => Readonly<Record<string, number>>,
): [Labels, number][] {
  return slots.flatMap((slot) =>
    Object.entries(counts(slot))
      .filter(([, count]) => count > 0)
      .map(([value, count]): [Labels, number] => [{ model: slot.name, [label]: value }, count]),
  );
}
