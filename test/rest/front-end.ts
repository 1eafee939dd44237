/** A REST server over the echo engine on a free port, and the ways to talk to it. */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { createRestServer, type RestServerOptions } from '../../src/rest/server.js';
import { createJsonPool, type JsonPool } from '../../src/runtime/json-pool.js';
import { CountingBudget, EchoEngine } from '../grpc/echo-engine.js';

const WORKER = new URL('../../dist/workers/json-worker.js', import.meta.url);

export interface FrontEnd {
  readonly engine: EchoEngine;
  readonly budget: CountingBudget;
  readonly jsonPool: JsonPool;
  readonly port: number;
  readonly url: string;
  readonly finished: { arm: string | undefined; modelName: string; status: number }[];
  draining: boolean;
  post(path: string, body: string | Uint8Array<ArrayBuffer>, headers?: Record<string, string>): Promise<Response>;
  /** Sends bytes on a connection of their own, half-closes it, and returns all that comes back. */
  raw(bytes: string | Uint8Array): Promise<string>;
  connect(): Promise<Socket>;
  close(): Promise<void>;
}

export function testPool(options: { maxBytes?: number } = {}): JsonPool {
  return createJsonPool({ workerUrl: WORKER, ...options });
}

export async function startFrontEnd(options: Partial<RestServerOptions> = {}): Promise<FrontEnd> {
  const engine = new EchoEngine();
  const budget = new CountingBudget(64 * 1024 * 1024);
  const jsonPool = testPool();
  const finished: FrontEnd['finished'] = [];
  const front = { draining: false };
  const server = createRestServer({
    engine,
    budget,
    jsonPool,
    host: '127.0.0.1',
    port: 0,
    maxInputSize: 48 * 1024 * 1024,
    corsOrigins: [],
    draining: () => front.draining,
    onFinished({ arm, modelName, status }) {
      if (arm === undefined && modelName === '') return;
      finished.push({ arm, modelName, status: Number(status) });
    },
    ...options,
  });
  const { port } = await server.listen();
  const url = `http://127.0.0.1:${port}`;
  const connect = async (): Promise<Socket> => {
    const socket = createConnection({ port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    return socket;
  };
  return Object.assign(front, {
    engine,
    budget,
    jsonPool,
    port,
    url,
    finished,
    connect,
    post: (path: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
      fetch(url + path, { method: 'POST', body, headers }),
    async raw(bytes: string | Uint8Array) {
      const socket = await connect();
      socket.on('error', () => {});
      socket.end(bytes);
      return readAll(socket);
    },
    async close() {
      await server.close();
      await jsonPool.close();
    },
  });
}

/** Everything until the other side ends. */
export async function readAll(socket: Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await new Promise<void>((resolve) => socket.once('close', () => resolve()).once('end', () => resolve()));
  return Buffer.concat(chunks).toString('latin1');
}

/** An infer body with one input. */
export function inferBody(datatype: string, shape: number[], data: string, more = ''): string {
  return `{"inputs":[{"name":"X","datatype":"${datatype}","shape":${JSON.stringify(shape)},"data":${data}}]${more}}`;
}

/** A binary infer request: its body and header. */
export function binaryBody(
  json: unknown,
  ...tensors: Uint8Array[]
): { body: Buffer<ArrayBuffer>; headers: Record<string, string> } {
  const head = Buffer.from(JSON.stringify(json));
  const body = Buffer.from(Uint8Array.from(Buffer.concat([head, ...tensors])).buffer);
  return { body, headers: { 'inference-header-content-length': String(head.length) } };
}
