import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import {
  FLAG_CANCELLED,
  FLAG_END,
  FLAG_FAILED,
  FLAG_TOKEN,
  type RecordDetail,
} from '../../src/runtime/generation-messages.js';
import { createRing, RingReader, RingWriter } from '../../src/runtime/token-ring.js';
import type { StreamRecord } from '../../src/runtime/token-streams.js';

/** For tests that look by themselves. */
const NOBODY = (): void => undefined;

interface Read extends StreamRecord {
  readonly stream: number;
}

function collector(ring: SharedArrayBuffer): { reader: RingReader; read: Read[] } {
  const read: Read[] = [];
  return { reader: new RingReader(ring, (stream, record) => read.push({ stream, ...record })), read };
}

test('a record comes out as it went in', () => {
  const ring = createRing(4096);
  const { reader, read } = collector(ring);
  const writer = new RingWriter(ring, NOBODY);
  const detail: RecordDetail = {
    end: {
      finishReason: 'stop',
      stopReason: 'ß',
      completionTokens: 3,
      cachedTokens: 0,
      scheduledMs: 1.5,
      prefillMs: 2.5,
    },
  };
  writer.write(3, FLAG_TOKEN, 7, 0.5, 1234.5678, ' kite', '');
  writer.write(0, FLAG_TOKEN | FLAG_END, 151_935, -1.5, 2, ' ünïcödé 🪁', JSON.stringify(detail));
  writer.write(2 ** 31 - 1, FLAG_CANCELLED, 0, 0, 3, '', '');
  writer.publish();
  reader.drain();
  expect(read).toEqual([
    { stream: 3, flags: FLAG_TOKEN, tokenId: 7, logit: 0.5, timeMs: 1234.5678, text: ' kite', detail: undefined },
    { stream: 0, flags: FLAG_TOKEN | FLAG_END, tokenId: 151_935, logit: -1.5, timeMs: 2, text: ' ünïcödé 🪁', detail },
    { stream: 2 ** 31 - 1, flags: FLAG_CANCELLED, tokenId: 0, logit: 0, timeMs: 3, text: '', detail: undefined },
  ]);
});

test('nothing is seen before it is published', () => {
  const ring = createRing(4096);
  const { reader, read } = collector(ring);
  const writer = new RingWriter(ring, NOBODY);
  expect(writer.publish()).toBe(false);
  writer.write(1, FLAG_TOKEN, 1, 0, 0, 'a', '');
  reader.drain();
  expect(read).toEqual([]);
  expect(writer.publish()).toBe(true);
  reader.drain();
  expect(read).toHaveLength(1);
});

test('texts of every length from nothing to half the ring pass its end whole', () => {
  const ring = createRing(2048);
  const { reader, read } = collector(ring);
  const writer = new RingWriter(ring, NOBODY);
  const texts = Array.from({ length: 980 }, (_, length) => 'x'.repeat(length));
  for (const [index, text] of texts.entries()) {
    expect(writer.write(index, FLAG_TOKEN, index, index, index, text, '')).toBe(true);
    writer.publish();
    reader.drain();
  }
  expect(read.map(({ text }) => text)).toEqual(texts);
});

test('a record of more than half the ring ends its stream with an error, and the next is fine', () => {
  const ring = createRing(2048);
  const { reader, read } = collector(ring);
  const writer = new RingWriter(ring, NOBODY);
  expect(writer.write(4, FLAG_TOKEN, 1, 0, 0, 'x'.repeat(2000), '')).toBe(false);
  expect(writer.write(5, FLAG_TOKEN, 1, 0, 0, 'y', '')).toBe(true);
  writer.publish();
  reader.drain();
  expect(read.map(({ stream, flags }) => [stream, flags])).toEqual([
    [4, FLAG_FAILED],
    [5, FLAG_TOKEN],
  ]);
  expect(read[0]!.detail?.failure?.message).toBe('a token came with 2040 bytes of text and details');
});

test('the counts may pass 2^32', () => {
  const ring = createRing(1024);
  const control = new Int32Array(ring, 0, 64);
  control[0] = control[16] = -3;
  const { reader, read } = collector(ring);
  const writer = new RingWriter(ring, NOBODY);
  for (let index = 0; index < 40; index++) {
    writer.write(index, FLAG_TOKEN, index, 0, 0, 'x'.repeat(index), '');
    writer.publish();
    reader.drain();
  }
  expect(read.map(({ stream, text }) => stream - text.length)).toEqual(new Array(40).fill(0));
});

/** What record `index` of a fuzz has; the thread knows the same function. */
const FUZZ = `(index) => {
  const hash = Math.imul(index + 1, 2654435761) >>> 0;
  const length = hash % 7 === 0 ? (hash >>> 8) % 300 : (hash >>> 8) % 9;
  const text = (hash % 5 === 0 ? 'ü🪁' : 'abc').repeat(length).slice(0, length).toWellFormed();
  return { text, detail: hash % 11 === 0 ? JSON.stringify({ failure: { code: 'INTERNAL', message: text } }) : '' };
}`;
const fuzz = new Function(`return ${FUZZ}`)() as (index: number) => { text: string; detail: string };

/** A thread that writes `count` records into `ring`, a few to each step, as fast as it can; then says so. */
function writingThread(ring: SharedArrayBuffer, count: number, mostInStep: number): Worker {
  const file = pathToFileURL(join(import.meta.dirname, '../../dist/runtime/token-ring.js')).href;
  const code = `import { parentPort, workerData } from 'node:worker_threads';
    import { RingWriter } from ${JSON.stringify(file)};
    const { ring, count, mostInStep } = workerData;
    const record = ${FUZZ};
    const writer = new RingWriter(ring, () => parentPort.postMessage(0));
    for (let index = 0; index < count; ) {
      for (let left = 1 + (index * 7) % mostInStep; left > 0 && index < count; left--, index++) {
        const { text, detail } = record(index);
        writer.write(index % 13, ${FLAG_TOKEN}, index, index / 2, index / 4, text, detail);
      }
      writer.publish();
    }
    `;
  return new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
    workerData: { ring, count, mostInStep },
  });
}

test.each([
  ['a ring that is full most of the time', 4096, 60_000, 40],
  ['a ring that never is', 1 << 20, 60_000, 40],
  ['one record to a step', 4096, 20_000, 1],
])(
  'a hundred thousand records of all sizes come from another thread whole and in order: %s',
  async (_name, bytes, count, mostInStep) => {
    const ring = createRing(bytes);
    const all = Promise.withResolvers<void>();
    let next = 0;
    const wrong: unknown[] = [];
    const reader = new RingReader(ring, (stream, { tokenId, logit, timeMs, text, detail }) => {
      const expected = fuzz(next);
      const right =
        stream === next % 13 &&
        tokenId === next &&
        logit === Math.fround(next / 2) &&
        timeMs === next / 4 &&
        text === expected.text &&
        (detail ? JSON.stringify(detail) : '') === expected.detail;
      if (!right && wrong.length < 3) wrong.push({ next, stream, tokenId, logit, timeMs, text, detail, expected });
      if (++next === count) all.resolve();
    });
    const worker = writingThread(ring, count, mostInStep);
    worker.on('message', () => reader.drain());
    const ended = once(worker, 'exit');
    await all.promise;
    await ended;
    expect(wrong).toEqual([]);
    expect(next).toBe(count);
  },
);

test('main is woken once until it looks, and again by what is published behind that', () => {
  const ring = createRing(4096);
  const { reader, read } = collector(ring);
  let wakes = 0;
  const writer = new RingWriter(ring, () => wakes++);
  const publish = (): void => {
    writer.write(0, FLAG_TOKEN, 1, 0, 0, '', '');
    writer.publish();
  };
  writer.publish();
  expect(wakes).toBe(0);
  publish();
  publish();
  expect(wakes).toBe(1);
  reader.drain();
  expect(read).toHaveLength(2);
  publish();
  expect(wakes).toBe(2);
});

test('a token that has another text than the last time has it, and so has one in the same place', () => {
  const ring = createRing(1 << 16);
  const { reader, read } = collector(ring);
  const writer = new RingWriter(ring, NOBODY);
  const texts = [' a', ' a', ' b', '', ' a', 'ü', ' ü', ' b', 'x'.repeat(24), 'x'.repeat(25), '\u0000', '\u00ff'];
  for (const [index, text] of texts.entries()) writer.write(0, FLAG_TOKEN, 5 + 4096 * (index % 2), 0, 0, text, '');
  writer.publish();
  reader.drain();
  expect(read.map(({ text }) => text)).toEqual(texts);
});
