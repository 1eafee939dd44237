/**
 * Works through the catalogue of bad input: every case against one server, a probe beside it all the time.
 *
 * After each case a good request must succeed on both protocols, and everything that the probe asked meanwhile must have been
 * answered right. Times and memory are printed, not asserted. `health` is the longest wait for a health answer, what another client
 * feels; `loop` the longest turn of the server's event loop by its own metrics; `core` the time in which the server's main thread
 * was ready to run and had no core, which on a busy machine is most of either.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Case } from './case.js';
import { jsonCases } from './json.js';
import { beginPatience, type Patience } from './patience.js';
import { type Probe, startProbe } from './probe.js';
import { protobufCases } from './protobuf.js';
import { restCases } from './rest.js';
import { grpcShapeCases } from './semantics-grpc.js';
import { grpcDataCases } from './semantics-grpc-data.js';
import { restShapeCases } from './semantics-rest.js';
import { restDataCases } from './semantics-rest-data.js';
import { transportCases } from './transport.js';
import { startWorld, type World } from './world.js';

const SECTIONS: readonly (readonly [string, readonly Case[]])[] = [
  ['P: protobuf bodies', protobufCases],
  ['I: meaning, over gRPC', [...grpcShapeCases, ...grpcDataCases]],
  ['I: meaning, over REST', [...restShapeCases, ...restDataCases]],
  ['R: HTTP and JSON', [...jsonCases, ...restCases]],
  ['T: gRPC transport', transportCases],
];

const MIB = 1024 * 1024;
/** Interval at which the server's event loop monitor looks; it counts it in. */
const LOOP_RESOLUTION_MS = 10;
/** Cases printed per section. */
const WORST = 4;

let world: World;
let probe: Probe;
let patience: Patience[];
let startBytes = 0;

beforeAll(async () => {
  world = await startWorld();
  probe = await startProbe(world.server.grpcPort, world.server.httpPort);
  patience = beginPatience(world);
  // Every path has been taken a few times: what is compiled and allocated once is there.
  for (let i = 0; i < 50; i++) await world.alive();
  startBytes = (await world.metrics()).process_resident_memory_bytes!;
});

afterAll(async () => {
  probe?.stop();
  if (world === undefined) return;
  expect(await world.stop()).toBe(0);
  // The launcher says so when the serving process has died and come back.
  expect(world.server.stderr).not.toContain('starting it again');
  expect(world.server.stderr).not.toMatch(/"level":(50|60)/);
});

interface Measured {
  readonly name: string;
  readonly healthMs: number;
  readonly loopMs: number;
  readonly coreMs: number;
  readonly residentBytes: number;
}

async function measure(each: Case): Promise<Measured> {
  await probe.mark();
  await world.metrics();
  const coreMs = world.coreWaitMs();
  await each.run(world);
  await world.alive();
  const seen = await probe.mark();
  const metrics = await world.metrics();
  expect(seen.wrong).toEqual([]);
  return {
    name: `${each.row} ${each.name}`,
    healthMs: seen.healthMs,
    loopMs: metrics.nodejs_eventloop_lag_max_seconds! * 1000 - LOOP_RESOLUTION_MS,
    coreMs: world.coreWaitMs() - coreMs,
    residentBytes: metrics.process_resident_memory_bytes!,
  };
}

function report(section: string, measured: readonly Measured[]): string {
  const worst = [...measured].sort((a, b) => b.loopMs - a.loopMs).slice(0, WORST);
  const lines = worst.map(
    ({ name, loopMs, healthMs, coreMs }) =>
      `  loop ${loopMs.toFixed(0)} ms, health ${healthMs.toFixed(0)} ms, core ${coreMs.toFixed(0)} ms: ${name}`,
  );
  return [`${section}: ${measured.length} cases, the longest stalls`, ...lines].join('\n');
}

describe.each(SECTIONS)('%s', (section, cases) => {
  const measured: Measured[] = [];

  test.each(cases.map((each) => [each.row, each.name, each] as const))('%s %s', async (_row, _name, each) => {
    measured.push(await measure(each));
  });

  afterAll(() => {
    if (measured.length > 0) console.log(report(section, measured));
  });
});

test('clients that keep the server waiting are ended', async () => {
  const failures = await Promise.all(
    patience.map(({ row, name, ended }) =>
      ended.then(
        () => [],
        (error: unknown) => [`${row} ${name}: ${error}`],
      ),
    ),
  );
  expect(failures.flat()).toEqual([]);
  await world.alive();
});

test('nothing is held when all is answered', async () => {
  await expect.poll(() => world.bytesInFlight()).toBeLessThan(4096);
  const bytes = (await world.metrics()).process_resident_memory_bytes!;
  const grown = (bytes - startBytes) / MIB;
  console.log(
    `memory: ${(startBytes / MIB).toFixed(0)} MiB before the first case, ${grown.toFixed(0)} MiB more after the last`,
  );
});
