/**
 * The serving process: the composition root. Parts are built bottom-up and stopped top-down; no rule of the business is here.
 *
 *   start  log ─ engine (workers, shared memory) ─ ports open ─ models load ─ banner, `ready` to the launcher
 *   stop   not ready, refuse new ─ finish what is accepted ─ close ports ─ release sessions, end threads ─ exit 0
 *
 * Started by `launcher.ts` with the V8 flags that matter; `node dist/server.js` works too. A launcher that dies (its IPC channel
 * closes) stops the server as SIGTERM does.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { banner } from './banner.js';
import { BoundedBytes } from './base/byte-budget.js';
import { type Config, ConfigAnswer, ConfigError, packageVersion, parseConfig } from './base/config.js';
import { countCores, threadPlan } from './base/cores.js';
import { ServeError } from './base/errors.js';
import { createLog, guardStandardStreams, type RootLog } from './base/log.js';
import { Metrics } from './base/metrics.js';
import { createEngine, type RunningEngine } from './engine/create-engine.js';
import { registerModelMetrics } from './engine/model-metrics.js';
import { createGrpcServer } from './grpc/server.js';
import { createMetricsServer } from './rest/metrics-server.js';
import { createRestServer } from './rest/server.js';
import { createJsonPool, type JsonPool } from './runtime/json-pool.js';
import { onStopSignals } from './stop-signals.js';

/** A part that listens; `stop` finishes what it has accepted. */
interface Port {
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

process.env.ORT_DISABLE_TELEMETRY = '1';
guardStandardStreams();
try {
  await serve(parseConfig(process.argv.slice(2), process.env));
} catch (error) {
  if (error instanceof ConfigAnswer) {
    process.stdout.write(error.text);
  } else {
    const line =
      error instanceof ConfigError || error instanceof ServeError ? error.message : String((error as Error)?.stack);
    process.stderr.write(`tensorwire: ${line}\n`);
    // No exit here: a worker may be inside ONNX Runtime. What was started is stopped by `serve`, then the process ends by itself.
    process.exitCode = 1;
    if (process.connected) process.disconnect();
  }
}

async function serve(config: Config): Promise<void> {
  const log = createLog({ level: config.logLevel, format: config.logFormat });
  for (const warning of config.warnings) log.warn({}, warning);
  const plan = threadPlan({
    cores: countCores(),
    workerCount: config.workerCount,
    intraOpThreads: config.intraOpThreadCount,
  });
  if (plan.warning) log.warn({}, plan.warning);
  const running = startEngine(config, log, plan);
  const { engine } = running;
  const jsonPool = createJsonPool({ size: config.jsonWorkerCount });
  const ports = openPorts(config, log, running, jsonPool);
  const opened: Port[] = [];
  const addresses: [string, string][] = [];
  const numbers: string[] = [];
  let stopping: Promise<void> | undefined;

  const stop = (): Promise<void> =>
    (stopping ??= (async () => {
      engine.stopAccepting();
      await Promise.all([engine.drain(config.exitTimeoutSecs * 1000), ...opened.map((port) => port.stop())]);
      await jsonPool.close();
      await loading.catch(() => undefined);
      await running.close();
      log.info({}, 'stopped');
      log.flush();
    })());

  let loading: Promise<void> = Promise.resolve();
  try {
    for (const port of ports) {
      const { address, port: number } = await port.listen().catch((error: NodeJS.ErrnoException) => {
        throw new ServeError(
          'UNAVAILABLE',
          `${port.label} can't listen on --${port.flag} ${port.wanted}: ${reasonOf(error)}`,
        );
      });
      opened.push(port);
      const host = address.includes(':') ? `[${address}]` : address;
      numbers.push(`--${port.flag}`, String(number));
      addresses.push([port.label, `${port.scheme}${host}:${number}${port.path}`]);
    }
    listenToStopSignals(log, config, stop);
    await jsonPool.ready();
    loading = engine.load(config.modelRepository);
    await loading;
  } catch (error) {
    await stop();
    throw error;
  }
  if (stopping) return;
  const index = engine.repositoryIndex(false);
  const failed = index.filter(({ state }) => state !== 'READY');
  if (config.exitOnError && failed.length > 0) {
    await stop();
    const [first] = failed;
    throw new ServeError(
      'FAILED_PRECONDITION',
      `model '${first!.name}' failed to load (--exit-on-error): ${first!.reason}`,
    );
  }
  const reach = (label: string) =>
    addresses.find(([own]) => own === label)?.[1].replace(/0\.0\.0\.0|\[::\]/, 'localhost');
  process.stdout.write(
    banner({
      name: config.id,
      version: packageVersion(),
      addresses,
      models: index,
      metadata: index
        .filter(({ state }) => state === 'READY')
        .map(({ name, version }) => engine.modelMetadata(name, version)),
      httpUrl: config.httpUseSsl || config.httpUseSslMutual ? undefined : reach('REST'),
      grpcTarget: config.grpcUseSsl || config.grpcUseSslMutual ? undefined : reach('gRPC'),
    }),
  );
  // A restart after a native death must come back where clients look for it, also when the ports were chosen freely.
  process.send?.({ ready: true, restartArgs: numbers });
}

function startEngine(config: Config, log: RootLog, plan: { workers: number; intraOpThreads: number }): RunningEngine {
  const { 'default-max-batch-size': defaultMaxBatchSize, ...sessionEntries } = config.backendConfig.onnxruntime ?? {};
  return createEngine({
    serverName: config.id,
    serverVersion: packageVersion(),
    log,
    strictReadiness: config.strictReadiness,
    sessionDefaults: {
      intraOpNumThreads: plan.intraOpThreads,
      // Several sessions share the cores: one that spins while it waits takes them from the others.
      configEntries: { 'session.intra_op.allow_spinning': '0', ...sessionEntries },
    },
    autoComplete: !config.disableAutoCompleteConfig,
    defaultMaxBatchSize: Number(defaultMaxBatchSize ?? 4),
    defaultMaxQueueSize: config.defaultMaxQueueSize,
    defaultMaxQueueBytes: config.defaultMaxQueueByteSize,
    workerCount: plan.workers,
    workerFile: fileURLToPath(new URL('./workers/inference-worker.js', import.meta.url)),
    sharedMemoryBytes: config.sharedMemoryPoolByteSize,
    modelCacheDirectory: config.modelCacheDirectory,
    weightSharingMinBytes: config.weightSharingMinByteSize,
  });
}

function openPorts(
  config: Config,
  log: RootLog,
  { engine, sharedMemoryBytes }: RunningEngine,
  jsonPool: JsonPool,
): Port[] {
  const budget = new BoundedBytes(config.maxInflightByteSize);
  const metrics = new Metrics();
  const observe = registerModelMetrics(metrics, engine);
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
    const tls = tlsFiles(
      config.grpcUseSsl,
      config.grpcUseSslMutual,
      config.grpcServerCert,
      config.grpcServerKey,
      config.grpcRootCert,
    );
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
      ...(tls && { tls }),
      log,
      // Only a request that a model answered has a model's name for a label, whatever else clients write.
      onFinished: ({ arm, modelName, timeline }) => {
        if (arm && timeline.scattered > 0) observe(modelName, arm, timeline);
      },
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
    const tls = tlsFiles(
      config.httpUseSsl,
      config.httpUseSslMutual,
      config.httpServerCert,
      config.httpServerKey,
      config.httpRootCert,
    );
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
      onInternalError: (error) =>
        log.error({ error: error.cause ?? error }, 'a REST request failed by a fault of the server'),
      onFinished: ({ arm, modelName, timeline }) => {
        if (arm && timeline.scattered > 0) observe(modelName, arm, timeline);
      },
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

function tlsFiles(
  use: boolean,
  mutual: boolean,
  cert: string | undefined,
  key: string | undefined,
  root: string | undefined,
): { cert: Buffer; key: Buffer; ca?: Buffer; mutual: boolean } | undefined {
  if (!use && !mutual) return undefined;
  // That they are there is a rule of the options.
  return { cert: readFileSync(cert!), key: readFileSync(key!), ...(root && { ca: readFileSync(root) }), mutual };
}

function listenToStopSignals(log: RootLog, config: Config, stop: () => Promise<void>): void {
  let stopping = false;
  const graceful = (why: string) => {
    stopping = true;
    log.info({ why, exitTimeoutSecs: config.exitTimeoutSecs }, 'stopping: finishing what is accepted');
    stop().then(
      () => {
        process.exitCode = 0;
        if (process.connected) process.disconnect();
      },
      (error: unknown) => {
        log.error({ error }, 'stopping failed');
        process.exitCode = 1;
        if (process.connected) process.disconnect();
      },
    );
  };
  // With a launcher, forcing is its part. Without one it is SIGKILL: an exit while ONNX Runtime runs would abort noisily.
  const forced = () => process.kill(process.pid, 'SIGKILL');
  onStopSignals(process.connected ? { graceful } : { graceful, forced });
  process.once('disconnect', () => {
    if (!stopping) graceful('the launcher is gone');
  });
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === 'EADDRINUSE') return 'the port is in use';
  if (code === 'EACCES') return 'permission denied';
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') return 'no such address on this machine';
  return code ?? message;
}
