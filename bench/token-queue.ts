/**
 * What does a token cost on its way from a token-stream worker to main: by a ring in shared memory, or by a plain MessagePort?
 *
 * A thread runs steps of 0.5 ms and then writes one record for each of 1, 8 or 32 streams; main, otherwise idle, hands each to a
 * listener. Four ways by turns: the ring, woken by an empty message (the product's); the same, woken by Atomics.waitAsync; one message a step with
 * all fields in one array; one with an array of objects. Figures: microseconds
 * for each token on both threads (the writer's by the median step: now and then the other thread has its core), and from choice to listener.
 */

import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { nowMs } from '../src/base/clock.js';
import { median } from '../src/bench/statistics.js';
import { createRing, RingReader } from '../src/runtime/token-ring.js';
import { type Arm, interleave, medianRatio, ratioSpan } from './interleave.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';
import type { PortRecord, Round, RoundEnd, Way } from './servers/token-queue-writer.js';

export const tokenQueue: Bench = {
  name: 'token-queue',
  question: 'what a token costs between worker and main, in shared memory and by a plain MessagePort',
  run,
};

const WAYS: readonly Way[] = ['ring', 'ring_woken_by_atomics', 'port_flat', 'port_objects'];
const STREAMS = [1, 8, 32];
/** Fields of a record in the flat array. */
const FIELDS = 6;

interface Measured {
  /** Microseconds for each token. */
  readonly writerUs: number;
  readonly readerUs: number;
  /** Median of the microseconds from a step's choice until its last record was with its listener. */
  readonly latencyUs: number;
}

async function run({ quick }: BenchOptions): Promise<Figures> {
  const steps = quick ? 300 : 600;
  const rounds = { rounds: quick ? 3 : 15, warmUp: 2 };
  const figures: Record<string, number> = {};
  say(
    '  streams  way                   writer us/token  main us/token  together   latency us   together, to the ring (span)',
  );
  for (const streams of STREAMS) {
    const queues = await Promise.all(WAYS.map(async (way) => ({ way, queue: await Queue.open(way) })));
    const measured = new Map<Way, Measured[]>(WAYS.map((way) => [way, []]));
    const arms: Arm<Way>[] = queues.map(({ way, queue }) => ({
      name: way,
      measure: async () => {
        const result = await queue.round(streams, steps);
        measured.get(way)!.push(result);
        return result.writerUs + result.readerUs;
      },
    }));
    const together = await interleave(arms, rounds);
    for (const { queue } of queues) await queue.close();
    for (const way of WAYS) {
      const kept = measured.get(way)!.slice(rounds.warmUp);
      const of = (name: keyof Measured): number => median(kept.map((each) => each[name]));
      const ratio = medianRatio(together[way], together.ring);
      const numbers = [of('writerUs'), of('readerUs'), median(together[way])].map((us) => us.toFixed(2).padStart(13));
      say(
        `${String(streams).padStart(9)}  ${way.padEnd(20)} ${numbers.join(' ')} ${of('latencyUs').toFixed(1).padStart(10)}   ${ratio.toFixed(2)} (${ratioSpan(together[way], together.ring)})`,
      );
      figures[`${way}_us_${streams}`] = median(together[way]);
      figures[`${way}_latency_us_${streams}`] = of('latencyUs');
    }
  }
  return figures;
}

/** A writing thread, and what reads from it in this one. */
class Queue {
  readonly #way: Way;
  readonly #worker: Worker;
  readonly #ring = createRing();
  readonly #wakes = new Int32Array(new SharedArrayBuffer(4));
  #closed = false;
  readonly #reader: RingReader;
  #count = 0;
  #checksum = 0;
  #streams = 0;
  readonly #latencies: number[] = [];

  private constructor(way: Way) {
    this.#way = way;
    this.#worker = new Worker(new URL('./servers/token-queue-writer.ts', import.meta.url));
    this.#reader = new RingReader(this.#ring, (stream, { tokenId, timeMs, text }) =>
      this.#listen(stream, tokenId, timeMs, text),
    );
    if (way === 'ring') this.#worker.on('message', () => this.#reader.drain());
    else if (way === 'ring_woken_by_atomics') this.#waitAndDrain();
    else if (way === 'port_flat') this.#worker.on('message', (message) => this.#flat(message));
    else this.#worker.on('message', (message) => this.#objects(message));
  }

  static async open(way: Way): Promise<Queue> {
    const queue = new Queue(way);
    await once(queue.#worker, 'online');
    return queue;
  }

  async round(streams: number, steps: number): Promise<Measured> {
    this.#streams = streams;
    this.#count = 0;
    this.#latencies.length = 0;
    const before = process.threadCpuUsage();
    const [way, ring, wakes] = [this.#way, this.#ring, this.#wakes];
    this.#worker.postMessage({ way, ring, wakes, streams, steps } satisfies Round);
    const end = await new Promise<RoundEnd>((resolve) => {
      const hear = (message: RoundEnd | unknown[] | number): void => {
        if (typeof message !== 'object' || !('writeMs' in message)) return;
        this.#worker.off('message', hear);
        resolve(message);
      };
      this.#worker.on('message', hear);
    });
    this.#reader.drain();
    const { user, system } = process.threadCpuUsage(before);
    const tokens = streams * steps;
    if (this.#count !== tokens) throw new Error(`${this.#way}: ${this.#count} of ${tokens} records came`);
    return {
      writerUs: (end.writeMs * 1e3) / streams,
      readerUs: (user + system) / tokens,
      latencyUs: median(this.#latencies),
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    Atomics.notify(this.#wakes, 0);
    await this.#worker.terminate();
  }

  readonly #waitAndDrain = (): void => {
    while (!this.#closed) {
      const seen = Atomics.load(this.#wakes, 0);
      this.#reader.drain();
      const wait = Atomics.waitAsync(this.#wakes, 0, seen);
      if (!wait.async) continue;
      void wait.value.then(this.#waitAndDrain);
      return;
    }
  };

  #flat(fields: (number | string)[] | RoundEnd): void {
    if (!Array.isArray(fields)) return;
    for (let at = 0; at < fields.length; at += FIELDS)
      this.#listen(
        fields[at] as number,
        fields[at + 2] as number,
        fields[at + 4] as number,
        fields[at + FIELDS - 1] as string,
      );
  }

  #objects(records: PortRecord[] | RoundEnd): void {
    if (!Array.isArray(records)) return;
    for (const { stream, tokenId, timeMs, text } of records) this.#listen(stream, tokenId, timeMs, text);
  }

  /** Looks at each field, as a listener would. */
  #listen(stream: number, tokenId: number, timeMs: number, text: string): void {
    this.#count++;
    this.#checksum = (this.#checksum + tokenId + text.length) | 0;
    if (stream === this.#streams - 1) this.#latencies.push((nowMs() - timeMs) * 1e3);
  }
}
