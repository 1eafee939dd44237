import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import type { ServeError } from '../../src/base/errors.js';
import type {
  ContentElements,
  ImageSpec,
  Prepared,
  PromptSpec,
  TextSpec,
} from '../../src/runtime/preprocess-messages.js';
import { PreprocessPool, type PreprocessRequest } from '../../src/runtime/preprocess-pool.js';

const WORKER = join(import.meta.dirname, '../../dist/workers/preprocess-worker.js');

const [bert] = readFileSync(join(import.meta.dirname, '../fixtures/tokenizers/tokenizers.jsonl'), 'utf8')
  .split('\n', 1)
  .map((line) => JSON.parse(line) as { tokenizer: unknown });

const TEXT: TextSpec = {
  tokenizerJson: JSON.stringify(bert!.tokenizer),
  tokenizerConfigJson: '{}',
  maxTokens: 16,
  paddingSide: 'right',
  padTokenId: 0,
  padTokenTypeId: 0,
  addSpecialTokens: true,
  tensors: [{ role: 'input_ids', name: 'input_ids', datatype: 'INT64' }],
};
const IMAGE: ImageSpec = {
  tensor: 'pixels',
  datatype: 'FP32',
  dims: [3, 8, 8],
  layout: 'CHW',
  channels: 3,
  channelOrder: 'RGB',
  resize: { kind: 'exact', width: 8, height: 8 },
  resample: 'bilinear',
  rescale: 1 / 255,
  maxPixels: 1_000_000,
};

function elements(kind: ContentElements['kind'], ...values: (string | Uint8Array)[]): ContentElements {
  const parts = values.flatMap((value) => {
    const bytes = Buffer.from(value as string);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    return [length, bytes];
  });
  return { kind, count: values.length, data: Buffer.concat(parts) };
}

const request = (processor: number, ...contents: ContentElements[]): PreprocessRequest => ({
  processor,
  contents,
  truncate: true,
  deadlineMs: Number.POSITIVE_INFINITY,
});

const ask = (pool: PreprocessPool, wanted: PreprocessRequest): Promise<Prepared> =>
  new Promise((onPrepared, onError) => pool.run(wanted, { onPrepared, onError }));

/** Asks, and is told when nobody answers: neither of the handler's functions may be called. */
function askAndCancel(pool: PreprocessPool, wanted: PreprocessRequest): { cancel: () => void; calls: unknown[] } {
  const calls: unknown[] = [];
  const note = (what: unknown) => void calls.push(what);
  return { cancel: pool.run(wanted, { onPrepared: note, onError: note }), calls };
}

let pool: PreprocessPool;
let text: number;
let image: number;
let picture: Buffer;
beforeAll(async () => {
  pool = new PreprocessPool({ size: 2, workerFile: WORKER });
  text = await pool.register({ text: TEXT });
  image = await pool.register({ image: IMAGE });
  picture = await sharp({ create: { width: 30, height: 20, channels: 3, background: '#ff8000' } })
    .png()
    .toBuffer();
});
afterAll(() => pool.close());

test('a text comes back as tokens, a picture as pixels', async () => {
  const [tokens, pixels] = await Promise.all([
    ask(pool, request(text, elements('text', 'a b', 'b a'))),
    ask(pool, request(image, elements('image', picture))),
  ]);
  expect(tokens.rowTokens).toEqual([4, 4]);
  expect(tokens.tensors.map(({ name, dims }) => [name, dims])).toEqual([['input_ids', [2, 4]]]);
  expect(pixels.rowTokens).toEqual([]);
  const [{ name, dims, data }] = pixels.tensors as [Prepared['tensors'][number]];
  expect([name, dims]).toEqual(['pixels', [1, 3, 8, 8]]);
  const values = new Float32Array(data.buffer, data.byteOffset, 3 * 64);
  expect([values[0], values[64], values[128]]).toEqual([1, Math.fround(128 / 255), 0]);
});

test('one request may hold a text and a picture', async () => {
  const both = await pool.register({ text: TEXT, image: IMAGE });
  const { tensors } = await ask(pool, request(both, elements('text', 'a'), elements('image', picture)));
  expect(tensors.map(({ name }) => name)).toEqual(['input_ids', 'pixels']);
  pool.unregister(both);
});

test('bytes may be views on a larger message, and stay as they were', async () => {
  const { data } = elements('text', 'a b a');
  const message = Buffer.concat([Buffer.from('before'), data, Buffer.from('after')]);
  const view = message.subarray(6, 6 + data.byteLength);
  const { rowTokens } = await ask(pool, request(text, { kind: 'text', count: 1, data: view }));
  expect(rowTokens).toEqual([5]);
  expect(message.equals(Buffer.concat([Buffer.from('before'), data, Buffer.from('after')]))).toBe(true);
});

test('a bad text among many that travel together fails alone', async () => {
  const answers = await Promise.all(
    Array.from({ length: 60 }, (_, i) =>
      ask(pool, request(text, elements('text', i % 7 === 3 ? Buffer.from([0xff]) : 'a b'))).then(
        ({ rowTokens }) => rowTokens[0],
        (error: ServeError) => `${error.code}: ${error.message}`,
      ),
    ),
  );
  answers.forEach((answer, i) => {
    expect(answer).toBe(i % 7 === 3 ? 'INVALID_ARGUMENT: text 0 of 1 bytes is not valid UTF-8' : 4);
  });
});

test('a bad picture is refused, and the next one is prepared', async () => {
  await expect(ask(pool, request(image, elements('image', picture.subarray(0, 50))))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
  expect((await ask(pool, request(image, elements('image', picture)))).tensors).toHaveLength(1);
});

test('the wrong kind of content is refused', async () => {
  const refused = (contents: ContentElements[], processor: number) =>
    expect(ask(pool, request(processor, ...contents))).rejects;
  await refused([elements('image', picture)], text).toMatchObject({ message: 'the model takes no pictures' });
  await refused([elements('text', 'a')], image).toMatchObject({ message: 'the model takes no text' });
  await refused([elements('text_pair', 'a')], text).toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: 'second sentences came without first ones',
  });
});

test('files that make no tokenizer are refused, and others are still taken', async () => {
  await expect(pool.register({ text: { ...TEXT, tokenizerJson: '{' } })).rejects.toMatchObject({
    name: 'ServeError',
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/^tokenizer\.json is not JSON/),
  });
  const again = await pool.register({ text: TEXT });
  expect((await ask(pool, request(again, elements('text', 'a')))).rowTokens).toEqual([3]);
  pool.unregister(again);
});

test('a processor that is gone is unavailable', async () => {
  const gone = await pool.register({ text: TEXT });
  pool.unregister(gone);
  pool.unregister(gone);
  await expect(ask(pool, request(gone, elements('text', 'a')))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('a pool that nobody registers with starts no thread and closes', async () => {
  const idle = new PreprocessPool({ size: 2, workerFile: '/nowhere/at-all.js' });
  await idle.close();
  await expect(idle.register({ text: TEXT })).rejects.toMatchObject({ code: 'UNAVAILABLE' });
});

test('closing answers what runs and refuses what waits and what comes', async () => {
  const closing = new PreprocessPool({ size: 1, workerFile: WORKER });
  const processor = await closing.register({ text: TEXT });
  const outcomes = Array.from({ length: 40 }, () =>
    ask(closing, request(processor, elements('text', 'a b'))).then(
      () => 'prepared',
      (error: ServeError) => error.code,
    ),
  );
  const closed = closing.close();
  expect(closing.close()).toBe(closed);
  await closed;
  expect(await Promise.all(outcomes)).toEqual([
    ...new Array<string>(2).fill('prepared'),
    ...new Array<string>(38).fill('UNAVAILABLE'),
  ]);
  await expect(ask(closing, request(processor, elements('text', 'a')))).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: 'server is stopping',
  });
});

/** What the scripted worker tells of the message that a task came in. */
interface Seen {
  thread: number;
  before: number;
  tasks: number;
  bytes: number;
}
const seenIn = ({ rowTokens: [thread, before, tasks, bytes] }: Prepared) => ({ thread, before, tasks, bytes }) as Seen;

const SCRIPTED = join(import.meta.dirname, '../fixtures/preprocess/scripted-worker.mjs');
const spec = (wish: string) => ({ text: { ...TEXT, tokenizerJson: wish } });
const release = new BroadcastChannel('release');
afterAll(() => release.close());
let scripted: PreprocessPool | undefined;
afterEach(async () => {
  await closeScripted();
});

async function closeScripted(): Promise<void> {
  const closing = scripted?.close();
  scripted = undefined;
  if (!closing) return;
  let isClosed = false;
  const closed = closing.then(() => {
    isClosed = true;
  });
  while (!isClosed) {
    release.postMessage('');
    await Promise.race([closed, new Promise(setImmediate)]);
  }
}

function startScripted(options: { size?: number; maxTasks?: number; maxBytes?: number } = {}): PreprocessPool {
  scripted = new PreprocessPool({ size: 1, workerFile: SCRIPTED, ...options });
  return scripted;
}

/** Lets the worker answer one message after another until `wanted` settles. */
async function releasing<Value>(wanted: Promise<Value>): Promise<Value> {
  let isSettled = false;
  const settled = wanted.finally(() => {
    isSettled = true;
  });
  settled.catch(() => undefined);
  while (!isSettled) {
    release.postMessage('');
    await new Promise(setImmediate);
  }
  return settled;
}

test('small texts that wait together travel together, within a count and within bytes', async () => {
  const held = startScripted();
  const processor = await held.register(spec('held'));
  const small = Array.from({ length: 40 }, () => ask(held, request(processor, elements('text', 'a'))));
  const middling = Array.from({ length: 4 }, () => ask(held, request(processor, elements('text', 'm'.repeat(3000)))));
  expect(held.queued).toBe(42);
  const seen = (await releasing(Promise.all([...small, ...middling]))).map(seenIn);
  // The first two went at once, each to keep the thread busy.
  expect(seen.slice(0, 40).map(({ tasks }) => tasks)).toEqual([
    1,
    1,
    ...new Array<number>(32).fill(16),
    ...new Array<number>(6).fill(8),
  ]);
  expect(seen.slice(40).map(({ tasks }) => tasks)).toEqual([8, 8, 2, 2]);
  expect(seen[2]!.bytes).toBe(16 * 5);
  expect(held.queued).toBe(0);
});

test('large texts and pictures go alone, and take turns with small ones', async () => {
  const held = startScripted();
  const processor = await held.register(spec('held'));
  const order = (await releasing(
    Promise.all(
      [
        elements('text', 'first'),
        elements('image', 'second'),
        ...Array.from({ length: 3 }, () => elements('image', 'picture')),
        elements('text', 'x'.repeat(5000)),
        ...Array.from({ length: 20 }, () => elements('text', 'a')),
      ].map((content) => ask(held, request(processor, content))),
    ),
  ).then((all) => all.map(seenIn))) as Seen[];
  const before = order.map((seen) => seen.before);
  expect(before.slice(0, 6)).toEqual([0, 1, 3, 5, 6, 7]);
  expect(before.slice(6)).toEqual([...new Array<number>(16).fill(2), ...new Array<number>(4).fill(4)]);
  expect(order.slice(0, 6).every(({ tasks }) => tasks === 1)).toBe(true);
});

test('nothing is put behind a picture while another thread is there', async () => {
  const held = startScripted({ size: 2 });
  const processor = await held.register(spec('held'));
  const slow = ask(held, request(processor, elements('image', 'picture')));
  const quick = Array.from({ length: 2 }, () => ask(held, request(processor, elements('text', 'a'))));
  expect(held.queued).toBe(0);
  const waiting = ask(held, request(processor, elements('text', 'a')));
  expect(held.queued).toBe(1);
  const [picture, ...texts] = (await releasing(Promise.all([slow, ...quick, waiting]))).map(seenIn);
  expect(texts.slice(0, 2).every(({ thread }) => thread !== picture!.thread)).toBe(true);
});

test('what waits is bounded in requests and in bytes, and a refusal says so', async () => {
  const held = startScripted({ maxTasks: 3, maxBytes: 1000 });
  const processor = await held.register(spec('held'));
  const accepted = Array.from({ length: 5 }, () => ask(held, request(processor, elements('text', 'a'))));
  expect(held.queued).toBe(3);
  await expect(ask(held, request(processor, elements('text', 'a')))).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: 'preprocess queue is full (3 requests)',
  });
  await releasing(Promise.all(accepted));
  const more = [1, 2].map(() => ask(held, request(processor, elements('text', 'x'.repeat(2000)))));
  more.push(ask(held, request(processor, elements('text', 'x'.repeat(996)))));
  await expect(ask(held, request(processor, elements('text', '')))).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    message: 'preprocess queue is full (1000 bytes)',
  });
  await releasing(Promise.all(more));
});

test('what is cancelled is not answered, and frees its place', async () => {
  const held = startScripted({ maxTasks: 2 });
  const processor = await held.register(spec('held'));
  const running = askAndCancel(held, request(processor, elements('text', 'a')));
  const ahead = ask(held, request(processor, elements('text', 'a')));
  const waiting = askAndCancel(held, request(processor, elements('text', 'a')));
  const last = ask(held, request(processor, elements('text', 'b')));
  expect(held.queued).toBe(2);
  for (const { cancel } of [running, waiting, waiting]) cancel();
  expect(held.queued).toBe(1);
  const next = ask(held, request(processor, elements('text', 'c')));
  const seen = (await releasing(Promise.all([ahead, last, next]))).map(seenIn);
  expect(seen.map(({ before }) => before)).toEqual([1, 2, 2]);
  expect([running.calls, waiting.calls]).toEqual([[], []]);
});

test('a request whose deadline passes while it waits is refused before any work', async () => {
  const held = startScripted();
  const processor = await held.register(spec('held'));
  const late = { ...request(processor, elements('text', 'late')), deadlineMs: nowMs() - 1 };
  await expect(ask(held, late)).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
  const ahead = [1, 2].map(() => ask(held, request(processor, elements('text', 'a'))));
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const tooLate = ask(held, { ...request(processor, elements('text', 'a')), deadlineMs: nowMs() + 1 });
  const inTime = ask(held, request(processor, elements('text', 'a')));
  expect(held.queued).toBe(2);
  vi.advanceTimersByTime(2);
  const outcome = releasing(Promise.all([...ahead, inTime]));
  await expect(tooLate).rejects.toMatchObject({
    code: 'DEADLINE_EXCEEDED',
    message: 'Deadline Exceeded while the request waited to be preprocessed',
  });
  expect(seenIn((await outcome)[2]!).tasks).toBe(1);
});

test('a handler may ask again while it is answered', async () => {
  const held = startScripted();
  const processor = await held.register(spec('free'));
  let left = 50;
  await new Promise<void>((resolve, reject) => {
    const again = () => {
      if (left-- === 0) resolve();
      else held.run(request(processor, elements('text', 'a')), { onPrepared: again, onError: reject });
    };
    again();
  });
  expect(left).toBe(-1);
});

test('when a thread dies its requests are unavailable, and a new thread has the processors', async () => {
  const dying = startScripted();
  const first = await dying.register(spec('free'));
  const second = await dying.register(spec('free'));
  const { thread } = seenIn(await ask(dying, request(first, elements('text', 'a'))));
  for (let death = 0; death < 12; death++) {
    await expect(ask(dying, request(first, elements('text', 'exit now')))).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      message: expect.stringMatching(/^preprocess worker 0 was lost: .*code: 1/),
    });
    const [a, b] = await Promise.all([first, second].map((id) => ask(dying, request(id, elements('text', 'a')))));
    expect(seenIn(a!).thread).not.toBe(thread);
    expect(seenIn(b!).before).toBeGreaterThanOrEqual(seenIn(a!).before);
  }
});

test('what waits when a thread dies goes to the new one', async () => {
  const dying = startScripted();
  const processor = await dying.register(spec('free'));
  const outcomes = ['exit now', 'a', 'a', 'a'].map((value) =>
    ask(dying, request(processor, elements('text', value))).then(
      () => 'prepared',
      (error: ServeError) => error.code,
    ),
  );
  // The first two were on the thread.
  expect(await Promise.all(outcomes)).toEqual(['UNAVAILABLE', 'UNAVAILABLE', 'prepared', 'prepared']);
});

test('a processor that kills the threads that make it is refused, and the others stay', async () => {
  const dying = startScripted({ size: 2 });
  const good = await dying.register(spec('free'));
  await expect(dying.register(spec('exit now'))).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  const answers = Array.from({ length: 8 }, () => ask(dying, request(good, elements('text', 'a'))));
  const outcomes = await Promise.allSettled(answers);
  const again = await Promise.all([1, 2, 3, 4].map(() => ask(dying, request(good, elements('text', 'a')))));
  expect(again).toHaveLength(4);
  // The second thread may have died later than the first was told of.
  for (const outcome of outcomes)
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'UNAVAILABLE' });
});

test('a processor that kills the threads that make it takes none with it that is made behind it', async () => {
  const dying = startScripted({ size: 2 });
  const [bad, good] = await Promise.allSettled([dying.register(spec('exit now')), dying.register(spec('free'))]);
  expect(bad).toMatchObject({ status: 'rejected', reason: { code: 'UNAVAILABLE' } });
  expect(good).toMatchObject({ status: 'fulfilled' });
  const processor = (good as PromiseFulfilledResult<number>).value;
  expect(await Promise.all([1, 2, 3, 4].map(() => ask(dying, request(processor, elements('text', 'a')))))).toHaveLength(
    4,
  );
});

test('a worker that can not be loaded is given up, and everything after says so', async () => {
  const broken = new PreprocessPool({ size: 2, workerFile: join(import.meta.dirname, 'no-such-worker.js') });
  await expect(broken.register({ text: TEXT })).rejects.toMatchObject({
    code: 'UNAVAILABLE',
    message: expect.stringMatching(/^preprocess worker . was lost: Cannot find module '\.\.\.'/),
  });
  let last = '';
  while (!last.startsWith("preprocess workers can't be started: Cannot find module '...'"))
    last = await broken.register({ text: TEXT }).then(String, (error: ServeError) => error.message);
  await expect(ask(broken, request(1, elements('text', 'a')))).rejects.toMatchObject({ message: last });
  await broken.close();
});

describe('with prompts', () => {
  const [family] = readFileSync(join(import.meta.dirname, '../fixtures/prompts/families.jsonl'), 'utf8')
    .split('\n', 1)
    .map((line) => JSON.parse(line) as { tokenizer: unknown });
  const bytes = Buffer.from(JSON.stringify(family!.tokenizer));
  const tokenizerJson = new Uint8Array(new SharedArrayBuffer(bytes.length));
  tokenizerJson.set(bytes);
  const loops = '{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}';
  const PROMPT: PromptSpec = {
    tokenizerJson,
    tokenizerConfigJson: '{}',
    chatTemplate: `{% if loops %}${loops}{% endif %}{{ messages[0].content }}`,
    templateTokens: {},
    templateMs: 60_000,
  };
  const chat = (names: object): ContentElements =>
    elements('chat', JSON.stringify({ messages: [{ content: 'Hello' }], ...names }));

  test('a prompt and a conversation come back as one tensor of ids', async () => {
    const processor = await pool.register({ prompt: PROMPT });
    const [prompt] = (await ask(pool, request(processor, elements('prompt', 'Hello')))).tensors;
    expect(prompt).toMatchObject({ name: '', datatype: 'INT32', dims: [prompt!.data.byteLength / 4] });
    expect((await ask(pool, request(processor, elements('prompt_bare', 'Hello')))).tensors).toEqual([prompt]);
    expect((await ask(pool, request(processor, chat({})))).tensors).toEqual([prompt]);
  });

  test('a template that loops costs its own request an error, and neither its thread nor its neighbours anything', async () => {
    const one = new PreprocessPool({ size: 1, workerFile: WORKER });
    const patient = await one.register({ prompt: PROMPT });
    const hasty = await one.register({ prompt: { ...PROMPT, templateMs: 50 } });
    const results = await Promise.allSettled(
      [patient, hasty, patient, hasty, patient].map((processor) =>
        ask(one, request(processor, chat({ loops: processor === hasty }))),
      ),
    );
    expect(results.map(({ status }) => status)).toEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    expect(results[1]).toMatchObject({
      reason: { code: 'INVALID_ARGUMENT', message: 'the chat template did not end within 50 ms' },
    });
    await one.close();
  });

  test('a template that is none fails the registration', async () => {
    await expect(pool.register({ prompt: { ...PROMPT, chatTemplate: '{% endfor %}' } })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("chat_template can't be used: "),
    });
  });

  test('a model that takes texts takes no prompts', async () => {
    await expect(ask(pool, request(text, elements('prompt', 'a')))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'the model takes no prompts',
    });
  });
});
