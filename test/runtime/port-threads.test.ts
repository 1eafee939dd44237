import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BroadcastChannel } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import type { ServeError } from '../../src/base/errors.js';
import { PortThreads } from '../../src/runtime/port-threads.js';

test('when threads are given up, nothing is heard of one that is still at work', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'tensorwire-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const workerFile = join(directory, 'worker.mjs');
  // The first thread answers when it is released; whatever comes in the place of the second ends without a word.
  writeFileSync(
    workerFile,
    `import { mkdirSync } from 'node:fs';
import { BroadcastChannel } from 'node:worker_threads';
const isFirst = () => { try { mkdirSync(${JSON.stringify(join(directory, 'first'))}); return true; } catch { return false; } };
export default async ({ port }) => {
  if (!isFirst()) process.exit(1);
  const channel = new BroadcastChannel('port threads');
  await new Promise((resolve) => { channel.onmessage = resolve; });
  port.postMessage('answer');
  channel.postMessage('answered');
  await new Promise((resolve) => port.on('message', (message) => message === 'close' && resolve()));
  channel.close();
  port.close();
};\n`,
  );
  const heard: unknown[] = [];
  const { promise: dead, resolve: onDead } = Promise.withResolvers<ServeError>();
  const onMessage = (_: number, message: unknown) => void heard.push(message);
  const threads = new PortThreads({ size: 2, workerFile, name: 'test workers', onMessage, onLost() {}, onDead });
  expect(await dead).toMatchObject({ code: 'UNAVAILABLE', message: expect.stringMatching(/^test workers can't be/) });
  const channel = new BroadcastChannel('port threads');
  const answered = new Promise((resolve) => {
    channel.onmessage = resolve;
  });
  // Until it is heard: the thread may not have come so far yet.
  const calling = setInterval(() => channel.postMessage('go on'), 5);
  onTestFinished(() => clearInterval(calling));
  await answered;
  clearInterval(calling);
  channel.close();
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  expect(heard).toEqual([]);
  await threads.close('close');
});
