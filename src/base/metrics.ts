/**
 * The Prometheus registry: the one home of prom-client.
 *
 * Called by the composition root and by whoever has something to show. Everything is read at scrape time from plain numbers that its
 * owner keeps, histograms too (`bucket-counts.ts`): an observation of the library's takes 0.5 us, and a request has more than a dozen.
 */
import { Counter, collectDefaultMetrics, Gauge, type Metric, Registry } from 'prom-client';
import type { BucketCounts } from './bucket-counts.js';

export type Labels = Readonly<Record<string, string>>;
/** Current values by labels, asked for at each scrape. */
export type Source = () => Iterable<readonly [labels: Labels, value: number]>;

interface Description {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

/** Current buckets by labels, asked for at each scrape. */
export type BucketSource = () => Iterable<readonly [labels: Labels, counts: BucketCounts]>;

export class Metrics {
  readonly #registry = new Registry();

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
  }

  /** A counter whose totals are read from `source`. */
  counter({ name, help, labels = [] }: Description, source: Source): void {
    const counter: Counter = new Counter({
      name,
      help,
      labelNames: [...labels],
      registers: [this.#registry],
      collect: () => {
        counter.reset();
        for (const [values, total] of source()) counter.inc({ ...values }, total);
      },
    });
  }

  /** A gauge whose values are read from `source`. */
  gauge({ name, help, labels = [] }: Description, source: Source): void {
    const gauge: Gauge = new Gauge({
      name,
      help,
      labelNames: [...labels],
      registers: [this.#registry],
      collect: () => {
        gauge.reset();
        for (const [values, value] of source()) gauge.set({ ...values }, value);
      },
    });
  }

  /** A histogram whose buckets are read from `source`; what is shown is the counted value times `scale`. */
  bucketHistogram({ name, help, scale = 1 }: Description & { readonly scale?: number }, source: BucketSource): void {
    const values = () =>
      [...source()].flatMap(([labels, { bounds, counts, sum }]) => {
        let total = 0;
        const lines = [...counts].map((count, bucket) => {
          total += count;
          // Fifteen digits: 0.3 is 0.3, and not what a multiplication leaves of it.
          const le = bucket < bounds.length ? String(Number((bounds[bucket]! * scale).toPrecision(15))) : '+Inf';
          return { metricName: `${name}_bucket`, labels: { ...labels, le }, value: total };
        });
        return [
          ...lines,
          { metricName: `${name}_sum`, labels, value: sum * scale },
          { metricName: `${name}_count`, labels, value: total },
        ];
      });
    const metric = {
      name,
      get: () => Promise.resolve({ name, help, type: 'histogram', aggregator: 'sum', values: values() }),
    };
    // The registry asks for no more of a metric than these two.
    this.#registry.registerMetric(metric as unknown as Metric);
  }

  /** The exposition text and its content type. */
  async render(): Promise<{ contentType: string; body: string }> {
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() };
  }
}
