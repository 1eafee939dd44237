/** Live advice as a user gets it: over REST and as metrics, from the server's own traffic. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const directory = mkdtempSync(join(tmpdir(), 'tensorwire-advice-'));
let server: TestServer;

beforeAll(async () => {
  const config = 'max_batch_size: 8\n';
  for (const name of ['identity', 'idle']) {
    writeModel(directory, name, { config, versions: { 1: identityModel('FP32', ['n']) } });
  }
  server = await startServer({ repository: directory, args: ['--log-level', 'error'] });
  await server.waitFor(/^ +identity +1 +READY$/m);
});
afterAll(async () => {
  await server.stop();
  rmSync(directory, { recursive: true });
});

const url = (path: string) => `http://127.0.0.1:${server.httpPort}${path}`;

const FLOATS = 20_000;

async function infer(binary: boolean): Promise<void> {
  const tensor = { name: 'INPUT0', datatype: 'FP32', shape: [1, FLOATS] };
  const data = Float32Array.from({ length: FLOATS }, (_, i) => Math.sin(i));
  const head = JSON.stringify(
    binary
      ? {
          inputs: [{ ...tensor, parameters: { binary_data_size: 4 * FLOATS } }],
          parameters: { binary_data_output: true },
        }
      : { inputs: [{ ...tensor, data: Array.from(data) }] },
  );
  const body = binary ? Buffer.concat([Buffer.from(head), new Uint8Array(data.buffer)]) : head;
  const headers: Record<string, string> = binary ? { 'inference-header-content-length': String(head.length) } : {};
  const response = await fetch(url('/v2/models/identity/infer'), { method: 'POST', body, headers });
  expect(response.status).toBe(200);
  await response.arrayBuffer();
}

interface Advice {
  model_name: string;
  arms: {
    arm: string;
    advice: string;
    level: string;
    requests: number;
    p50_ms: number;
    serialization: { share: number; decode_ms: number; encode_ms: number };
    input_bytes: number;
    alternatives: { arm: string; saves_ms: number; serialization_ms: number; basis: string }[];
  }[];
}

async function advice(model: string): Promise<Advice> {
  const response = await fetch(url(`/v2/models/${model}/advice`));
  expect(response.status).toBe(200);
  return (await response.json()) as Advice;
}

test('a model that nobody has asked has no arms', async () => {
  expect(await advice('idle')).toEqual({ model_name: 'idle', arms: [] });
});

test('after JSON requests the advice says what they lose, and what binary would save by a probe', async () => {
  for (let i = 0; i < 25; i++) await infer(false);
  const { arms } = await advice('identity');
  expect(arms.map(({ arm, requests }) => [arm, requests])).toEqual([['rest_json', 25]]);
  const [json] = arms;
  expect(json!.input_bytes).toBe(4 * FLOATS);
  expect(json!.level).toMatch(/^(ok|warning|alert)$/);
  expect(json!.serialization.share).toBeGreaterThan(0);
  expect(json!.serialization.decode_ms + json!.serialization.encode_ms).toBeLessThanOrEqual(json!.p50_ms * 2);
  const binary = json!.alternatives.find(({ arm }) => arm === 'rest_binary');
  expect(binary).toMatchObject({ basis: 'probe' });
  expect(binary!.saves_ms).toBeGreaterThan(0);
  expect(json!.alternatives.map(({ arm }) => arm)).toContain('grpc_raw');
  expect(json!.advice).toMatch(/^JSON .* is [\d.]+ % of p50 \([\d.]+ ms\); .*binary over REST would save [\d.]+ ms/);
});

test('once there is traffic over the other arm, that is what the saving comes from', async () => {
  for (let i = 0; i < 25; i++) await infer(true);
  const { arms } = await advice('identity');
  expect(arms.map(({ arm }) => arm).sort()).toEqual(['rest_binary', 'rest_json']);
  const json = arms.find(({ arm }) => arm === 'rest_json')!;
  expect(json.alternatives.find(({ arm }) => arm === 'rest_binary')).toMatchObject({ basis: 'traffic' });
});

test('the metrics say the same by model and arm, and a model that is not there answers 404', async () => {
  const { arms } = await advice('identity');
  const json = arms.find(({ arm }) => arm === 'rest_json')!;
  const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
  const value = (line: string) =>
    Number(
      text
        .split('\n')
        .find((one) => one.startsWith(`${line} `))
        ?.split(' ')[1],
    );
  expect(value('tensorwire_serialization_share{model="identity",arm="rest_json"}')).toBeCloseTo(
    json.serialization.share,
    3,
  );
  const level = { ok: 0, warning: 1, alert: 2 }[json.level];
  expect(value('tensorwire_advice_level{model="identity",arm="rest_json"}')).toBe(level);
  expect(value('tensorwire_advice_saving_ms{model="identity",arm="rest_json",to="rest_binary"}')).toBeGreaterThan(0);
  expect((await fetch(url('/v2/models/nobody/advice'))).status).toBe(404);
  expect((await fetch(url('/v2/models/identity/advice'), { method: 'POST' })).status).toBe(405);
});
