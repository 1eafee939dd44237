/**
 * The serving process: the composition root. Parts are built bottom-up and stopped top-down; no rule of the business is here.
 *
 *   start  log ─ engine (workers, shared memory) ─ tracing ─ ports open ─ models load ─ banner, `ready` to the launcher
 *   stop   not ready, refuse new ─ finish what is accepted ─ close ports ─ send spans ─ release sessions, end threads ─ exit 0
 *
 * Started by `launcher.ts` with the V8 flags that matter; `node dist/server.js` works too. A launcher that dies (its IPC channel
 * closes) stops the server as SIGTERM does.
 */
import { fileURLToPath } from 'node:url';
import { banner } from './banner.js';
import { type Config, ConfigAnswer, ConfigError, packageVersion, parseConfig } from './base/config.js';
import { countCores, type ThreadPlan, threadPlan } from './base/cores.js';
import { ServeError } from './base/errors.js';
import { createLog, guardStandardStreams, type RootLog } from './base/log.js';
import { createEngine, type RunningEngine } from './engine/create-engine.js';
import { openPorts, type Port, refusalOf } from './ports.js';
import { createJsonPool } from './runtime/json-pool.js';
import { onStopSignals } from './stop-signals.js';
import { readTlsFiles } from './tls-files.js';
import { readTracingSettings } from './tracing/settings.js';
import type { Tracing } from './tracing/tracer.js';

/** What the last spans get to reach their collector when the server stops. */
const SPANS_FLUSH_MS = 4000;

/** All has stopped, no thread runs any more, but an export of spans hangs and would hold the process. */
let isHeldByExport = false;

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
    // What was started is stopped by `serve`.
    leave(1);
  }
}

async function serve(config: Config): Promise<void> {
  const log = createLog({ level: config.logLevel, format: config.logFormat });
  for (const warning of config.warnings) log.warn({}, warning);
  const cores = countCores();
  const threads = threadPlan({ cores, workerCount: config.workerCount, intraOpThreads: config.intraOpThreadCount });
  const plan = {
    ...threads,
    preprocessWorkers: config.preprocessWorkerCount || Math.max(1, Math.floor(cores / 2)),
    // A model that generates text has one thread for its steps, which batching makes worth as many cores as there are to spare.
    generationThreads: config.intraOpThreadCount || Math.max(1, cores - 1),
  };
  if (plan.warning) log.warn({}, plan.warning);
  const tlsFiles = { http: readTlsFiles(config, 'http'), grpc: readTlsFiles(config, 'grpc') };
  const running = startEngine(config, log, plan);
  const { engine } = running;
  const jsonPool = createJsonPool({ size: config.jsonWorkerCount });
  const tracing = await startTracing(log);
  const ports = openPorts(config, log, running, jsonPool, tlsFiles, tracing);
  const opened: Port[] = [];
  const addresses: [string, string][] = [];
  const numbers: string[] = [];
  let stopping: Promise<void> | undefined;

  const stop = (): Promise<void> =>
    (stopping ??= (async () => {
      engine.stopAccepting();
      await Promise.all([engine.drain(config.exitTimeoutSecs * 1000), ...opened.map((port) => port.stop())]);
      const flushed = tracing?.close(SPANS_FLUSH_MS);
      await jsonPool.close();
      await loading.catch(() => undefined);
      await running.close();
      isHeldByExport = (await flushed) === false;
    })());

  let loading: Promise<void> = Promise.resolve();
  try {
    for (const port of ports) {
      const { address, port: number } = await port.listen().catch((error: NodeJS.ErrnoException) => {
        throw refusalOf(port, error);
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
      metadata: engine.readyModels().map(({ name, version }) => ({
        ...engine.modelMetadata(name, version),
        content: engine.modelContent(name, version),
      })),
      httpUrl: config.httpUseSsl || config.httpUseSslMutual ? undefined : reach('REST'),
      grpcTarget: config.grpcUseSsl || config.grpcUseSslMutual ? undefined : reach('gRPC'),
    }),
  );
  // A restart after a native death must come back where clients look for it, also when the ports were chosen freely.
  process.send?.({ ready: true, restartArgs: numbers });
}

/** Traces as OpenTelemetry's variables ask for; its code is loaded only then. */
async function startTracing(log: RootLog): Promise<Tracing | undefined> {
  const version = packageVersion();
  const { settings, warnings } = readTracingSettings(process.env);
  for (const warning of warnings) log.warn({}, warning);
  if (settings === undefined) return undefined;
  const { createTracing } = await import('./tracing/tracer.js');
  return createTracing(settings, { log, version });
}

interface Plan extends ThreadPlan {
  readonly preprocessWorkers: number;
  readonly generationThreads: number;
}

function startEngine(config: Config, log: RootLog, plan: Plan): RunningEngine {
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
    preprocessWorkerCount: plan.preprocessWorkers,
    preprocessWorkerFile: fileURLToPath(new URL('./workers/preprocess-worker.js', import.meta.url)),
    tokenStreamWorkerFile: fileURLToPath(new URL('./workers/token-stream-worker.js', import.meta.url)),
    generation: {
      maxSequences: config.maxSequences,
      kvCacheBytes: config.kvCacheByteSize,
      prefixCacheBytes: config.prefixCacheByteSize,
      maxSequenceLength: config.maxSequenceLength,
      intraOpNumThreads: plan.generationThreads,
    },
    stallTimeoutMs: config.streamStallTimeout * 1000,
    modelMemoryBytes: config.modelMemoryBudget,
    loadOnFirstUse: config.loadOnFirstUse,
    maxTextBytes: config.maxTextByteSize,
    maxImagePixels: config.maxImagePixels,
    sharedMemoryBytes: config.sharedMemoryPoolByteSize,
    modelCacheDirectory: config.modelCacheDirectory,
    weightSharingMinBytes: config.weightSharingMinByteSize,
  });
}

/** Lets the process end by itself: an exit while a worker is inside ONNX Runtime would abort. */
function leave(exitCode: number): void {
  process.exitCode = exitCode;
  if (process.connected) process.disconnect();
  if (isHeldByExport) process.exit();
}

function listenToStopSignals(log: RootLog, config: Config, stop: () => Promise<void>): void {
  let stopping = false;
  const graceful = (why: string) => {
    stopping = true;
    log.info({ why, exitTimeoutSecs: config.exitTimeoutSecs }, 'stopping: finishing what is accepted');
    stop().then(
      () => {
        log.info({}, 'stopped');
        log.flush();
        leave(0);
      },
      (error: unknown) => {
        log.error({ error }, 'stopping failed');
        leave(1);
      },
    );
  };
  // With a launcher, forcing is its part. Without one it is SIGKILL: an exit while ONNX Runtime runs would abort noisily.
  const forced = () => process.kill(process.pid, 'SIGKILL');
  onStopSignals(process.connected ? { graceful } : { graceful, forced });
  process.once('disconnect', () => {
    // A server whose start failed hangs up itself, and its exit code stands.
    if (!stopping && process.exitCode === undefined) graceful('the launcher is gone');
  });
}
