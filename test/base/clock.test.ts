import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { nowMs } from '../../src/base/clock.js';

test('all threads read the same clock', async () => {
  const clock = new URL('../../dist/base/clock.js', import.meta.url).href;
  const code = `import { parentPort } from 'node:worker_threads'; import { nowMs } from ${JSON.stringify(clock)};
    parentPort.on('message', () => { parentPort.postMessage(nowMs()); parentPort.close(); });`;
  const worker = new Worker(code, { eval: true, execArgv: ['--input-type=module'] });
  await new Promise((resolve) => worker.once('online', resolve));
  const before = nowMs();
  worker.postMessage(0);
  const theirs = await new Promise<number>((resolve) => worker.once('message', resolve));
  const after = nowMs();
  // What happened between two readings here is between them there, but for the error of the two origins.
  expect(theirs).toBeGreaterThan(before - 0.05);
  expect(theirs).toBeLessThan(after + 0.05);
});
