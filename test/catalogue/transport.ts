/**
 * Section T of the catalogue, rows 41 to 56 and those with a deadline: gRPC framing, compression, and callers that leave.
 *
 * Rows 1 to 31 (HTTP/2 itself, methods, content types, timeouts) are tests of `test/grpc/server-gate.test.ts` and
 * `server-limits.test.ts`. What this server has no place for: T51 as written needs an RPC with a stream of requests; the only one is
 * reflection's. T57 to T62 (peers that vanish, stalled readers, floods) are not about what a request says.
 */
import type { ClientHttp2Stream } from 'node:http2';
import { deflateSync, gzipSync } from 'node:zlib';
import { expect } from 'vitest';
import { frame, LIVE, RawConnection, readReply } from '../grpc/front-end.js';
import { repeat } from '../grpc/wire.js';
import { type Case, DEADLINE, EXHAUSTED, expectAnswer, INTERNAL, INVALID, OK, special, UNIMPLEMENTED } from './case.js';
import { delimited, fp32, goodInfer, goodInferV1, infer, raw, tensor } from './message.js';
import { type Answer, INFER_V1, type World } from './world.js';

const MIB = 1024 * 1024;
const LIMIT = 64 * MIB;
const GZIP = { 'grpc-encoding': 'gzip' };
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';

/** A body with its frame, as it is. */
function framed(
  row: string,
  name: string,
  body: () => Uint8Array,
  status: number | readonly number[],
  says?: RegExp,
  headers: Record<string, string> = {},
): Case {
  return special(row, `${name} (gRPC)`, async (world) => {
    expectAnswer(await world.grpc(body(), { framed: true, headers }), { status, ...(says && { says }) });
  });
}

function head(flag: number, length: number): Buffer {
  const bytes = Buffer.alloc(5);
  bytes[0] = flag;
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

/** A good request that inflates to `bytes` or a little more: the rest is a field that nobody knows. */
const padded = (bytes: number): Buffer => goodInfer(delimited(100, Buffer.alloc(bytes)));

/** When a stream takes more, or nothing more at all. */
function drained(stream: ClientHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done).off('close', done);
      resolve();
    };
    stream.on('drain', done).on('close', done);
  });
}

const sizes: readonly Case[] = [
  special('T41', 'a message of 4 GB announced, and sending goes on (gRPC)', async (world) => {
    const { raw: connection, stream, answer } = world.open();
    let sent = 0;
    const part = Buffer.alloc(65_536);
    stream.write(head(0, 2 ** 32 - 1));
    while (!stream.destroyed && !stream.closed && sent < 64 * MIB) {
      sent += part.length;
      if (!stream.write(part)) await drained(stream);
    }
    expectAnswer(await answer, { status: EXHAUSTED, says: /larger than max \(4294967295 vs 67108864\)/ });
    // What was on its way: at most a window.
    expect(sent).toBeLessThan(16 * MIB);
    connection.close();
  }),
  special('T42', 'a message of the limit and one byte (gRPC)', async (world) => {
    const { raw: connection, stream, answer } = world.open();
    stream.write(head(0, LIMIT + 1));
    expectAnswer(await answer, { status: EXHAUSTED, says: /67108865 vs 67108864/ });
    connection.close();
  }),
  framed('T42', 'a message of the limit', () => frame(padded(LIMIT - padded(LIMIT).length + LIMIT)), OK),
];

const COMPRESSED = gzipSync(goodInfer());

function damaged(at: number): Buffer {
  const bytes = Buffer.from(COMPRESSED);
  bytes[at]! ^= 0xff;
  return bytes;
}

const compression: readonly Case[] = [
  framed(
    'T43',
    'a compressed message without an encoding',
    () => frame(COMPRESSED, 1),
    INTERNAL,
    /without a grpc-encoding/,
  ),
  framed(
    'T43',
    'a compressed message of encoding identity',
    () => frame(COMPRESSED, 1),
    INTERNAL,
    /without a grpc-encoding/,
    {
      'grpc-encoding': 'identity',
    },
  ),
  framed('T44', 'message flag 2', () => frame(goodInfer(), 2), INTERNAL, /unknown message flag 2/),
  framed('T44', 'message flag 255', () => frame(goodInfer(), 255), INTERNAL, /unknown message flag 255/),
  ...['br', 'snappy', 'gzip,gzip', 'zstd', 'x'.repeat(1000)].map((encoding) =>
    special('T45', `encoding ${encoding.slice(0, 20)} (gRPC)`, async (world) => {
      const answer = await world.grpc(goodInfer(), { headers: { 'grpc-encoding': encoding } });
      expectAnswer(answer, { status: UNIMPLEMENTED, says: /unsupported grpc-encoding/ });
      expect(answer.headers['grpc-accept-encoding']).toBe('identity,deflate,gzip');
    }),
  ),
  framed('T46', 'gzip with a damaged head', () => frame(damaged(0), 1), INTERNAL, /decompress/, GZIP),
  framed('T46', 'gzip with damaged data', () => frame(damaged(30), 1), INTERNAL, /decompress/, GZIP),
  framed(
    'T46',
    'gzip with a damaged checksum',
    () => frame(damaged(COMPRESSED.length - 6), 1),
    INTERNAL,
    /decompress/,
    GZIP,
  ),
  framed('T46', 'what is not gzip', () => frame(goodInfer(), 1), INTERNAL, /decompress/, GZIP),
  framed(
    'T46',
    'large and damaged',
    () => {
      const bytes = gzipSync(padded(MIB), { level: 0 });
      bytes[bytes.length >> 1]! ^= 0xff;
      return frame(bytes, 1);
    },
    INTERNAL,
    /decompress/,
    GZIP,
  ),
  framed('T46', 'gzip called deflate', () => frame(COMPRESSED, 1), INTERNAL, /decompress/, {
    'grpc-encoding': 'deflate',
  }),
  framed('T47', 'gzip that ends too early', () => frame(COMPRESSED.subarray(0, -9), 1), INTERNAL, /decompress/, GZIP),
  framed(
    'T47',
    'large and ending too early',
    () => frame(gzipSync(padded(MIB), { level: 0 }).subarray(0, -9), 1),
    INTERNAL,
    /decompress/,
    GZIP,
  ),
  framed(
    'T48',
    'bytes behind the gzip',
    () => frame(Buffer.concat([COMPRESSED, Buffer.from('more')]), 1),
    INTERNAL,
    /decompress/,
    GZIP,
  ),
  framed('T48', 'nothing, said to be gzip', () => frame(Buffer.alloc(0), 1), INTERNAL, /decompress/, GZIP),
  framed('T48', 'gzip of nothing', () => frame(gzipSync(''), 1), INVALID, /model name/, GZIP),
  framed('T48', 'good gzip', () => frame(COMPRESSED, 1), OK, undefined, GZIP),
  framed('T48', 'good deflate', () => frame(deflateSync(goodInfer()), 1), OK, undefined, {
    'grpc-encoding': 'deflate',
  }),
  framed(
    'T49',
    'a bomb of 100 MB in 100 KB',
    () => frame(gzipSync(padded(100 * MIB)), 1),
    EXHAUSTED,
    /decompresses to a size larger than/,
    GZIP,
  ),
  special('T49', 'a bomb of 100 MB in 100 KB (REST)', async (world) => {
    const body = gzipSync(Buffer.alloc(100 * MIB, 0x20));
    const answer = await world.rest('simple', body, { headers: { 'content-encoding': 'gzip' } });
    expectAnswer(answer, { status: 413, says: /exceeds the maximum allowed input size/ });
  }),
];

/** Highest resident memory while `work` runs, and before it. */
async function peakBytes(world: World, work: () => Promise<void>): Promise<{ before: number; peak: number }> {
  const resident = async (): Promise<number> => (await world.metrics()).process_resident_memory_bytes!;
  const before = await resident();
  let peak = before;
  let done = false;
  const working = work().finally(() => {
    done = true;
  });
  while (!done) peak = Math.max(peak, await resident());
  await working;
  return { before, peak };
}

function report(name: string, { before, peak }: { before: number; peak: number }, statuses: readonly number[]): void {
  const counts = [...new Set(statuses)]
    .sort((a, b) => a - b)
    .map((each) => `${statuses.filter((one) => one === each).length} x ${each}`);
  console.log(
    `${name}: ${(before / MIB).toFixed(0)} MiB before, ${(peak / MIB).toFixed(0)} MiB at the peak; statuses ${counts.join(', ')}`,
  );
}

const bombs: readonly Case[] = [
  special('T50', '30 bombs just below the limit at once (gRPC)', async (world) => {
    const bomb = frame(gzipSync(padded(LIMIT - MIB)), 1);
    let answers: Answer[] = [];
    const memory = await peakBytes(world, async () => {
      answers = await Promise.all(Array.from({ length: 30 }, () => world.grpc(bomb, { framed: true, headers: GZIP })));
    });
    for (const answer of answers) expectAnswer(answer, { status: [OK, EXHAUSTED] });
    report(
      '30 gRPC bombs of 63 MiB',
      memory,
      answers.map(({ status }) => status),
    );
  }),
  special('T50', '30 bombs just below the limit at once (REST)', async (world) => {
    const bomb = gzipSync(Buffer.alloc(LIMIT - MIB, 0x20));
    let answers: Answer[] = [];
    const memory = await peakBytes(world, async () => {
      const headers = { 'content-encoding': 'gzip' };
      answers = await Promise.all(Array.from({ length: 30 }, () => world.rest('simple', bomb, { headers })));
    });
    for (const answer of answers) expectAnswer(answer, { status: [400, 429] });
    report(
      '30 REST bombs of 63 MiB',
      memory,
      answers.map(({ status }) => status),
    );
  }),
  special('T51', '4 MB of empty messages on a stream (gRPC)', async (world) => {
    const { raw: connection, stream, answer } = world.open({ path: REFLECTION });
    stream.on('error', () => {});
    stream.write(repeat(head(0, 0), 4 * MIB));
    // Each is answered until there are too many, and a reset may overtake the trailers.
    expect([EXHAUSTED, -1]).toContain((await answer).status);
    connection.close();
  }),
];

/** Models that take some 0.4 s, 4 s and 24 s for a request, one at a time. */
const SLOW = ['slow', 'slower', 'slowest'] as const;
type Slow = (typeof SLOW)[number];

/** A request of 16 floats for such a model. */
const slow = (model: Slow = 'slow'): Buffer =>
  infer(model, tensor('INPUT0', 'FP32', [1, 16]), raw(fp32(...new Array<number>(16).fill(1))));

/**
 * What must happen while a request runs. `act` says whether it did: on a machine that is slow at the wrong moment the run was over before,
 * which proves nothing, and it is done again during a longer one.
 */
async function duringRun(act: (model: Slow) => Promise<boolean>): Promise<void> {
  for (const model of SLOW) if (await act(model)) return;
  throw new Error('even the slowest run was over before');
}

/** A call that tells whether it is over. */
function startSlow(
  world: World,
  connection: RawConnection,
  model: Slow,
): { answer: Promise<Answer>; isOver(): boolean } {
  let isOver = false;
  const answer = world.call(connection, slow(model)).finally(() => {
    isOver = true;
  });
  return { answer, isOver: () => isOver };
}

/** Resolves when the server has seen everything that was sent on the connection before. */
async function arrived(world: World, connection: RawConnection): Promise<void> {
  await world.call(connection, Buffer.alloc(0), { path: LIVE });
  // What was answered before on this connection has told so.
  await new Promise((resolve) => setImmediate(resolve));
}

/** Statistics of such a model when nothing of the cases before runs on it any more. */
async function idleStatistics(world: World, model: Slow): ReturnType<World['statistics']> {
  expect((await world.grpc(slow(model))).status).toBe(OK);
  return world.statistics(model);
}

async function nothingHeld(world: World): Promise<void> {
  // The probe's requests come and go.
  await expect.poll(() => world.bytesInFlight()).toBeLessThan(4096);
}

/** A caller that resets its stream after `bytes` of a body of 1 MB, a hundred times. */
const leaves = (row: string, when: string, bytes: number, path?: string): Case =>
  special(row, `a caller that resets ${when}${path === undefined ? '' : ', inference.v1'} (gRPC)`, async (world) => {
    const body = frame(path === undefined ? padded(MIB) : goodInferV1(delimited(100, Buffer.alloc(MIB))));
    const connection = new RawConnection(world.server.grpcPort);
    for (let i = 0; i < 100; i++) {
      const stream = connection.open(path ?? '/inference.GRPCInferenceService/ModelInfer');
      stream.resume();
      const closed = new Promise((resolve) => stream.on('close', resolve));
      if (bytes >= body.length) stream.end(body);
      else if (bytes > 0) stream.write(body.subarray(0, bytes));
      setImmediate(() => stream.destroy());
      await closed;
    }
    await arrived(world, connection);
    connection.close();
    await nothingHeld(world);
  });

const leaving: readonly Case[] = [
  leaves('T52', 'before its body', 0),
  leaves('T52', 'before its body', 0, INFER_V1),
  leaves('T53', 'in the middle of its body', 500_000),
  leaves('T53', 'in the middle of its body', 500_000, INFER_V1),
  leaves('T56', 'right after the end of its body', Number.POSITIVE_INFINITY),
  special('T54', 'callers that reset while they wait: their requests never run (gRPC)', (world) =>
    duringRun(async (model) => {
      const before = await idleStatistics(world, model);
      const connection = new RawConnection(world.server.grpcPort);
      const running = startSlow(world, connection, model);
      const waiting = Array.from({ length: 20 }, () => connection.open('/inference.GRPCInferenceService/ModelInfer'));
      for (const stream of waiting) stream.end(frame(slow(model)));
      await arrived(world, connection);
      for (const stream of waiting) stream.destroy();
      await arrived(world, connection);
      const wasInTime = !running.isOver();
      expect((await running.answer).status).toBe(OK);
      // One more, which waits behind all that would run.
      const after = await idleStatistics(world, model);
      if (wasInTime) expect(after.execution_count - before.execution_count).toBe(2);
      await nothingHeld(world);
      connection.close();
      return wasInTime;
    }),
  ),
  special('T55', 'a caller that resets while its request runs: the result is dropped (gRPC)', (world) =>
    duringRun(async (model) => {
      const before = await idleStatistics(world, model);
      const connection = new RawConnection(world.server.grpcPort);
      const stream = connection.open('/inference.GRPCInferenceService/ModelInfer');
      stream.end(frame(slow(model)));
      await arrived(world, connection);
      stream.destroy();
      await arrived(world, connection);
      const wasInTime = (await world.statistics(model)).inference_count === before.inference_count;
      expect((await world.call(connection, slow(model))).status).toBe(OK);
      const after = await world.statistics(model);
      if (wasInTime) expect(after.inference_count - before.inference_count).toBe(1);
      await nothingHeld(world);
      connection.close();
      return wasInTime;
    }),
  ),
  special('T55', 'a connection that closes with ten requests on it (gRPC)', async (world) => {
    const connection = new RawConnection(world.server.grpcPort);
    const replies = Array.from({ length: 10 }, () => {
      const stream = connection.open('/inference.GRPCInferenceService/ModelInfer');
      stream.end(frame(slow()));
      return readReply(stream);
    });
    await arrived(world, connection);
    connection.close();
    await Promise.all(replies);
    await nothingHeld(world);
  }),
  special('T32', 'a deadline that passes while the request waits: it never runs (gRPC)', (world) =>
    duringRun(async (model) => {
      const before = await idleStatistics(world, model);
      const connection = new RawConnection(world.server.grpcPort);
      const running = startSlow(world, connection, model);
      const late = await Promise.all(
        Array.from({ length: 5 }, () => world.call(connection, slow(model), { headers: { 'grpc-timeout': '50m' } })),
      );
      const wasInTime = !running.isOver();
      if (wasInTime) for (const answer of late) expectAnswer(answer, { status: DEADLINE });
      expect((await running.answer).status).toBe(OK);
      // One more, which waits behind all that would run.
      const after = await idleStatistics(world, model);
      if (wasInTime) expect(after.execution_count - before.execution_count).toBe(2);
      connection.close();
      return wasInTime;
    }),
  ),
  // A run that never ends can't be ended (it has no handle, and a thread inside it must not be killed): its caller is answered.
  special('I59', 'a long Loop: its caller is answered at the deadline (gRPC)', async (world) => {
    const answer = await world.grpc(slow('slower'), { headers: { 'grpc-timeout': '100m' } });
    expectAnswer(answer, { status: DEADLINE });
  }),
];

export const transportCases: readonly Case[] = [...sizes, ...compression, ...bombs, ...leaving];
