/**
 * Does what the advice promises come? The clients of a model change their encoding, and the server's own phases are compared.
 *
 * Both are times of one machine at two moments, and something else may have the machine at one of them. So there are several rounds, each
 * with a model of its own that nobody has asked before: the promise must be kept in one of them, all of it. All cases save milliseconds:
 * typed contents of floats are copied as raw ones are, and what differs there is lost in a young process.
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

type Datatype = 'FP32' | 'INT64';

const CASES = [
  ['middle', 'FP32', 'rest_json'],
  ['large', 'FP32', 'rest_json'],
  ['large', 'INT64', 'grpc_typed'],
] as const satisfies (readonly [keyof typeof SIZES, Datatype, Arm])[];
const nameOf = (size: keyof typeof SIZES, arm: Arm, round: number) => `${size}-${arm}-${round}`;

let server: TestServer;

beforeAll(async () => {
  const repository = temporaryDirectory();
  const write = (name: string, datatype: Datatype) =>
    writeModel(repository, name, { versions: { 1: identityModel(datatype, ['n']) } });
  for (const [size, datatype, arm] of CASES) {
    for (let round = 0; round < ROUNDS; round++) write(nameOf(size, arm, round), datatype);
  }
  write('small-FP32', 'FP32');
  write('small-INT64', 'INT64');
  server = await startServer({ repository, args: ['--log-level', 'error'] });
});
afterAll(async () => {
  await server?.stop();
});

/** Asks `model` over `arm` for tensors of `size`; the medians of what the server says its answers took. */
async function ask(
  arm: Arm,
  size: keyof typeof SIZES,
  datatype: Datatype,
  model = `small-${datatype}`,
): Promise<{ serializationMs: number; totalMs: number }> {
  const { protocol } = CLIENTS[arm];
  const port = protocol === 'grpc' ? server.grpcPort : server.httpPort;
  const client = connect({ ...CLIENTS[arm], addresses: [`127.0.0.1:${port}`] });
  const elements = SIZES[size] / (datatype === 'FP32' ? 4 : 8);
  const data =
    datatype === 'FP32'
      ? Float32Array.from({ length: elements }, (_, i) => Math.sin(i))
      : BigInt64Array.from({ length: elements }, (_, i) => BigInt(i * 7919));
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
async function broken(size: keyof typeof SIZES, datatype: Datatype, arm: Arm, model: string): Promise<string[]> {
  const problems: string[] = [];
  const before = await ask(arm, size, datatype, model);
  const { serialization, alternatives } = await adviceOn(model, arm);
  const own = serialization.decode_ms + serialization.encode_ms;
  if (alternatives.length !== 2) problems.push(`${alternatives.length} alternatives`);
  for (const { arm: other, saves_ms: promised, basis } of alternatives) {
    expect(basis).toBe('probe');
    expect(own).toBeGreaterThanOrEqual(promised);
    const after = await ask(other, size, datatype, model);
    const came = before.serializationMs - after.serializationMs;
    const isKept = came > promised / 3 && came < promised * 3 && after.totalMs < before.totalMs;
    if (!isKept) problems.push(`to ${other}: ${promised} ms promised, ${came.toFixed(3)} came`);
  }
  return problems;
}

test.each(CASES)(
  'what a probe promises for %s tensors of %s over %s is about what comes',
  async (size, datatype, arm) => {
    // The first requests of a process pay for its warming up, and so would a saving.
    for (const each of [arm, 'rest_binary', 'grpc_raw'] as const) await ask(each, 'small', datatype);
    await ask(arm, size, datatype);
    const problems: string[][] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const found = await broken(size, datatype, arm, nameOf(size, arm, round));
      if (found.length === 0) return;
      problems.push(found);
    }
    expect(problems).toEqual([]);
  },
);
