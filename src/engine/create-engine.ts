/**
 * Puts the engine together with the runtime below it: worker pools, shared memory, weight cache.
 *
 * Called by the composition root and by tests that want a real engine without a front end. Owns the order in which they stop.
 */
import { PreprocessPool } from '../runtime/preprocess-pool.js';
import { SlabPool } from '../runtime/slab-pool.js';
import { TokenStreamWorker } from '../runtime/token-stream-worker.js';
import { WeightCache } from '../runtime/weight-cache.js';
import { WorkerPool } from '../runtime/worker-pool.js';
import { InferenceEngine } from './engine.js';
import type { EngineOptions } from './engine-options.js';
import type { StartTokenStreams } from './generation-loader.js';

type Made = 'workers' | 'slabs' | 'weights' | 'preprocess' | 'startTokenStreams';

export interface CreateEngineOptions extends Omit<EngineOptions, Made> {
  readonly workerCount: number;
  /** Compiled `workers/inference-worker.js`. */
  readonly workerFile: string;
  readonly preprocessWorkerCount: number;
  /** Compiled `workers/preprocess-worker.js`. */
  readonly preprocessWorkerFile: string;
  /** Compiled `workers/token-stream-worker.js`. */
  readonly tokenStreamWorkerFile: string;
  readonly sharedMemoryBytes: number;
  /** Overwrite released shared memory, so that a use after release is seen; for tests. */
  readonly poison?: boolean;
  readonly modelCacheDirectory: string;
  /** Models of fewer bytes are loaded by each worker for itself. */
  readonly weightSharingMinBytes: number;
}

export interface RunningEngine {
  readonly engine: InferenceEngine;
  readonly sharedMemoryBytes: () => number;
  /** Releases sessions and ends the threads. The engine must have been drained. */
  close(): Promise<void>;
}

export function createEngine(options: CreateEngineOptions): RunningEngine {
  const workers = new WorkerPool({
    size: options.workerCount,
    workerFile: options.workerFile,
    // Results and losses come only after requests or loads, which come only after this function has returned.
    onResult: (worker, answer) => engine.onResult(worker, answer),
    onLost: (worker, reason) => engine.onWorkerLost(worker, reason),
  });
  const slabs = new SlabPool({
    maxBytes: options.sharedMemoryBytes,
    poison: options.poison ?? false,
    onCreate: (slab, buffer) => workers.addSlab(slab, buffer),
    onDrop: (slab) => workers.dropSlab(slab),
  });
  const weights = new WeightCache({
    directory: options.modelCacheDirectory,
    minBytes: options.weightSharingMinBytes,
    log: options.log,
  });
  const preprocess = new PreprocessPool({
    size: options.preprocessWorkerCount,
    workerFile: options.preprocessWorkerFile,
  });
  const startTokenStreams: StartTokenStreams = ({ maxSequences, onLost }) =>
    new TokenStreamWorker({ workerFile: options.tokenStreamWorkerFile, maxSequences, onLost });
  const made = { workers, slabs, weights, preprocess, startTokenStreams };
  const engine: InferenceEngine = new InferenceEngine({ ...options, ...made });
  const close = async (): Promise<void> => {
    await engine.close();
    await preprocess.close();
    await workers.close();
  };
  return { engine, sharedMemoryBytes: () => slabs.totalBytes, close };
}
