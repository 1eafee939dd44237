/**
 * The Prometheus registry: the one home of prom-client.
 *
 * Called by the composition root and by whoever has something to show. Counters and gauges are read at scrape time from plain
 * numbers that their owners keep anyway, so the hot path pays nothing; only histograms are fed as things happen (0.3 us each).
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

export type Labels = Readonly<Record<string, string>>;
/** Current values by labels, asked for at each scrape. */
export type Source = () => Iterable<readonly [labels: Labels, value: number]>;

interface Description {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
}

/** Takes one observation; labels must come from a bounded set. */
export type Observe = (labels: Labels, value: number) => void;

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

  histogram({ name, help, labels = [], buckets }: Description & { readonly buckets: readonly number[] }): Observe {
    const histogram = new Histogram({
      name,
      help,
      labelNames: [...labels],
      buckets: [...buckets],
      registers: [this.#registry],
    });
    return (values, value) => histogram.observe(values as Record<string, string>, value);
  }

  /** The exposition text and its content type. */
  async render(): Promise<{ contentType: string; body: string }> {
    return { contentType: this.#registry.contentType, body: await this.#registry.metrics() };
  }
}
