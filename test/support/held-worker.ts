/** An inference worker that is busy for as long as a test wants. Called by tests of what happens meanwhile. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from './engine.js';

/** A batch of exactly so many rows is held. */
export const HELD_ROWS = 3;

/** Config of a model of 16 floats, INPUT0, whose load ends with a batch of so many rows. */
export const warmUp = (rows: number) => `max_batch_size: 4
model_warmup { name: "w" batch_size: ${rows} inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: 16 zero_data: true } } }`;

export interface HeldWorker {
  /** The real worker, where such a batch, and what comes behind it, waits until it is released. */
  readonly file: string;
  /** Lets go what waits and all that comes. */
  release(): void;
}

export function heldWorker(): HeldWorker {
  const directory = temporaryDirectory();
  const file = join(directory, 'hold.mjs');
  const released = join(directory, 'released');
  const real = join(import.meta.dirname, '../../dist/workers/inference-worker.js');
  writeFileSync(
    file,
    `import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { MessageChannel } from 'node:worker_threads';
import serve from ${JSON.stringify(real)};
const released = ${JSON.stringify(released)};
const isHeld = (message) => Array.isArray(message) && message[8] === ${HELD_ROWS} && !existsSync(released);
export default async ({ port }) => {
  const { port1: inner, port2 } = new MessageChannel();
  const waiting = [];
  const pass = () => {
    while (waiting.length > 0 && !isHeld(waiting[0])) inner.postMessage(waiting.shift());
    if (waiting.length > 0) setTimeout(pass, 1);
  };
  port.on('message', (message) => { if (waiting.push(message) === 1) pass(); });
  inner.on('message', (message) => port.postMessage(message));
  await Promise.all([once(inner, 'close'), serve({ port: port2 })]);
  port.close();
};\n`,
  );
  return { file, release: () => writeFileSync(released, '') };
}
