/** Does what the advice promises come? The clients of a model change their encoding, and the server's own phases are compared. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Budget } from '../../src/client/budget.js';
import { connect } from '../../src/client/client.js';
import type { ClientOptions } from '../../src/client/types.js';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const SIZES = { small: 2_000, middle: 100_000, large: 400_000 } as const;
const REQUESTS = 30;
const CLIENTS = {
  rest_json: { protocol: 'rest', encoding: 'json' },
  rest_binary: { protocol: 'rest', encoding: 'binary' },
  grpc_raw: { protocol: 'grpc', encoding: 'raw' },
  grpc_typed: { protocol: 'grpc', encoding: 'typed' },
} as const satisfies Readonly<Record<string, Partial<ClientOptions>>>;
type Arm = keyof typeof CLIENTS;

let server: TestServer;

beforeAll(async () => {
  const repository = temporaryDirectory();
  for (const name of Object.keys(SIZES)) {
    writeModel(repository, name, { versions: { 1: identityModel('FP32', ['n']) } });
  }
  server = await startServer({ repository, args: ['--log-level', 'error'] });
  await server.waitFor(/^ +large +1 +READY$/m);
});
afterAll(async () => {
  await server?.stop();
});

/** Asks `model` over `arm`; the medians of what the server says its answers took. */
async function ask(arm: Arm, model: keyof typeof SIZES): Promise<{ serializationMs: number; totalMs: number }> {
  const { protocol } = CLIENTS[arm];
  const port = protocol === 'grpc' ? server.grpcPort : server.httpPort;
  const client = connect({ ...CLIENTS[arm], addresses: [`127.0.0.1:${port}`] });
  const elements = SIZES[model] / 4;
  const data = Float32Array.from({ length: elements }, (_, i) => Math.sin(i));
  const budgets: Budget[] = [];
  for (let i = 0; i < REQUESTS; i++) {
    const { budget } = await client.infer({ model, inputs: [{ name: 'INPUT0', shape: [1, elements], data }] });
    budgets.push(budget);
  }
  await client.close();
  const serialization = budgets.map(({ phases }) =>
    phases
      .filter(({ side, name }) => side === 'server' && (name === 'decode' || name === 'encode'))
      .reduce((sum, { ms }) => sum + ms, 0),
  );
  return { serializationMs: median(serialization), totalMs: median(budgets.map(({ serverMs }) => serverMs!)) };
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;

interface Advice {
  arm: string;
  p50_ms: number;
  serialization: { decode_ms: number; encode_ms: number };
  alternatives: { arm: Arm; saves_ms: number; basis: string }[];
}

async function adviceOn(model: string, arm: Arm): Promise<Advice> {
  const response = await fetch(`http://127.0.0.1:${server.httpPort}/v2/models/${model}/advice`);
  const { arms } = (await response.json()) as { arms: Advice[] };
  return arms.find((one) => one.arm === arm)!;
}

test.each([
  ['middle', 'rest_json'],
  ['large', 'rest_json'],
  ['large', 'grpc_typed'],
] as const)('what a probe promises for %s tensors over %s is about what comes', async (model, arm) => {
  // The first requests of a process pay for its warming up, and so would a saving.
  await ask(arm, model);
  await ask('rest_binary', 'small');
  await ask('grpc_raw', 'small');
  const before = await ask(arm, model);
  const advice = await adviceOn(model, arm);
  const own = advice.serialization.decode_ms + advice.serialization.encode_ms;
  for (const { arm: other, saves_ms: promised, basis } of advice.alternatives) {
    const after = await ask(other, model);
    const came = before.serializationMs - after.serializationMs;
    const words = `${model} from ${arm} to ${other} by ${basis}: ${promised} ms promised, ${came.toFixed(3)} came`;
    expect(own, words).toBeGreaterThanOrEqual(promised);
    expect(came, words).toBeGreaterThan(promised / 3);
    expect(came, words).toBeLessThan(promised * 3);
    expect(after.totalMs, words).toBeLessThan(before.totalMs);
  }
  if (arm === 'rest_json') expect(advice.alternatives).toHaveLength(2);
});
