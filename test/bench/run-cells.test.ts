import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BenchError } from '../../src/bench/bench-error.js';
import { startLoad } from '../../src/bench/load.js';
import type { LoadRunner, Payload, Probe, RoundMeasurement } from '../../src/bench/load-types.js';
import { type ArmSpec, armName, type CellResult, type Load } from '../../src/bench/results.js';
import { type CellSpec, type Progress, runCells } from '../../src/bench/run-cells.js';
import { temporaryDirectory } from '../support/engine.js';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer, type TestServer } from '../support/server.js';

const ENCODINGS = ['grpc_raw', 'grpc_typed', 'rest_binary', 'rest_json'] as const;
const CLOSED: Load = { kind: 'closed', concurrency: 3 };
const OPEN: Load = { kind: 'open', ratePerSecond: 60 };

describe('cells of a real server', () => {
  const arms: ArmSpec[] = ENCODINGS.flatMap((encoding) => [false, true].map((gzip) => ({ encoding, gzip })));
  const bytes = 40 * 1024;
  const data = Float32Array.from({ length: bytes / 4 }, (_, index) => Math.sin(index) * 1e3);
  const payload: Payload = {
    model: 'floats',
    payloadKb: 40,
    inputs: [{ name: 'INPUT0', shape: [1, data.length], data }],
  };
  let server: TestServer;
  let runner: LoadRunner;

  beforeAll(async () => {
    const repository = temporaryDirectory();
    const config = 'max_batch_size: 4\n';
    writeModel(repository, 'floats', { config, versions: { 1: identityModel('FP32', ['n']) } });
    writeModel(repository, 'halves', { config, versions: { 1: identityModel('FP16', ['n']) } });
    writeModel(repository, 'texts', { config, versions: { 1: identityModel('BYTES', ['n']) } });
    server = await startServer({ repository });
    await server.waitFor(/floats +1 +READY/);
    const target = {
      grpc: { address: `127.0.0.1:${server.grpcPort}` },
      http: { url: `http://127.0.0.1:${server.httpPort}` },
    };
    runner = await startLoad(target, { processes: 2, httpConnections: 4 });
  });

  afterAll(async () => {
    await runner?.close();
    await server?.stop();
  });

  test('every arm gives the same bits, and each cell is in its place', async () => {
    const cells = [CLOSED, OPEN].flatMap((load) => arms.map((arm): CellSpec => ({ payload, arm, load })));
    const notes: string[] = [];
    const options = { rounds: 2, warmUpRounds: 0, msPerRound: 120, onNote: (note: string) => notes.push(note) };
    const results = await runCells(runner, cells, options);
    expect(results.map(({ arm, load }) => ({ arm, load }))).toEqual(cells.map(({ arm, load }) => ({ arm, load })));
    expect(notes).toEqual([]);
    for (const cell of results) checkCell(cell);
    // What a phase leaves out is left out of every request, in every round. A stop of the machine falls outside of all phases in some.
    for (const arm of arms) {
      const shares = results.filter((cell) => armName(cell.arm) === armName(arm)).map((cell) => cell.explainedShare);
      while (Math.max(...shares) <= 0.98 && shares.length < 20) {
        const again = { rounds: 1, warmUpRounds: 0, msPerRound: 50 };
        const [cell] = await runCells(runner, [{ payload, arm, load: CLOSED }], again);
        shares.push(cell!.explainedShare);
      }
      expect(Math.max(...shares), armName(arm)).toBeGreaterThan(0.98);
    }
    const sent = (name: string): number => results.find(({ arm }) => armName(arm) === name)!.sentBytes;
    expect(sent('rest_json')).toBeGreaterThan(2 * sent('rest_binary'));
    expect(sent('rest_json+gzip')).toBeLessThan(sent('rest_json'));
    expect(sent('grpc_raw')).toBeLessThan(sent('rest_binary'));
  });

  function checkCell(cell: CellResult): void {
    const name = `${armName(cell.arm)} ${cell.load.kind}`;
    expect(cell.answersEqual, name).toBe(true);
    expect(cell.failures, name).toBe(0);
    expect(cell.requests, name).toBeGreaterThan(0);
    expect(cell.requestTensorBytes).toBe(bytes);
    expect(cell.responseTensorBytes).toBe(bytes);
    // Some headers and framing above the tensors themselves, where nothing packs or prints them.
    if (!cell.arm.gzip && cell.arm.encoding !== 'rest_json') {
      expect(cell.sentBytes, name).toBeGreaterThan(bytes);
      expect(cell.sentBytes, name).toBeLessThan(bytes + 700);
      expect(cell.receivedBytes, name).toBeGreaterThan(bytes);
      expect(cell.receivedBytes, name).toBeLessThan(bytes + 900);
    }
    expect(cell.explainedShare, name).toBeGreaterThan(0);
    expect(cell.explainedShare, name).toBeLessThan(1 + 1e-9);
    const phaseNames = cell.phases.map(({ side, name: phase }) => `${side} ${phase}`);
    for (const expected of ['client encode', 'server decode', 'server compute', 'between transit', 'client decode']) {
      expect(phaseNames, name).toContain(expected);
    }
    expect(cell.serverDecodeMs, name).toBeGreaterThan(0);
    expect(cell.clientEncodeMs, name).toBeGreaterThan(0);
    for (const { low, value, high } of [cell.p50Ms, cell.p95Ms, cell.p99Ms, cell.perSecond]) {
      expect(low, name).toBeLessThanOrEqual(value);
      expect(value, name).toBeLessThanOrEqual(high);
    }
    expect(cell.p50Ms.value, name).toBeLessThanOrEqual(cell.p99Ms.value);
    expect(cell.clientCpuUs, name).toBeGreaterThan(0);
    expect(cell.serverCpuUs, name).toBeNull();
  }

  test('an arm that can not carry the tensors is told and left out', async () => {
    const halves: Payload = { model: 'halves', payloadKb: null, inputs: [half(4)] };
    const notes: string[] = [];
    const cells = (['rest_binary', 'rest_json'] as const).map((encoding) => ({
      payload: halves,
      arm: { encoding, gzip: false },
      load: CLOSED,
    }));
    const options = { rounds: 1, warmUpRounds: 0, msPerRound: 30, onNote: (note: string) => notes.push(note) };
    const results = await runCells(runner, cells, options);
    expect(results.map(({ arm }) => arm.encoding)).toEqual(['rest_binary']);
    expect(notes[0]).toMatch(/^halves can't be asked by rest_json: .*FP16/);
  });

  test('texts are compared element by element', async () => {
    const words = ['', 'é', 'a longer one'];
    const texts: Payload = {
      model: 'texts',
      payloadKb: null,
      inputs: [{ name: 'INPUT0', shape: [1, 3], data: words }],
    };
    const cells = ENCODINGS.map((encoding) => ({ payload: texts, arm: { encoding, gzip: false }, load: CLOSED }));
    const results = await runCells(runner, cells, { rounds: 1, warmUpRounds: 0, msPerRound: 30 });
    expect(results.map(({ answersEqual, failures }) => ({ answersEqual, failures }))).toEqual(
      ENCODINGS.map(() => ({ answersEqual: true, failures: 0 })),
    );
  });

  test("a model that isn't there fails with the server's words", async () => {
    const missing = { ...payload, model: 'missing' };
    const run = runCells(runner, [{ payload: missing, arm: arms[0]!, load: CLOSED }], {
      rounds: 1,
      warmUpRounds: 0,
      msPerRound: 30,
    });
    await expect(run).rejects.toThrow(/^missing 40 KB can't be asked by any arm: gRPC status 5: .*'missing'/);
    await expect(run).rejects.toBeInstanceOf(BenchError);
  });
});

test('both doors are asked over TLS, and only where its authority is trusted', async () => {
  const repository = temporaryDirectory();
  writeModel(repository, 'floats', { config: 'max_batch_size: 4\n', versions: { 1: identityModel('FP32', ['n']) } });
  const pem = (name: string): string => join(import.meta.dirname, '../fixtures/tls', name);
  const files = (door: string): string[] => [
    `--${door}-use-ssl`,
    `--${door}-server-cert`,
    pem('server.pem'),
    `--${door}-server-key`,
    pem('server.key'),
  ];
  const server = await startServer({ repository, args: [...files('grpc'), ...files('http')] });
  const tls = { ca: readFileSync(pem('authority.pem')), serverName: 'localhost' };
  const payload: Payload = { model: 'floats', payloadKb: null, inputs: [floats(1000)] };
  const cells = (['grpc_raw', 'rest_binary'] as const).map((encoding) => cellOf(payload, encoding));
  const target = (options: { ca?: Buffer; serverName: string }) => ({
    grpc: { address: `127.0.0.1:${server.grpcPort}`, tls: options },
    http: { url: `https://127.0.0.1:${server.httpPort}`, tls: options },
  });
  const trusting = await startLoad(target(tls), { processes: 1 });
  const doubting = await startLoad(target({ serverName: 'localhost' }), { processes: 1 });
  try {
    await server.waitFor(/floats +1 +READY/);
    const results = await runCells(trusting, cells, { rounds: 1, warmUpRounds: 0, msPerRound: 60 });
    for (const { answersEqual, failures, sentBytes } of results) {
      expect({ answersEqual, failures }).toEqual({ answersEqual: true, failures: 0 });
      expect(sentBytes).toBeGreaterThan(4000);
    }
    for (const { payload: asked, arm } of cells) {
      await expect(doubting.probe(asked, arm)).rejects.toThrow(/can't connect .*certificate/);
    }
  } finally {
    await Promise.all([trusting.close(), doubting.close()]);
    await server.stop();
  }
});

function floats(elements: number) {
  return { name: 'INPUT0', shape: [1, elements], data: new Float32Array(elements).fill(0.5) } as const;
}

function cellOf(payload: Payload, encoding: ArmSpec['encoding']): CellSpec {
  return { payload, arm: { encoding, gzip: false }, load: CLOSED };
}

function half(elements: number) {
  return { name: 'INPUT0', datatype: 'FP16', shape: [1, elements], data: new Uint16Array(elements) } as const;
}

describe('the order of things', () => {
  const measurement = (perSecond: number, share = 0.1): RoundMeasurement => ({
    requests: perSecond,
    failures: 0,
    seconds: 1,
    latenciesMs: new Float64Array([1, 2, 3]),
    meanMs: 2,
    maxMs: 3,
    phases: [{ side: 'client', name: 'encode', medianMs: 1, meanMs: 1 }],
    explainedShare: 1,
    transitShare: 0,
    sentBytes: 100 * perSecond,
    receivedBytes: 10 * perSecond,
    clientCpuUs: 5 * perSecond,
    serverCpuUs: 7 * perSecond,
    clientCpuShare: share,
  });

  /** Answers at once and writes down what it was asked. */
  function recording(answer: (arm: string, turn: number) => RoundMeasurement, value = (_arm: string) => 1) {
    const asked: string[] = [];
    const probe = async (_: Payload, arm: ArmSpec): Promise<Probe> => ({
      outputs: [{ name: 'Y', datatype: 'FP32', shape: [1], data: new Float32Array([value(armName(arm))]) }],
      requestTensorBytes: 4,
      responseTensorBytes: 4,
    });
    const measure = async (payload: Payload, arm: ArmSpec, load: Load): Promise<RoundMeasurement> => {
      asked.push(`${payload.model} ${load.kind} ${armName(arm)}`);
      return answer(armName(arm), asked.length);
    };
    return { asked, runner: { processes: 1, probe, measure, close: async () => undefined } satisfies LoadRunner };
  }

  const cell = (model: string, encoding: ArmSpec['encoding'], load: Load = CLOSED): CellSpec => ({
    payload: { model, payloadKb: null, inputs: [] },
    arm: { encoding, gzip: false },
    load,
  });
  const options = { rounds: 2, warmUpRounds: 1, msPerRound: 1 };

  test('arms of a payload and load take turns there and back; other loads and payloads come after', async () => {
    const { asked, runner } = recording(() => measurement(1));
    const cells = [cell('a', 'grpc_raw'), cell('b', 'rest_json'), cell('a', 'rest_json'), cell('a', 'grpc_raw', OPEN)];
    await runCells(runner, cells, options);
    const there = ['a closed grpc_raw', 'a closed rest_json'];
    expect(asked).toEqual([
      ...there.toReversed(),
      ...there,
      ...there.toReversed(),
      ...Array(3).fill('b closed rest_json'),
      ...Array(3).fill('a open grpc_raw'),
    ]);
  });

  test('rounds of the warm-up are not in the figures', async () => {
    const { runner } = recording((_, turn) => measurement(turn === 1 ? 1_000_000 : 10 * turn));
    const [only] = await runCells(runner, [cell('a', 'grpc_raw')], options);
    expect(only).toMatchObject({ requests: 50, sentBytes: 100, receivedBytes: 10, clientCpuUs: 5, serverCpuUs: 7 });
    expect(only!.perSecond.value).toBe(25);
    expect(only!.serverCpuShare).toBeCloseTo((7 * 50) / 1e6 / 2, 12);
  });

  test('another answer is told, and marks its cell alone', async () => {
    const { runner } = recording(
      () => measurement(1),
      (arm) => (arm === 'rest_json' ? 2 : 1),
    );
    const notes: string[] = [];
    const cells = [cell('a', 'grpc_raw'), cell('a', 'rest_json'), cell('a', 'rest_binary')];
    const results = await runCells(runner, cells, { ...options, onNote: (note) => notes.push(note) });
    expect(results.map(({ answersEqual }) => answersEqual)).toEqual([true, false, true]);
    expect(notes).toEqual([
      "a: the answer by rest_json is not that by grpc_raw: output 'Y' differs from byte 2 of 4 on",
    ]);
  });

  test('a round in which nobody was answered counts as failures, not as no time', async () => {
    const nothing = { ...measurement(0), requests: 0, failures: 3, latenciesMs: new Float64Array(), phases: [] };
    const { runner } = recording((_, turn) => (turn === 2 ? { ...nothing, explainedShare: 0 } : measurement(10)));
    const [only] = await runCells(runner, [cell('a', 'grpc_raw')], options);
    expect(only).toMatchObject({ requests: 10, failures: 3, explainedShare: 1, clientEncodeMs: 1 });
    expect(only!.p50Ms.low).toBe(only!.p50Ms.value);
  });

  test('a cell that nobody answered is left out and told', async () => {
    const nothing = {
      ...measurement(0),
      requests: 0,
      failures: 3,
      firstFailure: 'no room',
      latenciesMs: new Float64Array(),
    };
    const { runner } = recording((arm) => (arm === 'rest_json' ? nothing : measurement(1)));
    const notes: string[] = [];
    const results = await runCells(runner, [cell('a', 'rest_json'), cell('a', 'grpc_raw')], {
      ...options,
      onNote: (note) => notes.push(note),
    });
    expect(results.map(({ arm }) => arm.encoding)).toEqual(['grpc_raw']);
    expect(notes).toEqual(['a, 3 at a time, rest_json: 6 of 6 requests failed: no room']);
  });

  test('progress counts cells up and says what is measured', async () => {
    const { runner } = recording(() => measurement(1));
    const seen: Progress[] = [];
    await runCells(runner, [cell('a', 'grpc_raw'), cell('b', 'grpc_raw')], {
      ...options,
      onProgress: (progress) => seen.push(progress),
    });
    expect(seen.map(({ done }) => done)).toEqual([0, 0, 0, 1, 1, 1]);
    expect(seen[0]).toEqual({ done: 0, total: 2, what: 'a, 3 at a time, warm-up, grpc_raw', secondsLeft: undefined });
    expect(seen[5]!.what).toBe('b, 3 at a time, round 2 of 2, grpc_raw');
    expect(seen[5]!.secondsLeft).toBeGreaterThanOrEqual(0);
  });
});
