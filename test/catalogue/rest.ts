/**
 * Section R of the catalogue: HTTP itself; json.ts has the bodies. Where the server knowingly answers otherwise than the catalogue, the case says why:
 * content types are not asked for, as in Triton (clients send what curl sends).
 */
import { expect } from 'vitest';
import { type Case, expectAnswer, restCase, special, wireCase } from './case.js';
import { goodJson } from './message.js';
import { restAnswer } from './world.js';

const BAD = 400;
const MIB = 1024 * 1024;
const GOOD = JSON.stringify(goodJson());
const INFER = '/v2/models/simple/infer';

/** A request of `datatype` [1,n] whose elements are this JSON text. */
const elements = (datatype: string, text: string, count = 1): string =>
  `{"inputs":[{"name":"INPUT0","datatype":"${datatype}","shape":[1,${count}],"data":[${text}]}]}`;

function head(fields: string, { path = INFER, method = 'POST' } = {}): string {
  return `${method} ${path} HTTP/1.1\r\nHost: x\r\n${fields}\r\n\r\n`;
}

const withType = (type: string | undefined, status: number): Case =>
  wireCase(
    'R4',
    `content type ${JSON.stringify(type)}`,
    () => [
      head(
        `${type === undefined ? '' : `Content-Type: ${type}\r\n`}Connection: close\r\nContent-Length: ${GOOD.length}`,
      ) + GOOD,
    ],
    [status],
  );

const types: readonly Case[] = [
  withType(undefined, 200),
  withType('text/plain', 200),
  withType('application/json\ta', 200),
  withType(' application/json', 200),
  withType('application/json garbage', 200),
  withType('application/x-www-form-urlencoded', 200),
  withType('application/json; charset=utf-16', 415),
  withType('multipart/form-data; boundary=x', 415),
  withType('application/json; charset=utf-8', 200),
];

const framing: readonly Case[] = [
  wireCase('R22', 'length and chunked', () => [head('Content-Length: 3\r\nTransfer-Encoding: chunked'), '0\r\n\r\n'], [
    BAD,
  ]),
  wireCase('R22', 'chunked and length', () => [head('Transfer-Encoding: chunked\r\nContent-Length: 3'), '0\r\n\r\n'], [
    BAD,
  ]),
  wireCase('R22', 'two lengths', () => [head('Content-Length: 3\r\nContent-Length: 4')], [BAD]),
  wireCase('R22', 'an unknown transfer coding', () => [head('Transfer-Encoding: xchunked')], [BAD]),
  wireCase('R22', 'a space before the colon', () => [head('Content-Length : 3')], [BAD]),
  wireCase('R22', 'a folded header field', () => [head('A: b\r\n c: d\r\nContent-Length: 0')], [BAD]),
  wireCase('R22', 'a negative length', () => [head('Content-Length: -1')], [BAD]),
  wireCase('R22', 'a length of 10^20', () => [head('Content-Length: 100000000000000000000')], [BAD]),
  wireCase('R22', 'a bare line feed', () => ['POST /v2 HTTP/1.1\nHost: x\n\n'], [BAD]),
  wireCase('R22', 'a broken chunk size', () => [head('Transfer-Encoding: chunked'), 'zz\r\n'], [BAD]),
  wireCase('R22', 'a chunk longer than it says', () => [head('Transfer-Encoding: chunked'), '1\r\nabc\r\n'], [BAD]),
  wireCase('R22', 'HTTP/2 on an HTTP/1.1 port', () => ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'], [BAD]),
  wireCase('R22', 'a TLS hello', () => [Buffer.from('16030100c8010000c40303', 'hex'), '\r\n\r\n'], [BAD]),
  wireCase('R22', 'no host', () => ['GET /v2 HTTP/1.1\r\n\r\n'], [BAD]),
  wireCase('R27', 'header fields of 17 KB', () => [head(`A: ${'x'.repeat(17_000)}`)], [431]),
  wireCase(
    'R27',
    '2001 header fields',
    () => [head(`${'A: b\r\n'.repeat(2001)}Content-Length: 0\r\nConnection: close`)],
    [431],
  ),
  wireCase('R27', 'a URL of 20 KB', () => [head('Content-Length: 0', { path: `/${'x'.repeat(20_000)}` })], [414]),
];

const lengths: readonly Case[] = [
  ...['-1', 'abc', '1e9', '99999999999', '99999999999999999999', '0x10', ' ', '1.5', '+1', String(GOOD.length + 1)].map(
    (value) =>
      restCase('R29', `inference header length ${JSON.stringify(value)}`, INFER, () => GOOD, BAD, /header|Length/i, {
        headers: { 'inference-header-content-length': value },
      }),
  ),
  restCase('R29', 'inference header length 0 with JSON', INFER, () => GOOD, BAD, undefined, {
    headers: { 'inference-header-content-length': '0' },
  }),
  restCase('R29', 'an inference header that ends inside the JSON', INFER, () => GOOD, BAD, /JSON/, {
    headers: { 'inference-header-content-length': '10' },
  }),
  ...[-1, 1.5, '"8"', null, 'true', 1e300, '99999999999999999999', 2 ** 53].map((size) =>
    special('R30', `binary_data_size ${size} (REST)`, async (world) => {
      const body = `{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":${size}}}]}`;
      const headers = { 'inference-header-content-length': String(body.length) };
      expectAnswer(await world.rest('id_fp32', Buffer.concat([Buffer.from(body), Buffer.alloc(8)]), { headers }), {
        status: BAD,
      });
    }),
  ),
  restCase(
    'R30',
    'binary_data_size without the header field',
    'id_fp32',
    () => '{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}',
    BAD,
    /'INPUT0'/,
  ),
];

const methods: readonly Case[] = [
  wireCase(
    'R31',
    'Expect: 100-continue with too much',
    () => [head(`Content-Length: ${65 * MIB}\r\nExpect: 100-continue`)],
    [413],
  ),
  wireCase('R31', 'an unknown expectation', () => [head('Content-Length: 0\r\nExpect: miracles')], [417]),
  wireCase(
    'R31',
    'an upgrade to h2c is not taken',
    () => [
      head('Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__', {
        path: '/v2/health/live',
        method: 'GET',
      }),
    ],
    [200],
  ),
  wireCase(
    'R31',
    'an upgrade to websocket is not taken',
    () => [head('Connection: Upgrade, close\r\nUpgrade: websocket', { path: '/v2/health/live', method: 'GET' })],
    [200],
  ),
  wireCase('R31', 'CONNECT', () => ['CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n'], [405]),
  wireCase('R31', 'TRACE', () => [head('Connection: close', { method: 'TRACE' })], [405]),
  restCase('R31', 'DELETE', INFER, () => GOOD, 405, undefined, { method: 'DELETE' }),
  restCase('R31', 'GET of the infer route', INFER, undefined, 405),
  restCase('R36', 'Accept: application/xml gets JSON', INFER, () => GOOD, 200, undefined, {
    headers: { accept: 'application/xml' },
  }),
  restCase('R37', 'an unknown content coding', INFER, () => GOOD, 501, undefined, {
    headers: { 'content-encoding': 'br' },
  }),
  restCase('R37', 'what is not gzip', INFER, () => GOOD, BAD, /content encoding/, {
    headers: { 'content-encoding': 'gzip' },
  }),
  restCase(
    'R38',
    'another model in the body: the path counts',
    INFER,
    () => JSON.stringify(goodJson({ model_name: 'gone' })),
    200,
  ),
  wireCase(
    'R39',
    'a header field named __proto__',
    () => [head(`__proto__: x\r\nconstructor: y\r\nConnection: close\r\nContent-Length: ${GOOD.length}`) + GOOD],
    [200],
  ),
  wireCase('R39', 'a method of 128 characters', () => [head('', { method: 'X'.repeat(128) })], [BAD]),
];

const clients: readonly Case[] = [
  special('R25', '1000 pipelined requests are answered (HTTP/1.1)', async (world) => {
    const request = head(`Content-Length: ${GOOD.length}`) + GOOD;
    const last = head(`Connection: close\r\nContent-Length: ${GOOD.length}`) + GOOD;
    const { statuses } = await world.wire(request.repeat(999) + last);
    expect(statuses).toEqual(new Array(1000).fill(200));
  }),
  special('R33', 'a client that closes in the middle of its upload (HTTP/1.1)', async (world) => {
    for (let i = 0; i < 50; i++) {
      const socket = await world.connect();
      socket.write(`${head('Content-Length: 1000000')}{"inputs":`);
      if (i % 2 === 0) socket.resetAndDestroy();
      else socket.destroy();
    }
    await expect.poll(() => world.bytesInFlight()).toBeLessThan(MIB);
  }),
  special('R33', 'a client that closes while its reply is on the way (HTTP/1.1)', async (world) => {
    const body = elements('FP32', `${'1,'.repeat(999_999)}1`, 1_000_000);
    for (let i = 0; i < 5; i++) {
      const socket = await world.connect();
      socket.write(head(`Content-Length: ${body.length}`, { path: '/v2/models/id_fp32/infer' }) + body);
      await new Promise((resolve) => socket.once('data', resolve));
      socket.resetAndDestroy();
    }
    await expect.poll(() => world.bytesInFlight()).toBeLessThan(MIB);
  }),
  special('R33', 'a client that closes its sending side is answered (HTTP/1.1)', async (world) => {
    const socket = await world.connect();
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    socket.end(head(`Content-Length: ${GOOD.length}`) + GOOD);
    await new Promise((resolve) => socket.once('close', resolve));
    expect(text).toMatch(/HTTP\/1\.1 200 /);
  }),
  special('R33', '1,000,000 chunks of one byte (HTTP/1.1)', async (world) => {
    const { statuses } = await world.wire(
      head('Transfer-Encoding: chunked\r\nConnection: close'),
      '1\r\n \r\n'.repeat(1_000_000),
      '0\r\n\r\n',
    );
    expect(statuses).toEqual([BAD]);
  }),
  special('R33', '60,000 chunks of one byte (HTTP/1.1)', async (world) => {
    const text = GOOD + ' '.repeat(60_000 - GOOD.length);
    const chunks = Array.from(text, (byte) => `1\r\n${byte}\r\n`).join('');
    const { statuses } = await world.wire(head('Transfer-Encoding: chunked\r\nConnection: close'), chunks, '0\r\n\r\n');
    expect(statuses).toEqual([200]);
  }),
  special('R34', 'outputs with NaN are JSON that Python reads (REST)', async (world) => {
    const answer = await world.rest('id_fp64', elements('FP64', 'NaN,1', 2));
    expect(answer.status).toBe(200);
    expect(JSON.parse(answer.body.toString().replace('NaN', 'null')).outputs[0].data).toEqual([null, 1]);
  }),
  special('R39', 'header names that are on every object (REST)', async (world) => {
    const headers = { hasownproperty: 'x', tostring: 'y' };
    expectAnswer(restAnswer(200, {}, (await world.rest(INFER, GOOD, { headers })).body), { status: 200 });
  }),
];

export const restCases: readonly Case[] = [...types, ...framing, ...lengths, ...methods, ...clients];
