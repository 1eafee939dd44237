/** A small real gRPC server that does what a test says, and counts what reaches it: the connections, their bytes, the calls. */
import { type AddressInfo, createServer, type Socket } from 'node:net';
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerErrorResponse,
  type ServerUnaryCall,
  status,
} from '@grpc/grpc-js';
import { ModelInferResponse } from '../grpc/reference-decode.js';
import { delimited } from '../grpc/wire.js';

export type Unary = ServerUnaryCall<Buffer, Buffer>;
export type Duplex = ServerDuplexStream<Buffer, Buffer>;
export type Answer = (error: Partial<ServerErrorResponse> | null, value?: Buffer) => void;

export interface StubOptions {
  /** It is there, but drops every connection until `open` is called. */
  readonly isDown?: boolean;
  /** Default: answers OK. */
  readonly infer?: (call: Unary, answer: Answer, nth: number) => void;
  readonly stream?: (call: Duplex, nth: number) => void;
}

export interface StubServer {
  readonly port: number;
  readonly sockets: readonly Socket[];
  readonly calls: readonly (Unary | Duplex)[];
  open(): void;
  stop(): void;
}

/** The message of an answer without outputs. */
export function response(fields: object = {}): Buffer {
  return Buffer.from(
    ModelInferResponse.encode(ModelInferResponse.fromObject({ model_name: 'stub', ...fields })).finish(),
  );
}

/** It as a message of a stream. */
export function streamed(fields: object = {}, error = ''): Buffer {
  return Buffer.concat([...(error === '' ? [] : [delimited(1, error)]), delimited(2, response(fields))]);
}

export function failure(code: keyof typeof status, pushbackMs?: string): Partial<ServerErrorResponse> {
  const metadata = new Metadata();
  if (pushbackMs !== undefined) metadata.set('grpc-retry-pushback-ms', pushbackMs);
  return { code: status[code], details: `stub says ${code}`, metadata };
}

const same = (bytes: Buffer): Buffer => bytes;
const codec = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };
const path = (name: string) => `/inference.GRPCInferenceService/${name}`;
const SERVICE = {
  ModelInfer: { path: path('ModelInfer'), requestStream: false, responseStream: false, ...codec },
  ModelStreamInfer: { path: path('ModelStreamInfer'), requestStream: true, responseStream: true, ...codec },
};

/** Knows no other method than the two: a server that tells nothing of its models. */
export async function startStub({ isDown = false, infer, stream }: StubOptions = {}): Promise<StubServer> {
  const server = new Server();
  const calls: (Unary | Duplex)[] = [];
  server.addService(SERVICE, {
    ModelInfer: (call: Unary, answer: Answer) => {
      calls.push(call);
      if (infer) infer(call, answer, calls.length);
      else answer(null, response());
    },
    ModelStreamInfer: (call: Duplex) => {
      calls.push(call);
      call.once('data', () => stream?.(call, calls.length));
    },
  });
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const sockets: Socket[] = [];
  let isOpen = !isDown;
  const listener = createServer((socket) => {
    if (!isOpen) return void socket.resetAndDestroy();
    sockets.push(socket);
    injector.injectConnection(socket);
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  return {
    port: (listener.address() as AddressInfo).port,
    sockets,
    calls,
    open() {
      isOpen = true;
    },
    stop() {
      listener.close();
      injector.destroy();
      server.forceShutdown();
      for (const socket of sockets) socket.destroy();
    },
  };
}
