/** Classes with their labels on the real server, over both protocols, from a label file as Triton's repositories have it. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { call, connect } from '../grpc/front-end.js';
import { rawStrings, temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const CONFIG = `max_batch_size: 8
input { name: "INPUT0" data_type: TYPE_FP32 dims: [4] }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [4] label_filename: "labels.txt" }
`;
const TOP = ['0.750000:2:bird', '0.125000:0:cat', '2.000000:3', '1.000000:0:cat'];
const ROWS = Float32Array.of(0.125, 0, 0.75, 0.125, 1, -1, 0, 2);

let server: TestServer;
beforeAll(async () => {
  const repository = temporaryDirectory();
  const files = { 'labels.txt': 'cat\ndog\nbird\n' };
  writeModel(repository, 'animals', { config: CONFIG, versions: { 1: identityModel('FP32', [4]) }, files });
  server = await startServer({ repository, args: ['--log-level', 'warn'] });
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

async function post(parameters: object): Promise<Response> {
  const inputs = [{ name: 'INPUT0', datatype: 'FP32', shape: [2, 4], data: [...ROWS] }];
  return fetch(`http://127.0.0.1:${server.httpPort}/v2/models/animals/infer`, {
    method: 'POST',
    body: JSON.stringify({ inputs, outputs: [{ name: 'OUTPUT0', parameters }] }),
  });
}

test('gRPC gives them as BYTES elements', async () => {
  const open = connect('open', server.grpcPort);
  const { error, response } = await call(open, 'ModelInfer', {
    model_name: 'animals',
    inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [2, 4] }],
    outputs: [{ name: 'OUTPUT0', parameters: { classification: { int64_param: 2 } } }],
    raw_input_contents: [Buffer.from(ROWS.buffer)],
  });
  open.close();
  expect(error).toBeNull();
  expect(response.outputs).toMatchObject([{ name: 'OUTPUT0', datatype: 'BYTES', shape: [2, 2] }]);
  expect(response.raw_output_contents).toEqual([rawStrings(...TOP)]);
});

test('REST gives them as JSON strings', async () => {
  const response = await post({ classification: 2 });
  expect(await response.json()).toMatchObject({
    outputs: [{ name: 'OUTPUT0', datatype: 'BYTES', shape: [2, 2], data: TOP }],
  });
});

test('REST gives them as bytes where they are asked for', async () => {
  const response = await post({ classification: 2, binary_data: true });
  const length = Number(response.headers.get('inference-header-content-length'));
  const body = Buffer.from(await response.arrayBuffer());
  const elements = rawStrings(...TOP);
  expect(JSON.parse(body.toString('utf8', 0, length))).toMatchObject({
    outputs: [{ datatype: 'BYTES', shape: [2, 2], parameters: { binary_data_size: elements.length } }],
  });
  expect(body.subarray(length)).toEqual(elements);
});
