import { request as httpRequest } from 'node:http';
import { deflateSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { binaryBody, type FrontEnd, inferBody, startFrontEnd } from './front-end.js';

let front: FrontEnd;
beforeAll(async () => {
  front = await startFrontEnd();
});
afterAll(() => front.close());

const PATH = '/v2/models/echo/infer';
const floats = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);

async function error(response: Response): Promise<string> {
  expect(response.headers.get('content-type')).toBe('application/json');
  expect(response.headers.get('server-timing')).toMatch(/total;dur=\d/);
  const body = (await response.json()) as { error: string };
  expect(Object.keys(body)).toEqual(['error']);
  return body.error;
}

describe('JSON', () => {
  test('comes back flat, with the budget of the request', async () => {
    const response = await front.post(PATH, inferBody('INT32', [2, 2], '[[1,2],[3,4]]', ',"id":"a1"'));
    expect(response.status).toBe(200);
    expect(await response.text()).toBe(
      '{"id":"a1","model_name":"echo","model_version":"3","outputs":[{"name":"OUTPUT0","datatype":"INT32","shape":[2,2],"data":[1,2,3,4]}]}',
    );
    const timing = response.headers.get('server-timing')!;
    expect(timing).toMatch(/^receive;dur=[\d.]+, decode;dur=[\d.]+, admit.*encode;dur=[\d.]+, total;dur=[\d.]+$/);
  });

  test('64-bit integers and special floats survive', async () => {
    const wide = await front.post(PATH, inferBody('INT64', [2], '[9007199254740993,-9223372036854775808]'));
    expect(await wide.text()).toContain('"data":[9007199254740993,-9223372036854775808]');
    const special = await front.post(PATH, inferBody('FP32', [4], '[NaN,Infinity,-Infinity,-0.0]'));
    expect(await special.text()).toContain('"data":[NaN,Infinity,-Infinity,-0.0]');
  });

  test('the model in the path wins, any content type in UTF-8 will do, query and trailing slash are nothing', async () => {
    const body = `{"model_name":"other",${inferBody('BOOL', [1], '[true]').slice(1)}`;
    for (const type of ['application/json; charset=utf-8', 'application/x-www-form-urlencoded', 'text/plain', 'odd']) {
      const response = await front.post(`/v2/models/%65cho/versions/3/infer/?a=1&b=2`, body, { 'content-type': type });
      expect(response.status, type).toBe(200);
      expect(front.engine.seen.at(-1)).toMatchObject({ modelName: 'echo', modelVersion: '3', arm: 'rest_json' });
    }
    for (const type of ['multipart/form-data; boundary=x', 'application/json; charset=utf-16']) {
      expect((await front.post(PATH, body, { 'content-type': type })).status).toBe(415);
    }
  });

  test('a large tensor goes through the worker both ways and is the same', async () => {
    const values = Float32Array.from({ length: 50_000 }, (_, i) => Math.fround(Math.sin(i)));
    const response = await front.post(PATH, inferBody('FP32', [50_000], JSON.stringify([...values])));
    const { outputs } = (await response.json()) as { outputs: { data: number[] }[] };
    expect(Buffer.from(Float32Array.from(outputs[0]!.data).buffer).equals(Buffer.from(values.buffer))).toBe(true);
  });

  test('classification says how many classes an output is asked for, and without it the tensor is', async () => {
    const outputs = '[{"name":"X","parameters":{"classification":3,"binary_data":true}},{"name":"Y"}]';
    await front.post(PATH, inferBody('BOOL', [1], '[true]', `,"outputs":${outputs}`));
    expect(front.engine.seen.at(-1)!.outputs).toEqual([
      { name: 'X', classification: 3 },
      { name: 'Y', classification: 0 },
    ]);
  });

  test('parameters reach the engine, those of the REST extension do not', async () => {
    await front.post(PATH, inferBody('BOOL', [1], '[true]', ',"parameters":{"timeout":5,"binary_data_output":false}'));
    expect([...front.engine.seen.at(-1)!.parameters]).toEqual([['timeout', 5]]);
  });

  test.each<[string, string, number, string]>([
    ['empty body', '', 400, 'failed to parse the request JSON buffer'],
    ['an array', '[]', 400, 'failed to parse'],
    ['a byte order mark', '\ufeff{}', 400, 'failed to parse'],
    ['trailing comma', '{"inputs":[],}', 400, 'failed to parse'],
    ['fraction for INT', inferBody('INT32', [1], '[1.5]'), 400, "'1.5' is not an integer"],
    ['out of range', inferBody('INT8', [1], '[300]'), 400, "'300' is out of range"],
    ['lone surrogate', inferBody('BYTES', [1], '["\\ud800"]'), 400, 'surrogate'],
    ['ragged', inferBody('INT8', [2, 2], '[[1,2],[3]]'), 400, "Shape does not match true shape of 'data' field"],
    ['FP16', inferBody('FP16', [1], '[1]'), 400, 'receiving FP16 data via JSON is not supported'],
    ['no data', '{"inputs":[{"name":"X","datatype":"INT8","shape":[1]}]}', 400, 'But no field is set'],
    [
      'two kinds of data',
      '{"inputs":[{"name":"X","datatype":"INT8","shape":[1],"data":[1],"parameters":{"binary_data_size":1}}]}',
      400,
      "But set 'data' 'binary_data_size'",
    ],
    [
      'shared memory',
      '{"inputs":[{"name":"X","datatype":"INT8","shape":[1],"parameters":{"shared_memory_region":"r"}}]}',
      501,
      'Client shared memory is disabled',
    ],
    [
      'reserved parameter',
      inferBody('BOOL', [1], '[true]', ',"parameters":{"triton_x":1}'),
      400,
      "starting with 'triton_'",
    ],
    ...['0', '-1', '1.5', 'true', '"3"'].map((value): [string, string, number, string] => [
      `classification ${value}`,
      inferBody('BOOL', [1], '[true]', `,"outputs":[{"name":"Y","parameters":{"classification":${value}}}]`),
      400,
      "Unable to parse 'classification' of output 'Y', expected a whole number > 0, got ",
    ]),
  ])('%s is refused', async (_name, body, status, text) => {
    const response = await front.post(PATH, body);
    expect(response.status).toBe(status);
    expect(await error(response)).toContain(text);
    // A body of the same kind that is large enough for the worker is refused with the same words.
    if (!body.startsWith('{"')) return;
    const large = await front.post(PATH, `{"padding":"${'p'.repeat(20_000)}",${body.slice(1)}`);
    expect(large.status).toBe(status);
    expect(await error(large)).toContain(text);
  });

  test.each([
    ['unknown', 404, "Request for unknown model: 'unknown' is not found"],
    ['fail', 400, 'unexpected shape for input'],
    ['throw', 500, 'internal error'],
  ])('model %s answers %i', async (model, status, text) => {
    const response = await front.post(`/v2/models/${model}/infer`, inferBody('BOOL', [1], '[true]'));
    expect(response.status).toBe(status);
    expect(await error(response)).toContain(text);
  });
});

describe('the binary tensor extension', () => {
  const input = (size: number) => ({
    name: 'X',
    datatype: 'FP32',
    shape: [size / 4],
    parameters: { binary_data_size: size },
  });

  test('tensors come in behind the JSON and go out the same way', async () => {
    const { body, headers } = binaryBody(
      { id: 'b', inputs: [input(8), input(4)], parameters: { binary_data_output: true } },
      floats(1, 2),
      floats(3),
    );
    const response = await front.post(PATH, body, headers);
    expect(response.headers.get('content-type')).toBe('application/octet-stream');
    const bytes = Buffer.from(await response.arrayBuffer());
    const length = Number(response.headers.get('inference-header-content-length'));
    const json = JSON.parse(bytes.toString('utf8', 0, length));
    expect(json.outputs[0]).toEqual({
      name: 'OUTPUT0',
      datatype: 'FP32',
      shape: [2],
      parameters: { binary_data_size: 8 },
    });
    expect(bytes.subarray(length).equals(floats(1, 2, 3))).toBe(true);
    expect(front.engine.seen.at(-1)!.arm).toBe('rest_binary');
  });

  test('each output is sent as it was asked for, large JSON beside bytes as well', async () => {
    const values = floats(...Array.from({ length: 4096 }, (_, i) => i / 7));
    const { body, headers } = binaryBody(
      {
        inputs: [input(values.length), input(4)],
        outputs: [{ name: 'OUTPUT0' }, { name: 'OUTPUT1', parameters: { binary_data: true } }],
      },
      values,
      floats(3),
    );
    const response = await front.post(PATH, body, headers);
    const bytes = Buffer.from(await response.arrayBuffer());
    const length = Number(response.headers.get('inference-header-content-length'));
    const json = JSON.parse(bytes.toString('utf8', 0, length));
    expect(Buffer.from(Float32Array.from(json.outputs[0].data).buffer).equals(values)).toBe(true);
    expect(bytes.subarray(length).equals(floats(3))).toBe(true);
  });

  test('binary inputs with JSON outputs answer plain JSON', async () => {
    const { body, headers } = binaryBody({ inputs: [input(4)] }, floats(1.5));
    const response = await front.post(PATH, body, headers);
    expect(response.headers.get('inference-header-content-length')).toBeNull();
    expect(await response.text()).toContain('"data":[1.5]');
  });

  test('header length 0 makes the body the only tensor, of the shape that its length allows', async () => {
    const zero = { 'inference-header-content-length': '0' };
    const response = await front.post(PATH, Buffer.from(Uint8Array.from(floats(1, 2, 3, 4)).buffer), zero);
    expect(response.status).toBe(200);
    expect(front.engine.seen.at(-1)!.inputs[0]).toMatchObject({ name: 'INPUT0', datatype: 'FP32', shape: [1, 4] });
    const bytes = Buffer.from(await response.arrayBuffer());
    expect(
      bytes.subarray(Number(response.headers.get('inference-header-content-length'))).equals(floats(1, 2, 3, 4)),
    ).toBe(true);
  });

  test('a body that is said to be a picture is one, and comes back in the form that its headers ask for', async () => {
    const json = await front.post(PATH, 'pixels', { 'content-type': 'image/png' });
    expect(await json.json()).toMatchObject({ outputs: [{ datatype: 'BYTES', shape: [1], data: ['pixels'] }] });
    const [input] = front.engine.seen.at(-1)!.inputs;
    expect(input).toMatchObject({ name: '', datatype: 'BYTES', shape: [1], content: 'image' });
    expect(Buffer.from(input!.data).toString()).toBe('\u0006\0\0\0pixels');
    const zero = { 'content-type': 'IMAGE/JPEG', 'inference-header-content-length': '0' };
    const binary = await front.post(PATH, 'pixels', zero);
    expect(
      Buffer.from(await binary.arrayBuffer())
        .subarray(-6)
        .toString(),
    ).toBe('pixels');
    expect(binary.headers.get('content-type')).toBe('application/octet-stream');
  });

  test.each([
    ['-1', 'Unable to parse Inference-Header-Content-Length, got: -1'],
    ['abc', 'Unable to parse'],
    ['1e9', 'Unable to parse'],
    ['99999999999', 'inference header size should be in range (0,'],
    ['9999999999999999999', 'Unable to parse'],
    ['3', 'failed to parse the request JSON buffer'],
  ])('header length %s is refused', async (length, text) => {
    const { body } = binaryBody({ inputs: [input(4)] }, floats(1));
    const response = await front.post(PATH, body, { 'inference-header-content-length': length });
    expect(response.status).toBe(400);
    expect(await error(response)).toContain(text);
  });

  test.each<[string, unknown, string]>([
    ['too few bytes', 16, "unexpected size for input 'X', expecting 8 additional bytes for model 'echo'"],
    ['too many bytes', 4, "unexpected additional input data for model 'echo'"],
    ['a negative size', -8, 'binary_data_size'],
    ['a fraction', 7.5, 'binary_data_size'],
    ['a size past 2^53', 2 ** 60, 'binary_data_size'],
    ['a text', '8', 'binary_data_size'],
  ])('%s are refused', async (_name, size, text) => {
    const json = { inputs: [{ ...input(8), parameters: { binary_data_size: size } }] };
    const { body, headers } = binaryBody(json, floats(1, 2));
    const response = await front.post(PATH, body, headers);
    expect(response.status).toBe(400);
    expect(await error(response)).toContain(text);
  });
});

describe('codings', () => {
  const body = inferBody('INT32', [4], '[1,2,3,4]');
  const pack = (data: Buffer): Buffer<ArrayBuffer> => Buffer.from(Uint8Array.from(data).buffer);

  test.each<[string, Buffer<ArrayBuffer>]>([
    ['gzip', pack(gzipSync(body))],
    ['deflate', pack(deflateSync(body))],
    ['identity', pack(Buffer.from(body))],
  ])('a %s body is read', async (coding, packed) => {
    const response = await front.post(PATH, packed, { 'content-encoding': coding });
    expect(response.status).toBe(200);
    expect(await response.text()).toContain('"data":[1,2,3,4]');
  });

  test('the header length counts inflated bytes', async () => {
    const { body, headers } = binaryBody(
      { inputs: [{ name: 'X', datatype: 'FP32', shape: [1], parameters: { binary_data_size: 4 } }] },
      floats(2.5),
    );
    const response = await front.post(PATH, pack(gzipSync(body)), { ...headers, 'content-encoding': 'gzip' });
    expect(await response.text()).toContain('"data":[2.5]');
  });

  test('broken, cut off and unknown codings are refused', async () => {
    const gzip = { 'content-encoding': 'gzip' };
    expect((await front.post(PATH, body, gzip)).status).toBe(400);
    expect((await front.post(PATH, pack(gzipSync(body).subarray(0, 20)), gzip)).status).toBe(400);
    const unknown = await front.post(PATH, body, { 'content-encoding': 'br' });
    expect(unknown.status).toBe(501);
    expect(unknown.headers.get('accept-encoding')).toBe('gzip, deflate');
    expect(await error(unknown)).toBe('Unsupported compression type');
  });

  test('a bomb stops at the limit, whatever it would become', async () => {
    const bomb = pack(gzipSync(Buffer.alloc(200 * 1024 * 1024)));
    const response = await front.post(PATH, bomb, { 'content-encoding': 'gzip' });
    expect(response.status).toBe(413);
    expect(await error(response)).toContain('exceeds the maximum allowed input size');
    expect(front.budget.peak).toBeLessThanOrEqual(front.budget.limit);
  });

  test.each([
    ['gzip', 'gzip'],
    ['deflate', 'deflate'],
    ['gzip;q=0.5, deflate;q=0.8', 'deflate'],
    ['gzip;q=0, deflate;q=0', null],
    ['br', null],
    ['gzip;q=0.2, identity;q=0.9', null],
  ])('Accept-Encoding: %s gets %s', async (accept, coding) => {
    const response = await front.post(PATH, inferBody('INT32', [40], JSON.stringify(Array(40).fill(7))), {
      'accept-encoding': accept,
    });
    expect(response.headers.get('content-encoding')).toBe(coding);
    expect(((await response.json()) as { outputs: { data: number[] }[] }).outputs[0]!.data).toEqual(Array(40).fill(7));
  });

  test('tensors are compressed for a client that asks, not for one that merely can', async () => {
    const zeros = Buffer.alloc(40_000);
    const json = {
      inputs: [{ name: 'X', datatype: 'UINT8', shape: [40_000], parameters: { binary_data_size: 40_000 } }],
      parameters: { binary_data_output: true },
    };
    const { body, headers } = binaryBody(json, zeros);
    const can = await front.post(PATH, body, { ...headers, 'accept-encoding': 'gzip, deflate, br' });
    expect(can.headers.get('content-encoding')).toBeNull();
    const asks = await front.post(PATH, body, { ...headers, 'accept-encoding': 'gzip' });
    expect(asks.headers.get('content-encoding')).toBe('gzip');
    const bytes = Buffer.from(await asks.arrayBuffer());
    expect(bytes.subarray(Number(asks.headers.get('inference-header-content-length'))).equals(zeros)).toBe(true);
  });
});

test('a chunked body in many small parts is read', async () => {
  const body = inferBody('INT32', [4], '[1,2,3,4]');
  const text = await new Promise<string>((resolve, reject) => {
    const request = httpRequest(front.url + PATH, { method: 'POST' }, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk)).on('end', () => resolve(text));
    });
    request.on('error', reject);
    for (const char of body) request.write(char);
    request.end();
  });
  expect(text).toContain('"data":[1,2,3,4]');
});

test('every request gives its bytes back', async () => {
  await expect.poll(() => front.budget.used).toBe(0);
});
