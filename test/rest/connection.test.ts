import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type FrontEnd, inferBody, readAll, startFrontEnd } from './front-end.js';

const LIMIT = 1024 * 1024;
let front: FrontEnd;
beforeAll(async () => {
  front = await startFrontEnd({ maxInputSize: LIMIT });
});
afterAll(() => front.close());

const BODY = inferBody('INT32', [2], '[1,2]');

function head(path: string, fields: string, version = 'HTTP/1.1'): string {
  return `POST ${path} ${version}\r\nHost: x\r\n${fields}\r\n\r\n`;
}

const infer = (model: string, fields = `Content-Length: ${BODY.length}`): string =>
  head(`/v2/models/${model}/infer`, fields);

/** The statuses of the replies in a connection's output. */
const statuses = (output: string): number[] =>
  [...output.matchAll(/HTTP\/1\.1 (\d+) /g)].map((match) => Number(match[1]));

async function expectAlive(): Promise<void> {
  expect((await fetch(`${front.url}/v2/health/live`)).status).toBe(200);
}

describe('malformed requests', () => {
  test.each<[string, string, number]>([
    ['garbage', 'garbage\r\n\r\n', 400],
    ['length and chunked', head('/v2', 'Content-Length: 3\r\nTransfer-Encoding: chunked'), 400],
    ['two lengths', head('/v2', 'Content-Length: 3\r\nContent-Length: 4'), 400],
    ['an unknown transfer coding', infer('echo', 'Transfer-Encoding: xchunked'), 400],
    ['an early error before broken framing', head('/v2', 'Transfer-Encoding: xchunked'), 405],
    ['space before the colon', head('/v2', 'Content-Length : 3'), 400],
    ['a folded field', head('/v2', 'A: b\r\n c: d\r\nContent-Length: 0').replace('\r\n c', '\r\n\tc'), 400],
    ['17 KB of fields', head('/v2', `A: ${'a'.repeat(17_000)}`), 431],
    ['2001 fields', `GET /v2 HTTP/1.1\r\nHost: x\r\n${'a:b\r\n'.repeat(2001)}\r\n`, 431],
    ['a long URL', head(`/${'u'.repeat(20_000)}`, 'A: b'), 414],
    ['a 128-character method', `${'M'.repeat(128)} /v2 HTTP/1.1\r\nHost: x\r\n\r\n`, 400],
    ['CONNECT', 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    ['TRACE', 'TRACE /v2 HTTP/1.1\r\nHost: x\r\n\r\n', 405],
    ['an unknown expectation', head('/v2', 'Expect: tea\r\nContent-Length: 0'), 417],
    ['a bad chunk', `${infer('echo', 'Transfer-Encoding: chunked')}zz\r\n`, 400],
  ])('%s gets one error in JSON', async (_name, bytes, status) => {
    const output = await front.raw(bytes);
    expect(statuses(output)[0], output.slice(0, 300)).toBe(status);
    expect(output).toMatch(/\r\nserver-timing: total;dur=/i);
    expect(Object.keys(JSON.parse(output.slice(output.indexOf('\r\n\r\n') + 4)))).toEqual(['error']);
    await expectAlive();
  });

  test('a field named __proto__ and an upgrade are nothing special', async () => {
    const output = await front.raw(
      `GET /v2/health/live HTTP/1.1\r\nHost: x\r\n__proto__: y\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n`,
    );
    expect(statuses(output)).toEqual([200]);
  });

  test('an absolute URL is its path', async () => {
    expect(statuses(await front.raw('GET http://x/v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n'))).toEqual([200]);
    expect(statuses(await front.raw('OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n'))).toEqual([404]);
  });
});

describe('sizes', () => {
  test('a body at the limit is read, one byte more is 413 before it is sent', async () => {
    const padded = (size: number): string => BODY + ' '.repeat(size - BODY.length);
    expect((await front.post('/v2/models/echo/infer', padded(LIMIT))).status).toBe(200);
    const output = await front.raw(infer('echo', `Content-Length: ${LIMIT + 1}`));
    expect(statuses(output)).toEqual([413]);
    expect(output).toContain(
      `request JSON size of ${LIMIT + 1} bytes exceeds the maximum allowed input size of ${LIMIT} bytes. Use --http-max-input-size to increase the limit.`,
    );
    const sent = await front.post('/v2/models/echo/infer', padded(LIMIT + 1));
    expect(sent.status).toBe(413);
  });

  test('text within the limit whose tensor is not is 413', async () => {
    const count = LIMIT / 4;
    const body = `{"inputs":[{"name":"INPUT0","datatype":"FP64","shape":[${count}],"data":[${'1,'.repeat(count - 1)}1]}]}`;
    expect(body.length).toBeLessThan(LIMIT);
    const response = await front.post('/v2/models/echo/infer', body);
    expect(response.status).toBe(413);
    expect(await response.text()).toContain(`tensors of the request take ${8 * count} bytes`);
  });

  test('a reply larger than a body may be is 429, however little was asked', async () => {
    const response = await front.post('/v2/models/big/infer', inferBody('INT32', [1], `[${LIMIT + 1}]`));
    expect(response.status).toBe(429);
    expect(await response.text()).toContain(`take ${LIMIT + 1} bytes, at most ${LIMIT} are sent`);
    expect((await front.post('/v2/models/big/infer', inferBody('INT32', [1], `[${LIMIT}]`))).status).toBe(200);
    await expect.poll(() => front.budget.used).toBe(0);
  });

  test('a chunked body past the limit is 413', async () => {
    const stream = new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(65_536));
      },
    });
    const response = await fetch(`${front.url}/v2/models/echo/infer`, {
      method: 'POST',
      body: stream,
      duplex: 'half',
    } as RequestInit);
    expect(response.status).toBe(413);
    await expect.poll(() => front.budget.used).toBe(0);
  });

  test('a body in more chunks than it may have is 400', async () => {
    const output = await front.raw(
      `${infer('echo', 'Transfer-Encoding: chunked')}${'1\r\n \r\n'.repeat(65_537)}0\r\n\r\n`,
    );
    expect(statuses(output)).toEqual([400]);
    expect(output).toContain('more than 65536 chunks');
    const padding = '1\r\n \r\n'.repeat(65_535);
    const whole = `${BODY.length.toString(16)}\r\n${BODY}\r\n${padding}0\r\n\r\n`;
    expect(statuses(await front.raw(infer('echo', 'Transfer-Encoding: chunked') + whole))).toEqual([200]);
    await expect.poll(() => front.budget.used).toBe(0);
  });

  test('Expect: 100-continue invites what fits and refuses what does not, unsent', async () => {
    const socket = await front.connect();
    socket.write(infer('echo', `Content-Length: ${BODY.length}\r\nExpect: 100-continue\r\nConnection: close`));
    const [first] = (await once(socket, 'data')) as [Buffer];
    expect(first.toString()).toContain('100 Continue');
    socket.write(BODY);
    expect(statuses(await readAll(socket))).toEqual([200]);
    expect(statuses(await front.raw(infer('echo', `Content-Length: ${LIMIT + 1}\r\nExpect: 100-continue`)))).toEqual([
      413,
    ]);
  });

  test('bytes beyond the budget are refused with 429, and given back', async () => {
    const own = await startFrontEnd({ maxInputSize: 128 * LIMIT });
    const output = await own.raw(infer('echo', `Content-Length: ${own.budget.limit + 1}`));
    expect(statuses(output)).toEqual([429]);
    const held = await own.connect();
    held.write(infer('echo', `Content-Length: ${own.budget.limit}`));
    await expect.poll(() => own.budget.used).toBe(own.budget.limit);
    expect((await own.post('/v2/models/echo/infer', BODY)).status).toBe(429);
    held.destroy();
    await expect.poll(() => own.budget.used).toBe(0);
    expect((await own.post('/v2/models/echo/infer', BODY)).status).toBe(200);
    await own.close();
  });
});

describe('clients that go', () => {
  test('in the middle of the upload: nothing is kept and the request counts as 499', async () => {
    const before = front.finished.length;
    const socket = await front.connect();
    socket.write(`${infer('echo', 'Content-Length: 100000')}${'x'.repeat(500)}`);
    await expect.poll(() => front.budget.used).toBe(100_000);
    socket.destroy();
    await expect.poll(() => front.budget.used).toBe(0);
    expect(front.finished.slice(before)).toEqual([{ arm: undefined, modelName: 'echo', status: 499 }]);
  });

  test('while the model runs: the engine is told', async () => {
    const controller = new AbortController();
    const seen = front.engine.nextSeen();
    const response = fetch(`${front.url}/v2/models/hold/infer`, {
      method: 'POST',
      body: BODY,
      signal: controller.signal,
    });
    await seen;
    const cancelled = front.engine.nextCancelled();
    controller.abort();
    await expect(response).rejects.toThrow();
    await cancelled;
    front.engine.release();
    await expectAlive();
  });

  test('with several requests pipelined: each is cancelled and gives its bytes back', async () => {
    const before = front.finished.length;
    const cancelled = front.engine.cancelled;
    const socket = await front.connect();
    for (let i = 0; i < 3; i++) {
      const seen = front.engine.nextSeen();
      socket.write(infer('hold') + BODY);
      await seen;
    }
    expect(front.budget.used).toBe(3 * BODY.length);
    socket.resetAndDestroy();
    await expect.poll(() => front.budget.used).toBe(0);
    expect(front.finished.slice(before).map((info) => info.status)).toEqual([499, 499, 499]);
    expect(front.engine.cancelled).toBe(cancelled + 3);
    front.engine.release();
    await expectAlive();
  });

  test('with the sending side only: they are still answered, also after a while', async () => {
    expect(statuses(await front.raw(infer('later') + BODY))).toEqual([200]);
    const seen = front.engine.nextSeen();
    const socket = await front.connect();
    let output = '';
    socket.on('data', (chunk: Buffer) => {
      output += chunk.toString('latin1');
    });
    socket.end(infer('hold') + BODY);
    await seen;
    await expect.poll(() => output).toContain('102 Processing');
    front.engine.release();
    await once(socket, 'close');
    expect(new Set(statuses(output))).toEqual(new Set([102, 200]));
    expect(statuses(output).at(-1)).toBe(200);
  });

  test('an answered request is not cancelled', async () => {
    const before = front.engine.cancelled;
    expect(statuses(await front.raw(infer('echo') + BODY))).toEqual([200]);
    await expect.poll(() => front.finished.at(-1)?.status).toBe(200);
    expect(front.engine.cancelled).toBe(before);
  });
});

test('a thousand pipelined requests are answered in order', async () => {
  const request = (i: number): string => {
    const body = inferBody('INT32', [1], `[${i}]`);
    return head('/v2/models/later/infer', `Content-Length: ${body.length}`) + body;
  };
  const output = await front.raw(Array.from({ length: 1000 }, (_, i) => request(i)).join(''));
  expect([...output.matchAll(/"data":\[(\d+)\]/g)].map((match) => Number(match[1]))).toEqual(
    Array.from({ length: 1000 }, (_, i) => i),
  );
});
