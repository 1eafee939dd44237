/**
 * The writing side of `token-queue.ts`: a thread that runs steps as a token-stream worker does, and tells main of each stream's token.
 *
 * A step is 0.5 ms of arithmetic in place of a model's run, then one record for each stream, by one of the ways that are compared.
 */

import assert from 'node:assert';
import { type MessagePort, parentPort } from 'node:worker_threads';
import { nowMs } from '../../src/base/clock.js';
import { median } from '../../src/bench/statistics.js';
import { FLAG_TOKEN, RECORDS_THERE } from '../../src/runtime/generation-messages.js';
import { RingWriter } from '../../src/runtime/token-ring.js';

export type Way = 'ring' | 'ring_woken_by_atomics' | 'port_flat' | 'port_objects';

export interface Round {
  readonly way: Way;
  readonly ring: SharedArrayBuffer;
  /** One word, which main waits on where Atomics wake it. */
  readonly wakes: Int32Array<SharedArrayBuffer>;
  readonly streams: number;
  readonly steps: number;
}

/** What a plain port carries in the second form. */
export interface PortRecord {
  readonly stream: number;
  readonly flags: number;
  readonly tokenId: number;
  readonly logit: number;
  readonly timeMs: number;
  readonly text: string;
}

/** A round is over: median of the milliseconds from a step's last choice until its records were on their way. */
export interface RoundEnd {
  readonly writeMs: number;
}

const STEP_MS = 0.5;
const TEXTS = [' the', ' kite', 'ed', ',', ' Once', ' upon', ' a', ' time', '.', ' Sam', ' über', '\n'];

assert(parentPort);
const port: MessagePort = parentPort;
port.on('message', (round: Round) => port.postMessage(write(round)));

function write({ way, ring, wakes, streams, steps }: Round): RoundEnd {
  const writer = new RingWriter(ring, () => {
    if (way === 'ring') port.postMessage(RECORDS_THERE);
    else {
      Atomics.add(wakes, 0, 1);
      Atomics.notify(wakes, 0);
    }
  });
  const times: number[] = [];
  for (let step = 0; step < steps; step++) {
    for (const until = nowMs() + STEP_MS; nowMs() < until; );
    const timeMs = nowMs();
    writeStep(way, writer, streams, step, timeMs);
    times.push(nowMs() - timeMs);
  }
  return { writeMs: median(times) };
}

function writeStep(way: Way, writer: RingWriter, streams: number, step: number, timeMs: number): void {
  const text = (stream: number): string => TEXTS[(step + stream) % TEXTS.length]!;
  if (way === 'port_objects') {
    const records: PortRecord[] = [];
    for (let stream = 0; stream < streams; stream++)
      records.push({ stream, flags: FLAG_TOKEN, tokenId: step, logit: 1.5, timeMs, text: text(stream) });
    port.postMessage(records);
  } else if (way === 'port_flat') {
    const fields: (number | string)[] = [];
    for (let stream = 0; stream < streams; stream++) fields.push(stream, FLAG_TOKEN, step, 1.5, timeMs, text(stream));
    port.postMessage(fields);
  } else {
    for (let stream = 0; stream < streams; stream++)
      writer.write(stream, FLAG_TOKEN, step, 1.5, timeMs, text(stream), '');
    writer.publish();
  }
}
