/**
 * The ports of the server, by the options: gRPC, REST and metrics, each over the same engine and the same budget of bytes.
 *
 * Called by `server.ts`. Owns what connects a front end to the engine and to the metrics; must not hold rules of the business.
 */
import { registerAdviceMetrics } from './advice-metrics.js';
import { BoundedBytes } from './base/byte-budget.js';
import type { Config } from './base/config.js';
import { ServeError } from './base/errors.js';
import type { RootLog } from './base/log.js';
import { Metrics } from './base/metrics.js';
import { Advisor } from './engine/advice.js';
import type { RunningEngine } from './engine/create-engine.js';
import type { RequestObserver } from './engine/finished-request.js';
import { registerBudgetMetrics, registerModelMetrics } from './engine/model-metrics.js';
import { grpcRawProbe } from './grpc/codec-probe.js';
import { createGrpcServer } from './grpc/server.js';
import { registerConnectionMetrics, registerProtocolMetrics } from './protocol-metrics.js';
import { restBinaryProbe } from './rest/codec-probe.js';
import { createMetricsServer } from './rest/metrics-server.js';
import { createRestServer } from './rest/server.js';
import type { JsonPool } from './runtime/json-pool.js';
import type { TlsFiles } from './tls-files.js';
import type { Tracing } from './tracing/tracer.js';

/** A part that listens; `stop` finishes what it has accepted. */
export interface Port {
  readonly label: string;
  /** The option that says where. */
  readonly flag: string;
  /** What was asked for, for the error when it can't be had. */
  readonly wanted: string;
  readonly scheme: string;
  readonly path: string;
  listen(): Promise<{ address: string; port: number }>;
  stop(): Promise<void>;
}

/** By protocol; undefined where TLS is not asked for. */
export type TlsByProtocol = Readonly<Record<'http' | 'grpc', TlsFiles | undefined>>;

/** The ports that the options ask for, in the order in which they open; none listens yet. */
export function openPorts(
  config: Config,
  log: RootLog,
  { engine, sharedMemoryBytes }: RunningEngine,
  jsonPool: JsonPool,
  tlsFiles: TlsByProtocol,
  tracing: Tracing | undefined,
): Port[] {
  const budget = new BoundedBytes(config.maxInflightByteSize);
  const metrics = new Metrics();
  registerModelMetrics(metrics, engine);
  const connections = registerConnectionMetrics(metrics);
  /** Whoever wants to know of each request that ended, on either protocol. */
  const observers: RequestObserver[] = [];
  let advisor: Advisor | undefined;
  if (config.latencyBudget) {
    observers.push(registerBudgetMetrics(metrics), registerProtocolMetrics(metrics));
    advisor = adviseOn(config, metrics, observers, jsonPool);
  }
  const onFinished: RequestObserver = (request) => {
    for (const observe of observers) observe(request);
  };
  tracing?.register(metrics);
  metrics.gauge({ name: 'tensorwire_shared_memory_bytes', help: 'Shared memory held for batches' }, () => [
    [{}, sharedMemoryBytes()],
  ]);
  metrics.gauge({ name: 'tensorwire_bytes_in_flight', help: 'Bytes of requests being worked on' }, () => [
    [{}, budget.reservedBytes],
  ]);
  metrics.counter({ name: 'tensorwire_log_lines_dropped_total', help: 'Log lines that nobody read' }, () => [
    [{}, log.droppedCount],
  ]);
  const ports: Port[] = [];
  if (config.allowGrpc) {
    const tls = tlsFiles.grpc;
    const server = createGrpcServer({
      engine,
      budget,
      host: config.grpcAddress,
      port: config.grpcPort,
      maxReceiveBytes: config.grpcMaxInputSize,
      maxConcurrentStreams: config.grpcMaxConcurrentStreams,
      keepaliveTimeMs: config.grpcKeepaliveTime,
      keepaliveTimeoutMs: config.grpcKeepaliveTimeout,
      maxConnectionAgeMs: config.grpcMaxConnectionAge,
      maxConnectionAgeGraceMs: config.grpcMaxConnectionAgeGrace,
      closeGraceMs: config.exitTimeoutSecs * 1000 + 4000,
      ...(tls && { tls }),
      log,
      connections: connections.grpc,
      ...(tracing && { tracer: tracing }),
      serverTiming: config.latencyBudget,
      onFinished,
    });
    ports.push({
      label: 'gRPC',
      flag: 'grpc-port',
      wanted: `${config.grpcPort} at ${config.grpcAddress}`,
      scheme: '',
      path: '',
      listen: () => server.listen(),
      stop: () => server.drain(),
    });
  }
  if (config.allowHttp) {
    const tls = tlsFiles.http;
    const server = createRestServer({
      engine,
      jsonPool,
      budget,
      host: config.httpAddress,
      port: config.httpPort,
      maxInputSize: config.httpMaxInputSize,
      corsOrigins: config.httpCorsOrigin,
      ...(tls && { tls }),
      draining: () => engine.isStopping,
      advice: advisor,
      // What runs when the time is over still gets its reply; a second before the launcher ends it all, the rest is dropped.
      closeGraceMs: config.exitTimeoutSecs * 1000 + 4000,
      onInternalError: (error) =>
        log.error({ error: error.cause ?? error }, 'a REST request failed by a fault of the server'),
      connections: connections.rest,
      ...(tracing && { tracer: tracing }),
      serverTiming: config.latencyBudget,
      onFinished,
    });
    ports.push({
      label: 'REST',
      flag: 'http-port',
      wanted: `${config.httpPort} at ${config.httpAddress}`,
      scheme: tls ? 'https://' : 'http://',
      path: '',
      listen: () => server.listen(),
      stop: () => server.close(),
    });
  }
  if (config.allowMetrics) {
    const server = createMetricsServer({
      host: config.metricsAddress,
      port: config.metricsPort,
      render: () => metrics.render(),
    });
    ports.push({
      label: 'metrics',
      flag: 'metrics-port',
      wanted: `${config.metricsPort} at ${config.metricsAddress}`,
      scheme: 'http://',
      path: '/metrics',
      listen: () => server.listen(),
      stop: () => server.close(),
    });
  }
  return ports;
}

/** An advisor that hears of every request, and compares with the arms that are open. */
function adviseOn(config: Config, metrics: Metrics, observers: RequestObserver[], jsonPool: JsonPool): Advisor {
  const advisor = new Advisor({
    ...(config.allowGrpc && { grpc_raw: grpcRawProbe }),
    ...(config.allowHttp && { rest_binary: restBinaryProbe(jsonPool) }),
  });
  observers.push((request) => advisor.observe(request));
  registerAdviceMetrics(metrics, advisor);
  return advisor;
}

/** Why `port` can't be had, in one line that names the option. */
export function refusalOf(port: Port, error: NodeJS.ErrnoException): ServeError {
  return new ServeError(
    'UNAVAILABLE',
    `${port.label} can't listen on --${port.flag} ${port.wanted}: ${reasonOf(error)}`,
  );
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'EADDRINUSE') return 'the port is in use';
  if (code === 'EACCES') return 'permission denied';
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return 'no such address on this machine';
  return code ?? message;
}
