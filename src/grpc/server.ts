/**
 * The gRPC front end: one port with inference, health and reflection.
 *
 * Called by `src/server.ts`. Owns the listening socket, the HTTP/2 sessions and grpc-js's server; the engine and the byte budget are
 * lent. State: created -> listening -> draining -> closed. Must not batch, retry, or know what a model is.
 */
import type { ServerHttp2Session } from 'node:http2';
import { type AddressInfo, createServer, type Server as NetServer, type Socket } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { nowMs } from '../base/clock.js';
import type { ConnectionCounts } from '../base/connection-counts.js';
import { FREE_MESSAGE_BYTES, MessagePool } from '../base/message-pool.js';
import type { FinishedRequest } from '../engine/finished-request.js';
import type { Tracer } from '../engine/request-trace.js';
import type { ByteBudget, Engine } from '../engine/types.js';
import { ConnectionSetups } from './connection-setups.js';
import { createGate, type StreamListener } from './gate.js';
import type { GatedCall } from './gated-call.js';
import { addHealth } from './health.js';
import { decodeModelInferRequest } from './infer-decode.js';
import { decodeMultimodalInferRequest } from './infer-decode-multimodal.js';
import { decodeModelInferRequestV1 } from './infer-decode-v1.js';
import { encodeModelInferResponse, encodeModelInferResponseV1 } from './infer-encode.js';
import { addInferenceService, INFERENCE_SERVICE } from './inference-service.js';
import { addInferenceV1Service, INFERENCE_V1_SERVICE } from './inference-v1-service.js';
import { Inflater } from './inflate.js';
import { addModelInfer } from './model-infer.js';
import { addModelStreamInfer } from './model-stream-infer.js';
import { loadProtos, methodOf } from './proto.js';
import { addReflection } from './reflection.js';
import { startSweep } from './sweep.js';
import { addTokenStream } from './token-stream.js';
import { CONTROL_MESSAGE_BYTES, type GrpcLog, type Registry } from './unary.js';
import { createWiredServer } from './windows.js';

export interface GrpcTls {
  /** PEM. */
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Authorities that client certificates must come from; the system's when not given. */
  readonly ca?: Buffer;
  /** Clients must show a certificate. */
  readonly mutual: boolean;
}

export interface GrpcServerOptions {
  readonly engine: Engine;
  /** Shared with the other front end. */
  readonly budget: ByteBudget;
  readonly host: string;
  /** 0 = any free one. */
  readonly port: number;
  /** Largest ModelInfer message, before and after decompression. */
  readonly maxReceiveBytes: number;
  /** Per connection; clients queue what is beyond it. */
  readonly maxConcurrentStreams: number;
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
  /** 0 = a connection may last for ever. */
  readonly maxConnectionAgeMs?: number;
  /** What calls still get past that age; 0 = as long as they take. */
  readonly maxConnectionAgeGraceMs?: number;
  readonly tls?: GrpcTls;
  readonly log: GrpcLog;
  /** Where connections are counted, and how long they took to be ready. */
  readonly connections?: ConnectionCounts;
  /** Replies carry their budget. Default true. */
  readonly serverTiming?: boolean;
  /** Traces inferences. */
  readonly tracer?: Tracer;
  /** Told of every call, refused ones included, and of each request of a stream. Must not throw. */
  onFinished?(request: FinishedRequest): void;
  /** Time for a TLS handshake, and for the first SETTINGS of a connection. Default 10 s. */
  readonly connectTimeoutMs?: number;
  /** Time for a request to arrive; a size over 128 KiB/s adds to it. Default 30 s. */
  readonly receiveTimeoutMs?: number;
  /** Time for accepted calls to end while draining; then their connections are cut. Default 30 s. */
  readonly closeGraceMs?: number;
  /** Time for a reply to be read, likewise. Default 10 s. */
  readonly writeStallMs?: number;
}

export interface GrpcServer {
  /** Opens the port; rejects with the system's error (EADDRINUSE and its like). */
  listen(): Promise<{ address: string; port: number }>;
  /** Not serving, nothing new; resolves when every accepted call is answered and every connection closed. */
  drain(): Promise<void>;
  /** Drops everything at once. */
  close(): void;
}

export function createGrpcServer(options: GrpcServerOptions): GrpcServer {
  const {
    engine,
    budget,
    log,
    tls,
    connectTimeoutMs = 10_000,
    maxConnectionAgeMs = 0,
    maxConnectionAgeGraceMs = 0,
  } = options;
  const server = new Server({
    'grpc.enable_channelz': 0,
    // Each method has its own bound, held by the gate; grpc-js's is for all.
    'grpc.max_receive_message_length': Math.max(options.maxReceiveBytes, CONTROL_MESSAGE_BYTES),
    'grpc.max_concurrent_streams': options.maxConcurrentStreams,
    'grpc.keepalive_time_ms': options.keepaliveTimeMs,
    'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs,
    ...(maxConnectionAgeMs > 0 && { 'grpc.max_connection_age_ms': maxConnectionAgeMs }),
    ...(maxConnectionAgeGraceMs > 0 && {
      'grpc.max_connection_age_grace_ms': maxConnectionAgeGraceMs,
    }),
  });
  const protos = loadProtos();
  const registry: Registry = { server, methods: new Map(), bare: new Map(), inflater: new Inflater(), log };
  addInferenceService(registry, protos, engine);
  addInferenceV1Service(registry, protos, engine);
  addModelInfer(registry, methodOf(protos, INFERENCE_SERVICE, 'ModelInfer').path, {
    engine,
    codec: { decode: decodeModelInferRequest, encode: encodeModelInferResponse },
    maxMessageBytes: options.maxReceiveBytes,
  });
  addModelInfer(registry, methodOf(protos, INFERENCE_V1_SERVICE, 'ModelInfer').path, {
    engine,
    codec: { decode: decodeModelInferRequestV1, encode: encodeModelInferResponseV1 },
    maxMessageBytes: options.maxReceiveBytes,
    wholeText: true,
  });
  addModelInfer(registry, methodOf(protos, INFERENCE_V1_SERVICE, 'MultimodalInfer').path, {
    engine,
    codec: { decode: decodeMultimodalInferRequest, encode: encodeModelInferResponseV1 },
    maxMessageBytes: options.maxReceiveBytes,
  });
  const streaming = { engine, maxMessageBytes: options.maxReceiveBytes };
  addTokenStream(registry, methodOf(protos, INFERENCE_V1_SERVICE, 'StreamingModelInfer').path, streaming);
  const modelStreamPath = methodOf(protos, INFERENCE_SERVICE, 'ModelStreamInfer').path;
  const modelStreams = addModelStreamInfer(registry, modelStreamPath, streaming);
  const health = addHealth(registry, { protos, engine, services: [INFERENCE_SERVICE, INFERENCE_V1_SERVICE] });
  const reflection = addReflection(registry, protos);

  let draining = false;
  const live = new Set<GatedCall>();
  const { injector, http2Server } = createWiredServer(server, credentialsOf(tls), connectTimeoutMs);
  const [theirs] = http2Server.listeners('stream') as StreamListener[];
  if (theirs === undefined) throw new Error('grpc-js listens to no streams');
  http2Server.removeAllListeners('stream');
  const owner = {
    budget,
    memory: new MessagePool(FREE_MESSAGE_BYTES),
    live,
    serverTiming: options.serverTiming ?? true,
    tracer: options.tracer,
    onFinished: (request: FinishedRequest) => options.onFinished?.(request),
  };
  http2Server.on(
    'stream',
    createGate(
      {
        methods: registry.methods,
        bare: registry.bare,
        owner,
        isDraining: () => draining,
        onFault: (error) => log.error({ error: error }, 'gRPC call failed on its way in'),
      },
      theirs,
    ),
  );
  const setups = new ConnectionSetups(options.connections);
  const sessions = trackSessions(http2Server, connectTimeoutMs, setups);
  const stopSweep = startSweep(live, {
    receiveTimeoutMs: options.receiveTimeoutMs ?? 30_000,
    writeStallMs: options.writeStallMs ?? 10_000,
  });
  const sockets = new Set<Socket>();
  const listener = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    setups.accepted(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    injector.injectConnection(socket);
  });
  const end = (): void => {
    stopSweep();
    server.forceShutdown();
    // What is left has no session: a TLS handshake under way.
    for (const socket of sockets) socket.destroy();
  };

  return {
    listen: () => listen(listener, options),
    async drain() {
      if (draining) return;
      draining = true;
      health.drain();
      reflection.drain();
      modelStreams.drain();
      listener.close();
      const leave = leaveBehind(sockets, live, options.closeGraceMs ?? 30_000);
      await Promise.all([...sessions].map(closeSession));
      leave();
      end();
    },
    close() {
      draining = true;
      listener.close();
      for (const session of sessions) session.destroy();
      end();
    },
  };
}

function credentialsOf(tls: GrpcTls | undefined): ServerCredentials {
  if (tls === undefined) return ServerCredentials.createInsecure();
  return ServerCredentials.createSsl(tls.ca ?? null, [{ cert_chain: tls.cert, private_key: tls.key }], tls.mutual);
}

/** Sessions that are open; one whose peer sends no SETTINGS in time is closed. */
function trackSessions(
  http2Server: { on: NetServer['on'] },
  connectTimeoutMs: number,
  setups: ConnectionSetups,
): Set<ServerHttp2Session> {
  const sessions = new Set<ServerHttp2Session>();
  http2Server.on('session', (session: ServerHttp2Session) => {
    sessions.add(session);
    const timer = setTimeout(() => session.destroy(), connectTimeoutMs);
    session.once('remoteSettings', () => {
      clearTimeout(timer);
      setups.ready(session);
    });
    session.once('close', () => {
      clearTimeout(timer);
      sessions.delete(session);
    });
  });
  return sessions;
}

function listen(
  listener: NetServer,
  { host, port }: { readonly host: string; readonly port: number },
): Promise<{ address: string; port: number }> {
  return new Promise((resolve, reject) => {
    listener.once('error', reject);
    listener.listen({ host, port }, () => {
      listener.removeListener('error', reject);
      const { address, port: bound } = listener.address() as AddressInfo;
      resolve({ address, port: bound });
    });
  });
}

/** GOAWAY; resolves when the session's last stream is done. */
/**
 * Cuts connections that peers don't close: soon after the GOAWAY when there is no call any more, in any case after `graceMs`. A peer that
 * has vanished, or that holds its window shut, would keep the server from ever stopping. It is the sockets that are cut: a closed session
 * waits for its peer's FIN and can't be destroyed any more. Returns what ends the watch.
 */
function leaveBehind(sockets: ReadonlySet<Socket>, live: ReadonlySet<GatedCall>, graceMs: number): () => void {
  const startedMs = nowMs();
  const timer = setInterval(() => {
    if (live.size > 0 && nowMs() - startedMs < graceMs) return;
    for (const socket of sockets) socket.destroy();
  }, GOAWAY_MS);
  return () => clearInterval(timer);
}

/** How long peers get to close an idle session after the GOAWAY, in milliseconds. */
const GOAWAY_MS = 1000;

function closeSession(session: ServerHttp2Session): Promise<void> {
  return new Promise((resolve) => {
    session.once('close', resolve);
    session.close();
  });
}
