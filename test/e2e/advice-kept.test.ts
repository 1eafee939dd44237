/**
 * Does what the advice promises come? The clients of a model change their encoding, and the server's own phases are compared.
 *
 * Both are times of one machine at two moments, and something else may have the machine at one of them. So there are several rounds, each
 * with a model of its own that nobody has asked before: the promise must be kept in one of them, all of it.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Budget } from '../../src/client/budget.js';
import { connect } from '../../src/client/client.js';
import type { ClientOptions } from '../../src/client/types.js';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const SIZES = { small: 2_000, middle: 100_000, large: 400_000 } as const;
const REQUESTS = 30;
const ROUNDS = 12;
const CLIENTS = {
  rest_json: { protocol: 'rest', encoding: 'json' },
  rest_binary: { protocol: 'rest', encoding: 'binary' },
  grpc_raw: { protocol: 'grpc', encoding: 'raw' },
  grpc_typed: { protocol: 'grpc', encoding: 'typed' },
} as const satisfies Readonly<Record<string, Partial<ClientOptions>>>;
type Arm = keyof typeof CLIENTS;

const CASES = [
  ['middle', 'rest_json'],
  ['large', 'rest_json'],
  ['large', 'grpc_typed'],
] as const satisfies (readonly [keyof typeof SIZES, Arm])[];
const nameOf = (size: keyof typeof SIZES, arm: Arm, round: number) => `${size}-${arm}-${round}`;

let server: TestServer;

beforeAll(async () => {
  const repository = temporaryDirectory();
  const rounds = Array.from({ length: ROUNDS }, (_, round) => CASES.map(([size, arm]) => nameOf(size, arm, round)));
  for (const name of ['small', ...rounds.flat()]) {
    writeModel(repository, name, { versions: { 1: identityModel('FP32', ['n']) } });
  }
  server = await startServer({ repository, args: ['--log-level', 'error'] });
});
afterAll(async () => {
  await server?.stop();
});

/** Asks `model` over `arm` for tensors of `size`; the medians of what the server says its answers took. */
async function ask(
  arm: Arm,
  size: keyof typeof SIZES,
  model: string = size,
): Promise<{ serializationMs: number; totalMs: number }> {
  const { protocol } = CLIENTS[arm];
  const port = protocol === 'grpc' ? server.grpcPort : server.httpPort;
  const client = connect({ ...CLIENTS[arm], addresses: [`127.0.0.1:${port}`] });
  const elements = SIZES[size] / 4;
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

/** What of the promises to a model that nobody has asked is not kept. */
async function broken(size: keyof typeof SIZES, arm: Arm, model: string): Promise<string[]> {
  const problems: string[] = [];
  const before = await ask(arm, size, model);
  const { serialization, alternatives } = await adviceOn(model, arm);
  const own = serialization.decode_ms + serialization.encode_ms;
  if (arm === 'rest_json' && alternatives.length !== 2) problems.push(`${alternatives.length} alternatives`);
  for (const { arm: other, saves_ms: promised, basis } of alternatives) {
    expect(basis).toBe('probe');
    expect(own).toBeGreaterThanOrEqual(promised);
    const after = await ask(other, size, model);
    const came = before.serializationMs - after.serializationMs;
    const isKept = came > promised / 3 && came < promised * 3 && after.totalMs < before.totalMs;
    if (!isKept) problems.push(`to ${other}: ${promised} ms promised, ${came.toFixed(3)} came`);
  }
  return problems;
}

test.each(CASES)('what a probe promises for %s tensors over %s is about what comes', async (size, arm) => {
  // The first requests of a process pay for its warming up, and so would a saving.
  for (const each of [arm, 'rest_binary', 'grpc_raw'] as const) await ask(each, 'small');
  await ask(arm, size, 'small');
  const problems: string[][] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const found = await broken(size, arm, nameOf(size, arm, round));
    if (found.length === 0) return;
    problems.push(found);
  }
  expect(problems).toEqual([]);
});
