/** The budget as callers of `tensorwire/client` get it: over each arm and size the phases are all of what they waited. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { INFER_PHASES } from '../../src/base/timeline.js';
import type { Budget } from '../../src/client/budget.js';
import { connect } from '../../src/client/client.js';
import type { ClientOptions, InferenceClient } from '../../src/client/types.js';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const ARMS = {
  'REST JSON': { protocol: 'rest', encoding: 'json' },
  'REST binary': { protocol: 'rest', encoding: 'binary' },
  'gRPC raw': { protocol: 'grpc', encoding: 'raw' },
  'gRPC typed': { protocol: 'grpc', encoding: 'typed' },
} as const satisfies Readonly<Record<string, Partial<ClientOptions>>>;
const SIZES = [2_000, 10_000, 100_000, 500_000, 1_000_000];
const REQUESTS = 25;
const CLIENT_PHASES = ['encode', 'send', 'transit', 'read', 'decode'];
/** The server prints each phase in microseconds. */
const ROUNDING_MS = 0.0005 * (INFER_PHASES.length + 1) + 1e-9;

let server: TestServer;

beforeAll(async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  server = await startServer({ repository, args: ['--log-level', 'error'] });
  await server.waitFor(/^ +identity +1 +READY$/m);
});
afterAll(async () => {
  await server?.stop();
});

async function ask(client: InferenceClient, bytes: number): Promise<{ budget: Budget; waitedMs: number }> {
  const data = Float32Array.from({ length: bytes / 4 }, (_, i) => Math.sin(i));
  const calledMs = performance.now();
  const { budget } = await client.infer({
    model: 'identity',
    inputs: [{ name: 'INPUT0', shape: [1, data.length], data }],
  });
  return { budget, waitedMs: performance.now() - calledMs };
}

const sumOf = (phases: Budget['phases']): number => phases.reduce((sum, { ms }) => sum + ms, 0);
const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!;

describe.each(Object.entries(ARMS))('over %s', (_, arm) => {
  let client: InferenceClient;
  beforeAll(async () => {
    const port = arm.protocol === 'grpc' ? server.grpcPort : server.httpPort;
    client = connect({ ...arm, addresses: [`127.0.0.1:${port}`] });
    await ask(client, 4);
  });
  afterAll(() => client?.close());

  test.each(SIZES)(
    'the budget of %i bytes adds up to what the caller waited, and no phase is negative',
    async (bytes) => {
      const unexplained: number[] = [];
      for (let i = 0; i < REQUESTS; i++) {
        const { budget, waitedMs } = await ask(client, bytes);
        const { phases, totalMs, serverMs } = budget;
        for (const { name, ms } of phases) expect(ms, name).toBeGreaterThanOrEqual(0);
        const told = phases.filter(({ side }) => side === 'server');
        expect(told.map(({ name }) => name)).toEqual(INFER_PHASES);
        expect(phases.filter(({ side }) => side !== 'server').map(({ name }) => name)).toEqual(CLIENT_PHASES);
        expect(Math.abs(sumOf(told) - serverMs!)).toBeLessThanOrEqual(ROUNDING_MS);
        expect(totalMs).toBeLessThanOrEqual(waitedMs);
        expect(serverMs).toBeLessThanOrEqual(totalMs);
        unexplained.push(Math.abs(sumOf(phases) - totalMs) / totalMs);
        expect(budget.requestBytes).toBeGreaterThanOrEqual(bytes);
        expect(budget.responseBytes).toBeGreaterThanOrEqual(bytes);
      }
      expect(median(unexplained)).toBeLessThanOrEqual(0.02);
    },
  );
});
