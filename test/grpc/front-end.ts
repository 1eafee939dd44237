/** Starts the gRPC front end over an EchoEngine on a free port, with clients of three kinds to talk to it. */
import http2 from 'node:http2';
import { type Client, credentials, loadPackageDefinition, type Metadata, type ServiceError } from '@grpc/grpc-js';
import type { FinishedRequest } from '../../src/engine/finished-request.js';
import { loadProtos } from '../../src/grpc/proto.js';
import { createGrpcServer, type GrpcServer, type GrpcServerOptions } from '../../src/grpc/server.js';
import { CountingBudget, EchoEngine } from './echo-engine.js';

export interface FrontEnd {
  readonly engine: EchoEngine;
  readonly budget: CountingBudget;
  readonly server: GrpcServer;
  readonly port: number;
  readonly finished: FinishedRequest[];
  readonly logged: string[];
  /** Resolves with the next finished call. */
  nextFinished(): Promise<FinishedRequest>;
}

export async function startFrontEnd(
  options: Partial<GrpcServerOptions> & { budgetBytes?: number } = {},
): Promise<FrontEnd> {
  const engine = new EchoEngine();
  const budget = new CountingBudget(options.budgetBytes ?? 64 * 1024 * 1024);
  const finished: FinishedRequest[] = [];
  const logged: string[] = [];
  const waiting: ((info: FinishedRequest) => void)[] = [];
  const log = (fields: object, message: string): void => {
    logged.push(`${message} ${(fields as { error?: Error }).error?.stack ?? ''}`);
  };
  const server = createGrpcServer({
    engine,
    budget,
    host: '127.0.0.1',
    port: 0,
    maxReceiveBytes: 4 * 1024 * 1024,
    maxConcurrentStreams: 256,
    keepaliveTimeMs: 60_000,
    keepaliveTimeoutMs: 20_000,
    log: { info: log, warn: log, error: log },
    onFinished: (info) => {
      finished.push(info);
      waiting.shift()?.(info);
    },
    ...options,
  });
  const { port } = await server.listen();
  return {
    engine,
    budget,
    server,
    port,
    finished,
    logged,
    nextFinished: () => new Promise((resolve) => waiting.push(resolve)),
  };
}

// biome-ignore lint/suspicious/noExplicitAny: grpc-js's dynamic stubs have no types
export type Stub = Client & Record<string, any>;

const packages = loadPackageDefinition(loadProtos()) as never as {
  inference: {
    GRPCInferenceService: new (...args: unknown[]) => Stub;
    v1: { InferenceService: new (...args: unknown[]) => Stub };
  };
  grpc: { health: { v1: { Health: new (...args: unknown[]) => Stub } } };
};

/** A grpc-js client; close it. */
export function connect(
  service: 'open' | 'v1' | 'health',
  port: number,
  channelCredentials = credentials.createInsecure(),
  options: object = {},
): Stub {
  const Service = {
    open: packages.inference.GRPCInferenceService,
    v1: packages.inference.v1.InferenceService,
    health: packages.grpc.health.v1.Health,
  }[service];
  // grpc-js asks for the certificate of what it connects to, which may be no address from Node 26 on.
  const byName = channelCredentials._isSecure() ? { 'grpc.ssl_target_name_override': 'localhost' } : {};
  return new Service(`127.0.0.1:${port}`, channelCredentials, {
    'grpc.use_local_subchannel_pool': 1,
    ...byName,
    ...options,
  });
}

export interface Outcome {
  readonly error: ServiceError | null;
  // biome-ignore lint/suspicious/noExplicitAny: as proto-loader gives it
  readonly response: any;
  readonly trailer: Metadata | undefined;
}

/** One unary call with grpc-js. */
export function call(
  stub: Stub,
  rpc: string,
  request: object,
  options: object = {},
  metadata?: Metadata,
): Promise<Outcome> {
  return new Promise((resolve) => {
    let error: ServiceError | null = null;
    let response: unknown;
    const args = metadata === undefined ? [request, options] : [request, metadata, options];
    const emitter = stub[rpc](...args, (err: ServiceError | null, value: unknown) => {
      error = err;
      response = value;
    });
    emitter.on('status', (status: { metadata: Metadata }) => {
      setImmediate(() => resolve({ error, response, trailer: status.metadata }));
    });
  });
}

/** ModelInferRequest with one FP32 input of raw contents. */
export function inferRequest(modelName: string, data: Buffer, extra: object = {}): object {
  return {
    model_name: modelName,
    id: 'r1',
    inputs: [{ name: 'INPUT0', datatype: 'FP32', shape: [1, data.length / 4] }],
    raw_input_contents: [data],
    ...extra,
  };
}

export interface RawReply {
  /** Response headers and trailers together. */
  readonly headers: Record<string, unknown>;
  readonly body: Buffer;
  /** How the stream was closed. */
  readonly rstCode: number;
}

export const INFER = '/inference.GRPCInferenceService/ModelInfer';
export const LIVE = '/inference.GRPCInferenceService/ServerLive';

/** A message in its gRPC frame. */
export function frame(message: Uint8Array, flag = 0): Buffer {
  const head = Buffer.alloc(5);
  head[0] = flag;
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** An HTTP/2 connection with no gRPC library on it. */
export class RawConnection {
  readonly session: http2.ClientHttp2Session;

  constructor(port: number, options: http2.ClientSessionOptions = {}) {
    this.session = http2.connect(`http://127.0.0.1:${port}`, options);
    this.session.on('error', () => {});
  }

  /** Opens a stream with a gRPC client's headers, some replaced or (undefined) left out. */
  open(path: string, headers: Record<string, string | undefined> = {}): http2.ClientHttp2Stream {
    const all: Record<string, string | undefined> = {
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    };
    for (const name of Object.keys(all)) if (all[name] === undefined) delete all[name];
    const stream = this.session.request(all as http2.OutgoingHttpHeaders);
    stream.on('error', () => {});
    return stream;
  }

  /** Sends `body` and half-closes. */
  request(path: string, body: Buffer, headers: Record<string, string | undefined> = {}): Promise<RawReply> {
    const stream = this.open(path, headers);
    const reply = readReply(stream);
    stream.end(body);
    return reply;
  }

  close(): void {
    this.session.destroy();
  }
}

export function readReply(stream: http2.ClientHttp2Stream): Promise<RawReply> {
  return new Promise((resolve) => {
    let headers: Record<string, unknown> = {};
    const parts: Buffer[] = [];
    stream.on('response', (received) => {
      headers = { ...headers, ...received };
    });
    stream.on('trailers', (received) => {
      headers = { ...headers, ...received };
    });
    stream.on('data', (part: Buffer) => parts.push(part));
    stream.on('close', () => resolve({ headers, body: Buffer.concat(parts), rstCode: stream.rstCode ?? 0 }));
  });
}

/** Serialized ModelInferRequest, by proto-loader. */
export function inferBytes(modelName: string, data: Buffer, extra: object = {}): Buffer {
  const service = loadedProtos['inference.GRPCInferenceService'] as never as {
    ModelInfer: { requestSerialize(message: object): Buffer };
  };
  return service.ModelInfer.requestSerialize(inferRequest(modelName, data, extra));
}

const loadedProtos = loadProtos();
