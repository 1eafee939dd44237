/** Handlers that cancel other requests while they are told of one: an embeddings request does, of whose texts one failed. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import type { Cancel } from '../../src/engine/types.js';
import { ask, infer, startEngine, type TestEngine, temporaryDirectory, tensor } from '../support/engine.js';
import { slowModel, writeModel } from '../support/onnx.js';

const inputs = () => [tensor('INPUT0', 'FP32', [1, 16], new Float32Array(16))];

async function start(config: string): Promise<TestEngine> {
  const repository = temporaryDirectory();
  writeModel(repository, 'slow', { config: `max_batch_size: 1 ${config}`, versions: { 1: slowModel(300) } });
  const running = await startEngine(repository, { workerCount: 1 });
  onTestFinished(() => running.stop());
  return running;
}

/** `count` requests of one caller, which cancels all others when one fails; tells what it heard of each. */
function together({ engine }: TestEngine, count: number, priority = 0): { heard: string[][]; all: Cancel[] } {
  const heard: string[][] = [];
  const all: Cancel[] = [];
  for (let i = 0; i < count; i++) {
    const own: string[] = [];
    heard.push(own);
    all.push(
      ask(
        engine,
        { modelName: 'slow', inputs: inputs(), parameters: new Map([['priority', priority]]) },
        {
          onResponse: () => void own.push('response'),
          onError: () => {
            own.push('error');
            for (const [other, cancel] of all.entries()) if (other !== i) cancel();
          },
        },
      ),
    );
  }
  return { heard, all };
}

test('of requests that are refused together each is told once or not at all, and all are counted out', async () => {
  const running = await start('');
  const { engine } = running;
  const first = together(running, 1);
  const { heard } = together(running, 6);
  // Time to start what can start; the rest is refused while it is queued.
  await engine.drain(1);
  expect(engine.inFlight).toBe(0);
  expect(first.heard).toEqual([['response']]);
  expect(Math.max(...heard.map((own) => own.length))).toBe(1);
});

test('the same of requests that are all found too late', async () => {
  const running = await start(
    `dynamic_batching { priority_levels: 2 default_priority_level: 2 priority_queue_policy { key: 2 value { } }
      default_queue_policy { timeout_action: REJECT default_timeout_microseconds: 20000 } }`,
  );
  const { engine } = running;
  // That it is too late is to be found with the result of the first, and not by a timer.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const first = infer(engine, { modelName: 'slow', inputs: inputs() });
  const { heard } = together(running, 6, 1);
  const until = nowMs() + 20;
  while (nowMs() <= until);
  // Not by a poll, which would move the timers.
  await first;
  expect(engine.inFlight).toBe(0);
  expect(Math.max(...heard.map((own) => own.length))).toBe(1);
  expect(heard.flat()).not.toContain('response');
});
