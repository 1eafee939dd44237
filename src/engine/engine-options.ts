/**
 * What the engine is built with: the runtime below it, and what the operator chose.
 *
 * Filled by create-engine.ts; read by the engine's door, which hands each part what it needs. Types only.
 */
import type { Log } from '../base/log.js';
import type { PreprocessPool } from '../runtime/preprocess-pool.js';
import type { SlabPool } from '../runtime/slab-pool.js';
import type { WeightCache } from '../runtime/weight-cache.js';
import type { WorkerPool } from '../runtime/worker-pool.js';
import type { GenerationLoaderOptions, StartTokenStreams } from './generation-loader.js';
import type { SessionDefaults } from './session-options.js';

export interface EngineOptions {
  readonly serverName: string;
  readonly serverVersion: string;
  readonly workers: WorkerPool;
  readonly slabs: SlabPool;
  readonly weights: WeightCache;
  readonly preprocess: PreprocessPool;
  readonly log: Log;
  readonly strictReadiness: boolean;
  readonly sessionDefaults: SessionDefaults;
  readonly autoComplete: boolean;
  readonly defaultMaxBatchSize: number;
  readonly defaultMaxQueueSize: number;
  readonly defaultMaxQueueBytes: number;
  /** Most bytes that loaded models may cost together; 0 = no bound. */
  readonly modelMemoryBytes: number;
  /** Load models when they are first asked for, where their configuration does not say otherwise. */
  readonly loadOnFirstUse: boolean;
  /** How long a model whose load on demand failed is left alone; some seconds when not given. */
  readonly loadRetryMs?: number;
  /** False: a model counts as much as its files say, which is the same at every load; for tests. */
  readonly measuresMemory?: boolean;
  /** Bytes of one text for a model that tokenizes. */
  readonly maxTextBytes: number;
  /** Width times height of a picture. */
  readonly maxImagePixels: number;
  /** For models that generate text, where their configuration does not say otherwise. */
  readonly generation: GenerationLoaderOptions['generation'];
  readonly startTokenStreams: StartTokenStreams;
  /** How long a client may read nothing while its text waits for it. */
  readonly stallTimeoutMs: number;
}
