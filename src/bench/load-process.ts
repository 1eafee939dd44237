/**
 * A client process: holds connections, probes and runs one load at a time, as its parent orders (`load-messages.ts`).
 *
 * Started by `load.ts`, a process of its own so that its CPU is the client's alone, and with V8's own flags, as clients run. Connections
 * are opened for each load and closed behind it: idle ones of the other arms would be closed by servers at their own time.
 */
import { nowMs } from '../base/clock.js';
import { isBytesData } from '../client/tensor.js';
import type { OutputTensor } from '../client/types.js';
import { BenchError } from './bench-error.js';
import { type Asked, REQUEST_ID, type Transport } from './call.js';
import type { Ask, Measured, Order, Reply } from './load-messages.js';
import { callOnce, type LoadContext, runLoad } from './load-run.js';
import type { Probe } from './load-types.js';
import { createMetronome, type Metronome } from './metronome.js';
import { tensorBytes } from './tensor-bytes.js';
import { openH1 } from './transport-h1.js';
import { openH2 } from './transport-h2.js';

type Prepare = Order & { kind: 'prepare' };

interface Prepared {
  readonly context: LoadContext;
  readonly order: Prepare;
}

/** Set between `prepare` and `go`. */
let prepared: Prepared | undefined;
let metronome: Metronome | undefined;

process.on('message', (order: Order) => {
  obey(order).then(reply, (error: unknown) => {
    const isExpected = error instanceof BenchError;
    reply({
      kind: 'failed',
      message: isExpected ? error.message : String((error as Error).stack ?? error),
      isExpected,
    });
  });
});
// Ctrl-C reaches all processes of a terminal; the parent says what becomes of us.
process.on('SIGINT', () => undefined);
// The parent is gone, or done with us.
process.once('disconnect', () => process.exit());
reply({ kind: 'alive' });

function reply(message: Reply): void {
  // A parent that is gone can't be told, and 'disconnect' says so.
  process.send!(message, () => undefined);
}

async function obey(order: Order): Promise<Reply> {
  switch (order.kind) {
    case 'probe':
      return { kind: 'probed', probe: await probe(order) };
    case 'prepare':
      prepared = await prepare(order);
      return { kind: 'ready' };
    case 'go': {
      if (prepared === undefined) throw new Error('go without prepare');
      const { context, order: what } = prepared;
      prepared = undefined;
      return { kind: 'measured', measured: await measure(context, what) };
    }
    default:
      throw new Error(`unknown order ${order satisfies never}`);
  }
}

async function probe(ask: Ask): Promise<Probe> {
  const transport = await open(ask, 1, 1);
  try {
    const { answer, serverTiming } = await callOnce(transport, asking(ask), 1);
    const { outputs } = answer!;
    return {
      outputs,
      requestTensorBytes: tensorBytes(ask.payload.inputs),
      responseTensorBytes: tensorBytes(outputs),
      ...(serverTiming === undefined ? {} : { serverTiming }),
    };
  } finally {
    await transport.close();
  }
}

async function prepare(order: Prepare): Promise<Prepared> {
  const { load, grpcConnections, httpConnections } = order;
  const callers = load.kind === 'closed' ? load.concurrency : httpConnections;
  const transport = await open(order, Math.min(callers, grpcConnections), Math.min(callers, httpConnections));
  const hushed = tellWhileBytesCome(transport);
  try {
    const asked = asking(order);
    const { answer } = await callOnce(transport, asked, Math.min(callers, LEAD_IN_CALLS));
    if (load.kind === 'open') metronome ??= await createMetronome();
    return { context: { transport, asked, tensorBytes: numericBytes(answer!.outputs), metronome }, order };
  } catch (error) {
    await transport.close();
    throw error;
  } finally {
    hushed();
  }
}

/** Enough to see that the arm works under load; 64 calls of a megabyte of JSON would take longer than a round. */
const LEAD_IN_CALLS = 4;

/** Undefined where there are texts: they may differ in length from answer to answer. */
function numericBytes(outputs: readonly OutputTensor[]): number | undefined {
  return outputs.some(({ data }) => isBytesData(data)) ? undefined : tensorBytes(outputs);
}

async function measure(context: LoadContext, { load }: Prepare): Promise<Measured> {
  const { transport } = context;
  const hushed = tellWhileBytesCome(transport);
  try {
    const before = transport.wireBytes();
    const cpuBefore = process.cpuUsage();
    const { startedMs, endedMs, cpu, ...recorded } = await runLoad(context, load);
    const after = transport.wireBytes();
    const origin = nowMs() - performance.now();
    return {
      ...recorded,
      startedMs: startedMs + origin,
      endedMs: endedMs + origin,
      sentBytes: after.sent - before.sent,
      receivedBytes: after.received - before.received,
      cpuUs: cpu.user + cpu.system - cpuBefore.user - cpuBefore.system,
    };
  } finally {
    hushed();
    await transport.close();
  }
}

/** Seldom enough to cost the load nothing, and several times in the shortest patience that is of use. */
const ALIVE_MS = 250;

/** The parent ends a process whose server is silent, and only it knows for how long that may be. Returns what stops it. */
function tellWhileBytesCome(transport: Transport): () => void {
  let { received } = transport.wireBytes();
  const timer = setInterval(() => {
    const now = transport.wireBytes().received;
    if (now !== received) reply({ kind: 'alive' });
    received = now;
  }, ALIVE_MS);
  return () => clearInterval(timer);
}

function open({ target, arm, payload }: Ask, grpcConnections: number, httpConnections: number): Promise<Transport> {
  const asked = asking({ target, arm, payload });
  return arm.encoding === 'grpc_raw' || arm.encoding === 'grpc_typed'
    ? openH2(target, asked, grpcConnections)
    : openH1(target, asked, httpConnections);
}

function asking({ payload: { model, version, inputs }, arm }: Ask): Asked {
  return { request: { id: REQUEST_ID, model, ...(version === undefined ? {} : { version }), inputs }, arm };
}
