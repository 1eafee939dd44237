/** A real engine over a temporary repository, without a front end; and a way to ask it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { nowMs } from '../../src/base/clock.js';
import type { Datatype } from '../../src/base/datatype.js';
import type { Log } from '../../src/base/log.js';
import { Timeline } from '../../src/base/timeline.js';
import { type CreateEngineOptions, createEngine } from '../../src/engine/create-engine.js';
import type { InferenceEngine } from '../../src/engine/engine.js';
import type { Cancel, InferHandler, InferRequest, InferResponse } from '../../src/engine/types.js';

export interface TestEngine {
  readonly engine: InferenceEngine;
  /** Settles when the models of the start are loaded. */
  readonly loading: Promise<void>;
  /** What was logged, a line each: level, message, fields. */
  readonly logged: string[];
  stop(): Promise<void>;
}

const WORKER = join(import.meta.dirname, '../../dist/workers/inference-worker.js');

const temporary: string[] = [];
// Not at the end of the process, which vitest kills. What a file's own hooks use is still there: hooks run in the reverse order.
afterAll(() => {
  for (const directory of temporary) rmSync(directory, { recursive: true, force: true });
});

/** A directory that is gone when the file's tests have ended. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'tensorwire-test-'));
  temporary.push(directory);
  return directory;
}

/** Starts an engine with two workers and poisoned shared memory, and loads `repository`. */
export async function startEngine(repository: string, options: Partial<CreateEngineOptions> = {}): Promise<TestEngine> {
  const running = launchEngine(repository, options);
  await running.loading;
  return running;
}

/** As {@link startEngine}, but does not wait until the models are loaded. */
export function launchEngine(repository: string, options: Partial<CreateEngineOptions> = {}): TestEngine {
  process.env.ORT_DISABLE_TELEMETRY = '1';
  const logged: string[] = [];
  const line = (level: string) => (fields: object, message: string) =>
    void logged.push(
      `${level} ${message} ${JSON.stringify(fields, (_, value) => (value instanceof Error ? value.message : value))}`,
    );
  const log: Log = {
    trace: () => undefined,
    debug: () => undefined,
    info: line('info'),
    warn: line('warn'),
    error: line('error'),
    child: () => log,
  };
  const running = createEngine({
    serverName: 'test',
    serverVersion: '0',
    log,
    strictReadiness: true,
    sessionDefaults: { intraOpNumThreads: 1, configEntries: { 'session.intra_op.allow_spinning': '0' } },
    autoComplete: true,
    defaultMaxBatchSize: 4,
    defaultMaxQueueSize: 1024,
    defaultMaxQueueBytes: 1 << 27,
    workerCount: 2,
    workerFile: WORKER,
    preprocessWorkerCount: 1,
    preprocessWorkerFile: join(import.meta.dirname, '../../dist/workers/preprocess-worker.js'),
    tokenStreamWorkerFile: join(import.meta.dirname, '../../dist/workers/token-stream-worker.js'),
    generation: {
      maxSequences: 8,
      kvCacheBytes: 1 << 28,
      prefixCacheBytes: 1 << 24,
      maxSequenceLength: 0,
      intraOpNumThreads: 1,
    },
    stallTimeoutMs: 30_000,
    modelMemoryBytes: 0,
    loadOnFirstUse: false,
    maxTextBytes: 1 << 18,
    maxImagePixels: 1 << 24,
    sharedMemoryBytes: 1 << 26,
    poison: true,
    modelCacheDirectory: join(temporaryDirectory(), 'cache'),
    weightSharingMinBytes: 1 << 26,
    ...options,
  });
  const loading = running.engine.load([repository]);
  return {
    engine: running.engine,
    loading,
    logged,
    stop: async () => {
      await running.engine.drain(60_000);
      await running.close();
    },
  };
}

export type Ask = Partial<Omit<InferRequest, 'timeline'>> & Pick<InferRequest, 'modelName' | 'inputs'>;

/** Sends a request; outputs are copied while they are lent. */
export function ask(engine: InferenceEngine, request: Ask, handler: InferHandler): Cancel {
  const timeline = new Timeline(nowMs());
  timeline.lastByte = timeline.decoded = timeline.firstByte;
  return engine.infer(
    {
      modelVersion: '',
      id: '',
      outputs: [],
      parameters: new Map(),
      arm: 'grpc_raw',
      deadlineMs: Number.POSITIVE_INFINITY,
      ...request,
      timeline,
    },
    handler,
  );
}

/** Like {@link ask}, as a promise. */
export function infer(engine: InferenceEngine, request: Ask): Promise<InferResponse> {
  return new Promise((resolve, reject) => {
    ask(engine, request, {
      onResponse: (response) =>
        resolve({
          ...response,
          outputs: response.outputs.map((output) => ({ ...output, data: Uint8Array.from(output.data) })),
        }),
      onError: reject,
    });
  });
}

export function tensor(name: string, datatype: Datatype, shape: number[], data: ArrayBufferView) {
  return { name, datatype, shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
}

/** Strings in the protocol's raw layout. */
export function rawStrings(...strings: (string | Uint8Array)[]): Uint8Array {
  return Buffer.concat(
    strings.flatMap((text) => {
      const bytes = Buffer.from(text as string);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.byteLength);
      return [length, bytes];
    }),
  );
}
