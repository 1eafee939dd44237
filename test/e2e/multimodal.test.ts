/** inference.v1 with contents in place of tensors, on the real server: MultimodalInfer, and tensors of nothing but a name and bytes. */
import { deflateSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, connect, frame, RawConnection, type Stub } from '../grpc/front-end.js';
import { delimited } from '../grpc/wire.js';
import { rawStrings, temporaryDirectory } from '../support/engine.js';
import { identityModel, slowModel, stringModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

let server: TestServer;
let v1: Stub;

beforeAll(async () => {
  const repository = temporaryDirectory();
  const config = 'max_batch_size: 8\n';
  writeModel(repository, 'echo', { config, versions: { 1: identityModel('BYTES', [1]) } });
  writeModel(repository, 'joined', { config, versions: { 1: stringModel() } });
  writeModel(repository, 'vector', { config, versions: { 1: identityModel('FP32', [3]) } });
  writeModel(repository, 'slow', { config, versions: { 1: slowModel(3_000) } });
  const args = ['--log-level', 'warn', '--grpc-max-input-size', '100000'];
  server = await startServer({ repository, args });
  v1 = connect('v1', server.grpcPort);
});

afterAll(async () => {
  v1.close();
  expect(await server.stop()).toBe(0);
});

const multimodal = (model_name: string, inputs: object[], options = {}) =>
  call(v1, 'MultimodalInfer', { model_name, inputs }, options);
const infer = (model_name: string, inputs: object[]) => call(v1, 'ModelInfer', { model_name, inputs });

test('a text is one string of a model that takes strings', async () => {
  const { error, response, trailer } = await multimodal('echo', [{ name: 'INPUT0', text: 'Grüße, 世界' }]);
  expect(error).toBeNull();
  expect(response).toMatchObject({ model_name: 'echo', model_version: '1' });
  expect(response.outputs).toMatchObject([{ name: 'OUTPUT0', datatype: 'BYTES', shape: [1, 1] }]);
  expect(response.outputs[0].raw_contents).toEqual(rawStrings('Grüße, 世界'));
  expect(trailer!.get('server-timing')[0]).toMatch(/total;dur=\d/);
});

test('an embedding is a vector of a model that takes one', async () => {
  const { error, response } = await multimodal('vector', [{ embedding: { values: [1, 2.5, -3] } }]);
  expect(error).toBeNull();
  const { shape, raw_contents } = response.outputs[0];
  expect([shape, new Float32Array(Uint8Array.from(raw_contents).buffer)]).toEqual([
    [1, 3],
    Float32Array.of(1, 2.5, -3),
  ]);
});

test('a deflated request is the same request', async () => {
  const connection = new RawConnection(server.grpcPort);
  const message = Buffer.concat([delimited(1, 'echo'), delimited(3, delimited(3, 'a'.repeat(1000)))]);
  const path = '/inference.v1.InferenceService/MultimodalInfer';
  const reply = await connection.request(path, frame(deflateSync(message), 1), { 'grpc-encoding': 'deflate' });
  expect(reply.headers).toMatchObject({ 'grpc-status': '0' });
  expect(reply.body.includes('a'.repeat(1000))).toBe(true);
  connection.close();
});

test.each<[string, object, string]>([
  ['vector', { image_bytes: Buffer.of(1) }, 'was sent an image but takes a tensor FP32 [3]'],
  ['vector', { text: 'a' }, 'was sent text but takes a tensor FP32 [3]'],
  ['echo', { embedding: { values: [1] } }, 'was sent an embedding but takes a tensor BYTES [1]'],
  ['echo', {}, "input 'INPUT0' has no content, expected one of image_bytes, text and embedding"],
])("model '%s' refuses a content that it can't take: %o", async (model, content, text) => {
  const { error } = await multimodal(model, [{ name: 'INPUT0', ...content }]);
  expect(error!.code).toBe(3);
  expect(error!.details).toContain(text);
});

test('deadline, size limit and unknown models are as for every RPC', async () => {
  const late = await multimodal('slow', [{ embedding: { values: new Array(16).fill(0) } }], {
    deadline: Date.now() + 100,
  });
  expect(late.error).toMatchObject({ code: 4 });
  const large = await multimodal('echo', [{ text: 'a'.repeat(100_000) }]);
  expect(large.error).toMatchObject({ code: 8 });
  const unknown = await multimodal('nothing', [{ text: 'a' }]);
  expect(unknown.error).toMatchObject({ code: 5 });
});

test('ModelInfer takes a tensor of nothing but a name and bytes for one string', async () => {
  const inputs = ['INPUT0', 'INPUT1'].map((name) => ({ name, raw_contents: Buffer.from('é') }));
  const joined = await infer('joined', [inputs[0]!, { ...inputs[1]!, datatype: 'BYTES' }]);
  expect(joined.error).toBeNull();
  expect(joined.response.outputs[0].raw_contents).toEqual(rawStrings('éé'));
  const elements = { name: 'INPUT0', datatype: 'BYTES', shape: [1, 1], raw_contents: rawStrings('as ever') };
  expect((await infer('echo', [elements])).response.outputs[0].raw_contents).toEqual(rawStrings('as ever'));
});

test('who forgot datatype and shape of a tensor is told so', async () => {
  const { error } = await infer('vector', [{ name: 'INPUT0', raw_contents: Buffer.alloc(12) }]);
  expect(error).toMatchObject({
    code: 3,
    details:
      "input 'INPUT0' of model 'vector' was sent text but takes a tensor FP32 [3]. Input 'INPUT0' came without datatype and shape, so it was taken as one UTF-8 string; a tensor needs both",
  });
  const unknown = await infer('nothing', [{ name: 'INPUT0', raw_contents: Buffer.alloc(12) }]);
  expect(unknown.error!.details).not.toContain('came without');
});
