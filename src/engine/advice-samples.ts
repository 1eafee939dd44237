/**
 * The last requests of one model and arm, as the budget saw them: enough for exact percentiles of what is going on now.
 *
 * Written by `advice.ts` once for each answered request, so a write is a few stores into memory that is there already. Owns the ring;
 * must not judge.
 */
import type { Timeline } from '../base/timeline.js';

/** Requests kept. */
export const KEPT = 512;
/** A row of the ring: what of a request is kept, in this order. */
const FIELDS = ['total', 'decode', 'encode', 'inputBytes', 'outputBytes', 'endedMs'] as const;
const ROW = FIELDS.length;

/** Medians over the requests kept. Times in milliseconds, bytes of tensors in raw form. */
export interface AdviceSummary {
  /** Requests that the figures are of. */
  readonly requests: number;
  /** Milliseconds between the ends of the oldest and the newest of them. */
  readonly spanMs: number;
  /** When the newest of them ended, on the clock of base/clock.ts. */
  readonly newestMs: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly decodeMs: number;
  readonly encodeMs: number;
  /** What one request in twenty takes at least for decoding and encoding: far from the medians where sizes differ. */
  readonly slowMs: number;
  /** Of each request (decode + encode) / total. */
  readonly share: number;
  readonly inputBytes: number;
  readonly outputBytes: number;
}

export class AdviceSamples {
  private readonly ring = new Float64Array(KEPT * ROW);
  /** Requests seen so far. */
  private seen = 0;
  private summarized: AdviceSummary | undefined;
  private summarizedAt = 0;

  add(timeline: Timeline): void {
    const { ring } = this;
    const at = (this.seen++ % KEPT) * ROW;
    const { firstByte, lastByte, decoded, scattered, encoded } = timeline;
    ring[at] = encoded - firstByte;
    ring[at + 1] = Math.max(0, decoded - lastByte);
    ring[at + 2] = Math.max(0, encoded - scattered);
    ring[at + 3] = timeline.inputBytes;
    ring[at + 4] = timeline.outputBytes;
    ring[at + 5] = encoded;
  }

  /** Undefined before the first request. Worked out anew only when there were requests since. */
  summary(): AdviceSummary | undefined {
    if (this.seen === 0) return undefined;
    if (this.summarized === undefined || this.summarizedAt !== this.seen) {
      this.summarized = this.summarize();
      this.summarizedAt = this.seen;
    }
    return this.summarized;
  }

  private summarize(): AdviceSummary {
    const requests = Math.min(this.seen, KEPT);
    const column = (field: (typeof FIELDS)[number]): Float64Array => {
      const values = new Float64Array(requests);
      const offset = FIELDS.indexOf(field);
      for (let row = 0; row < requests; row++) values[row] = this.ring[row * ROW + offset]!;
      return values;
    };
    const [total, decode, encode] = [column('total'), column('decode'), column('encode')];
    const shares = total.map((ms, row) => (ms > 0 ? (decode[row]! + encode[row]!) / ms : 0));
    const both = decode.map((ms, row) => ms + encode[row]!).sort();
    const ended = column('endedMs').sort();
    return {
      requests,
      spanMs: ended[requests - 1]! - ended[0]!,
      newestMs: ended[requests - 1]!,
      slowMs: quantile(both, 0.95),
      share: quantile(shares.sort(), 0.5),
      p50Ms: quantile(total.sort(), 0.5),
      p99Ms: quantile(total, 0.99),
      decodeMs: quantile(decode.sort(), 0.5),
      encodeMs: quantile(encode.sort(), 0.5),
      inputBytes: quantile(column('inputBytes').sort(), 0.5),
      outputBytes: quantile(column('outputBytes').sort(), 0.5),
    };
  }
}

/** Of ascending values: the one that the share `q` of them is not above. */
function quantile(sorted: Float64Array, q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))]!;
}
