/**
 * What the catalogue runs against: one real server with real models, and clients that send any bytes.
 *
 * Started once by catalogue.test.ts; every case gets it.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type http2 from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { frame, INFER, RawConnection, readReply } from '../grpc/front-end.js';
import { startServer, type TestServer } from '../support/server.js';
import { goodInfer, goodJson } from './message.js';
import { writeModels } from './models.js';

export const INFER_V1 = '/inference.v1.InferenceService/ModelInfer';

export interface Answer {
  /** gRPC or HTTP status; -1 where none came. */
  readonly status: number;
  /** Of the error; '' for none. */
  readonly message: string;
  readonly body: Buffer;
  readonly headers: Readonly<Record<string, unknown>>;
}

export interface GrpcOptions {
  readonly path?: string;
  readonly headers?: Record<string, string | undefined>;
  /** The message comes in its frame already. */
  readonly framed?: boolean;
}

export interface RestOptions {
  readonly method?: string;
  readonly headers?: Record<string, string>;
}

export class World {
  readonly server: TestServer;
  readonly #repository: string;
  readonly #good: RawConnection;

  constructor(server: TestServer, repository: string) {
    this.server = server;
    this.#repository = repository;
    this.#good = new RawConnection(server.grpcPort);
  }

  /** One unary call on a connection of its own. */
  async grpc(message: Uint8Array, options: GrpcOptions = {}): Promise<Answer> {
    const raw = new RawConnection(this.server.grpcPort);
    try {
      return await this.call(raw, message, options);
    } finally {
      raw.close();
    }
  }

  async call(raw: RawConnection, message: Uint8Array, options: GrpcOptions = {}): Promise<Answer> {
    const stream = raw.open(options.path ?? INFER, options.headers);
    const reply = readReply(stream);
    stream.end(options.framed ? message : frame(message));
    return answerOf(await reply);
  }

  /** A stream on a connection of its own, to write to by hand. */
  open(options: GrpcOptions = {}): { raw: RawConnection; stream: http2.ClientHttp2Stream; answer: Promise<Answer> } {
    const raw = new RawConnection(this.server.grpcPort);
    const stream = raw.open(options.path ?? INFER, options.headers);
    return { raw, stream, answer: readReply(stream).then(answerOf) };
  }

  /** One REST request. A path without '/v2' is a model's name and means its infer route. */
  async rest(path: string, body?: unknown, { method, headers }: RestOptions = {}): Promise<Answer> {
    const target = path.startsWith('/') ? path : `/v2/models/${path}/infer`;
    const bytes =
      body === undefined || body instanceof Uint8Array || typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetch(`http://127.0.0.1:${this.server.httpPort}${target}`, {
      method: method ?? (body === undefined ? 'GET' : 'POST'),
      ...(bytes !== undefined && { body: bytes as string }),
      ...(headers !== undefined && { headers }),
    });
    return restAnswer(response.status, Object.fromEntries(response.headers), Buffer.from(await response.arrayBuffer()));
  }

  /** A bare connection to the REST port. */
  connect(): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const socket = connectTcp(this.server.httpPort, '127.0.0.1', () => resolve(socket));
      socket.once('error', reject);
    });
  }

  /** Sends `bytes` to the REST port, reads until the server closes, and gives every reply's status and the last one's error. */
  async wire(...parts: (string | Uint8Array)[]): Promise<{ statuses: number[]; text: string }> {
    const socket = await this.connect();
    // The server may answer and close before it has read everything.
    socket.on('error', () => {});
    let text = '';
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('latin1');
    });
    for (const part of parts) socket.write(part);
    await new Promise((resolve) => socket.once('close', resolve));
    return { statuses: [...text.matchAll(/HTTP\/1\.1 (\d+) /g)].map((match) => Number(match[1])), text };
  }

  /** A good request on both protocols succeeds. */
  async alive(): Promise<void> {
    const [grpc, rest] = await Promise.all([this.call(this.#good, goodInfer()), this.rest('simple', goodJson())]);
    expect({ grpc: grpc.status, rest: rest.status }, grpc.message + rest.message).toEqual({ grpc: 0, rest: 200 });
  }

  /** Metrics without labels, by name. Asking resets the event loop's record. */
  async metrics(): Promise<Record<string, number>> {
    const text = await (await fetch(`http://127.0.0.1:${this.server.metricsPort}/metrics`)).text();
    return Object.fromEntries([...text.matchAll(/^(\w+) (\S+)$/gm)].map(([, name, value]) => [name!, Number(value)]));
  }

  /** Milliseconds that the server's main thread was ready to run and had no core, so far; NaN where the system does not tell. */
  coreWaitMs(): number {
    try {
      const launcher = this.server.process.pid;
      const pid = readFileSync(`/proc/${launcher}/task/${launcher}/children`, 'utf8').trim();
      return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
    } catch {
      return Number.NaN;
    }
  }

  /** A model's statistics. */
  async statistics(model: string): Promise<{ inference_count: number; execution_count: number }> {
    const { body } = await this.rest(`/v2/models/${model}/stats`);
    return JSON.parse(body.toString()).model_stats[0];
  }

  /** Bytes of requests that the server holds; 0 when nothing is forgotten. */
  async bytesInFlight(): Promise<number> {
    return (await this.metrics()).tensorwire_bytes_in_flight!;
  }

  async stop(): Promise<number | null> {
    this.#good.close();
    const status = await this.server.stop();
    rmSync(this.#repository, { recursive: true, force: true });
    return status;
  }
}

export async function startWorld(): Promise<World> {
  const repository = mkdtempSync(join(tmpdir(), 'tensorwire-catalogue-'));
  writeModels(repository);
  const server = await startServer({
    repository,
    args: ['--worker-count', '2', '--intra-op-thread-count', '1', '--log-level', 'info', '--log-format', 'json'],
  });
  return new World(server, repository);
}

function answerOf({ headers, body }: { headers: Record<string, unknown>; body: Buffer }): Answer {
  const status = headers['grpc-status'] === undefined ? -1 : Number(headers['grpc-status']);
  return { status, message: decodeURIComponent(String(headers['grpc-message'] ?? '')), body, headers };
}

/** An answer of the REST port; its error is the body's. */
export function restAnswer(status: number, headers: Record<string, unknown>, body: Buffer): Answer {
  let message = '';
  if (status >= 400 && body.length > 0) message = (JSON.parse(body.toString()) as { error: string }).error;
  return { status, message, body, headers };
}
