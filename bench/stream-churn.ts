/**
 * What is left of streams that nobody reads to the end?
 *
 * `growth_mb`: memory of the serving process after 10,000 streams that their clients cancelled, over that after the first half of them.
 * `stalled_mb`: memory of each of 200 streams whose clients read nothing, while the server still holds them. Freed memory stays with the
 * allocator, so what is left of them is seen by doing it again: `left_mb` of each is what two further times add.
 */
import { cpSync } from 'node:fs';
import { type ClientHttp2Session, connect } from 'node:http2';
import { join } from 'node:path';
import { startTensorwire, workDirectory } from './peer.js';
import { proportionalMb } from './process-cpu.js';
import { type Bench, BenchError, type BenchOptions, type Figures, say } from './result.js';
import { grpcStream, STREAMING_MODEL_INFER, startStreamClients } from './streams.js';

const MODEL = 'stories';
const STALLED = 200;
const STALL_SECONDS = 5;

export const streamChurn: Bench = {
  name: 'stream-churn',
  question: 'memory after 10,000 cancelled streams, and of 200 that nobody reads',
  run,
};

async function run({ quick }: BenchOptions): Promise<Figures> {
  const repository = workDirectory();
  cpSync(join(import.meta.dirname, '../models', MODEL), join(repository, MODEL), { recursive: true });
  const { server, pid, stop } = await startTensorwire(repository, [
    '--stream-stall-timeout',
    String(STALL_SECONDS),
    // The collector would otherwise leave half a gigabyte alone, and garbage look like a leak.
    '--initial-old-space-size-mb',
    '0',
  ]);
  const origin = `http://127.0.0.1:${server.grpcPort}`;
  const clients = startStreamClients();
  const steps = async (): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
    const value = /^tensorwire_decode_steps_total\{.*\} ([0-9.e+]+)$/m.exec(text)?.[1];
    if (value === undefined) throw new BenchError('the server counts no decode steps');
    return Number(value);
  };
  try {
    const churn = async (count: number): Promise<void> => {
      for (let done = 0; done < count; done += 100) {
        const streams = Array.from({ length: 100 }, (_, i) =>
          grpcStream({ model: MODEL, prompt: `Tale ${done + i}`, tokens: 400, leaveAfter: 1 + (i % 3) }),
        );
        await clients.read({ protocol: 'grpc', origin, path: STREAMING_MODEL_INFER, streams, oneByOne: false });
      }
    };
    const half = quick ? 1000 : 5000;
    await churn(half);
    await settle();
    const early = proportionalMb(pid);
    await churn(half);
    await settle();
    const late = proportionalMb(pid);
    say(`after ${half} cancelled streams ${early.toFixed(1)} MB, after ${2 * half} ${late.toFixed(1)} MB`);
    const before = await steps();
    await settle();
    const idle = (await steps()) - before;
    if (idle > 0) throw new BenchError(`${idle} steps were made for streams that nobody reads any more`);
    const first = await stall(origin, pid);
    await stall(origin, pid);
    const third = await stall(origin, pid);
    return {
      growth_mb: late - early,
      stalled_mb: (first.held - first.before) / STALLED,
      left_mb: (third.after - first.after) / (2 * STALLED),
    };
  } finally {
    clients.end();
    await stop();
  }
}

async function stall(origin: string, pid: number): Promise<{ before: number; held: number; after: number }> {
  const before = proportionalMb(pid);
  const sessions: ClientHttp2Session[] = [];
  let ended = 0;
  for (let i = 0; i < STALLED; i++) {
    // The smallest window of all: the server can send nothing.
    const session = connect(origin, { settings: { initialWindowSize: 0 } });
    session.on('error', () => undefined);
    sessions.push(session);
    const request = session.request({
      ':method': 'POST',
      ':path': STREAMING_MODEL_INFER,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    request.on('error', () => undefined);
    request.once('close', () => ended++);
    request.end(Buffer.from(grpcStream({ model: MODEL, prompt: `Tale ${i}`, tokens: 400 }).body, 'base64'));
  }
  await pause((STALL_SECONDS * 1000) / 2);
  const held = proportionalMb(pid);
  for (let waited = 0; ended < STALLED; waited++) {
    if (waited > 60) throw new BenchError(`${STALLED - ended} streams that nobody reads were not ended`);
    await pause(500);
  }
  for (const session of sessions) session.destroy();
  await settle();
  const after = proportionalMb(pid);
  say(
    `before ${before.toFixed(1)} MB, with ${STALLED} streams that nobody reads ${held.toFixed(1)} MB, ` +
      `after their end ${after.toFixed(1)} MB`,
  );
  return { before, held, after };
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Until what was let go has been collected. */
const settle = () => pause(3000);
