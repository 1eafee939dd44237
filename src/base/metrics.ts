/**
 * The Prometheus registry: the one home of prom-client, which has the metrics of Node and of the process.
 *
 * Called by the composition root and by whoever has something to show. Everything is read at scrape time from plain numbers that its
 * owner keeps, histograms too (`bucket-counts.ts`): an observation of the library's takes 0.5 us, and a request has more than a dozen.
 * A scrape of many models prints so much that it lets requests in between.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { collectDefaultMetrics, Registry } from 'prom-client';
import type { BucketCounts } from './bucket-counts.js';
import { nowMs } from './clock.js';
import { printHead, printHistogram, printLabels, printValue } from './exposition.js';

export type Labels = Readonly<Record<string, string>>;
/** Current values by labels, asked for at each scrape. */
export type Source = () => Iterable<readonly [labels: Labels, value: number]>;

interface Description {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  /** Set where each value of the source takes work: requests are let in between them, so what is shown is not of one instant. */
  readonly isCostly?: boolean;
}

/** Current buckets by labels, asked for at each scrape. */
export type BucketSource = () => Iterable<readonly [labels: Labels, counts: BucketCounts]>;

/** The texts of one metric, piece by piece. */
type Texts = () => Iterable<string>;

/** A scrape holds the event loop no longer than this at a time, in milliseconds. */
const SLICE_MS = 4;

export class Metrics {
  readonly #registry = new Registry();
  readonly #names = new Set<string>();
  /** Read within one turn, so that they are of one instant. */
  readonly #values: Texts[] = [];
  /** Read bit by bit. */
  readonly #long: Texts[] = [];

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
  }

  /** A counter whose totals are read from `source`; those with the same labels are added up. */
  counter(description: Description, source: Source): void {
    this.#add(description, 'counter', function* ({ name }) {
      const totals = new Map<string, number>();
      for (const [labels, total] of source()) {
        const text = printLabels(labels);
        totals.set(text, (totals.get(text) ?? 0) + total);
      }
      for (const [labels, total] of totals) yield printValue(name, labels, total);
    });
  }

  /** A gauge whose values are read from `source`, one for each set of labels. */
  gauge(description: Description, source: Source): void {
    this.#add(description, 'gauge', function* ({ name }) {
      for (const [labels, value] of source()) yield printValue(name, printLabels(labels), value);
    });
  }

  /** A histogram whose buckets are read from `source`; what is shown is the counted value times `scale`. */
  bucketHistogram(description: Description & { readonly scale?: number }, source: BucketSource): void {
    const { scale = 1 } = description;
    this.#add({ ...description, isCostly: true }, 'histogram', function* ({ name }) {
      for (const [labels, counts] of source()) yield printHistogram(name, printLabels(labels), counts, scale);
    });
  }

  #add(
    description: Description,
    type: 'counter' | 'gauge' | 'histogram',
    texts: (description: Description) => Iterable<string>,
  ): void {
    const { name, help, isCostly = false } = description;
    if (this.#names.has(name)) throw new Error(`the metric ${name} is there already`);
    this.#names.add(name);
    const head = printHead(name, help, type);
    (isCostly ? this.#long : this.#values).push(function* () {
      yield head;
      yield* texts(description);
    });
  }

  /** The exposition as UTF-8, and its content type. */
  async render(): Promise<{ contentType: string; body: Buffer }> {
    const page = new Page();
    page.write(await this.#registry.metrics());
    for (const texts of this.#values) for (const text of texts()) page.write(text);
    let sliceMs = nowMs();
    for (const texts of this.#long) {
      for (const text of texts()) {
        page.write(text);
        if (nowMs() - sliceMs < SLICE_MS) continue;
        await nextTurn();
        sliceMs = nowMs();
      }
    }
    return { contentType: this.#registry.contentType, body: page.bytes() };
  }
}

const SHEET_BYTES = 256 * 1024;

/**
 * Text that grows. It is bytes from the first on: megabytes of strings that live for the length of a scrape are what the garbage
 * collector would carry around at each of its turns.
 */
class Page {
  readonly #full: Buffer[] = [];
  #sheet = Buffer.allocUnsafeSlow(SHEET_BYTES);
  #at = 0;

  write(text: string): void {
    // As many as UTF-8 takes at most.
    const most = 3 * text.length;
    if (this.#at + most > this.#sheet.length) {
      this.#full.push(this.#sheet.subarray(0, this.#at));
      this.#sheet = Buffer.allocUnsafeSlow(Math.max(SHEET_BYTES, most));
      this.#at = 0;
    }
    this.#at += this.#sheet.write(text, this.#at);
  }

  bytes(): Buffer {
    return Buffer.concat([...this.#full, this.#sheet.subarray(0, this.#at)]);
  }
}
