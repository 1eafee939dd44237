/**
 * Makes one version of a model ready: session on a first worker, config completed from the ONNX file's own metadata, sessions on
 * the other workers it needs, warm-up on each.
 *
 * Called by the registry. Owns the order of these steps and undoes them when one fails. Throws ServeError with the reason.
 */
import { dirname } from 'node:path';
import { type Datatype, datatypeOfOrt } from '../base/datatype.js';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { LoadRequest, SessionMetadata, SessionTensor } from '../runtime/messages.js';
import type { SharedWeights, WeightCache } from '../runtime/weight-cache.js';
import type { WorkerPool } from '../runtime/worker-pool.js';
import type { BatchPolicy } from './batcher.js';
import { ComputeTimes } from './compute-times.js';
import type { Model } from './model.js';
import { completeModelConfig } from './model-complete.js';
import type { InputConfig, ModelConfig, OnnxTensor, TensorConfig } from './model-config.js';
import { modelFilename } from './model-config.js';
import type { RawConfig } from './model-config-raw.js';
import { instanceGroups } from './model-config-session.js';
import type { RepositoryEntry } from './repository.js';
import { modelFile } from './repository-file.js';
import { RequestQueue } from './request-queue.js';
import { type SessionDefaults, sessionOptions } from './session-options.js';
import { Statistics } from './statistics.js';
import type { TensorSpec } from './tensor-spec.js';

export interface LoaderOptions {
  readonly workers: WorkerPool;
  readonly weights: WeightCache;
  readonly log: Log;
  readonly sessionDefaults: SessionDefaults;
  readonly autoComplete: boolean;
  readonly defaultMaxBatchSize: number;
  readonly defaultMaxQueueSize: number;
  readonly defaultMaxQueueBytes: number;
  /** Runs the configured warm-up of `model` on `worker`. */
  readonly warmUp: (model: Model, worker: number, entry: RepositoryEntry) => Promise<void>;
}

export class ModelLoader {
  readonly #options: LoaderOptions;
  /** Sessions on each worker, so that a new model goes where there are fewest. */
  readonly #sessions: number[];
  /** What must be loaded again on a worker that was replaced. */
  readonly #requests = new Map<Model, { load: LoadRequest; placed: readonly number[]; entry: RepositoryEntry }>();
  #nextSession = 0;

  constructor(options: LoaderOptions) {
    this.#options = options;
    this.#sessions = new Array<number>(options.workers.size).fill(0);
  }

  /** Loads `version` of `entry`; nothing of it stays loaded when this throws. */
  async load(entry: RepositoryEntry, raw: RawConfig, version: number): Promise<Model> {
    const { workers } = this.#options;
    const groups = instanceGroups(raw, entry.name, workers.size);
    // The first group decides the kind: a model with sessions of several kinds would need a choice per batch.
    const group = groups[0]!;
    const count = Math.min(
      workers.size,
      groups.reduce((sum, { count }) => sum + count, 0),
    );
    const options = sessionOptions(raw, group, entry.name, this.#options.sessionDefaults);
    const placed = this.#placement(count);
    const session = this.#nextSession++;
    const path = await modelFile(entry, version, modelFilename(raw));
    const file = { path, directory: dirname(path) };
    const cpuOnly = options.executionProviders.length === 1;
    const shared: SharedWeights | undefined = cpuOnly
      ? await this.#options.weights.share(file, count, options, (target) =>
          workers.compile(placed[0]!, { source: file.path, directory: file.directory, target, options }),
        )
      : undefined;
    const load: LoadRequest = shared
      ? { session, path: shared.path, directory: shared.directory, options, scan: false }
      : { session, path: file.path, directory: file.directory, options, scan: true };
    const loaded: number[] = [];
    try {
      const metadata = await workers.load(placed[0]!, load);
      loaded.push(placed[0]!);
      const model = this.#model(
        raw,
        entry,
        version,
        session,
        metadata,
        shared?.integerDivision ?? metadata.integerDivision,
      );
      await Promise.all(
        placed.slice(1).map(async (worker) => {
          await workers.load(worker, load);
          loaded.push(worker);
        }),
      );
      this.#requests.set(model, { load, placed, entry });
      for (const worker of placed) await this.#options.warmUp(model, worker, entry);
      for (const worker of placed) {
        model.workers.add(worker);
        this.#sessions[worker]!++;
      }
      this.#options.log.info(
        {
          model: entry.name,
          version,
          workers: placed.length,
          loadMs: Math.round(metadata.loadMs),
          sharedWeights: !!shared,
        },
        'model is ready',
      );
      return model;
    } catch (error) {
      await Promise.all(loaded.map((worker) => workers.unload(worker, session).catch(() => undefined)));
      throw error;
    }
  }

  /** Loads again what a replaced worker had; a model that fails stays on its other workers. */
  async restore(worker: number): Promise<Model[]> {
    const restored: Model[] = [];
    for (const [model, { load, placed, entry }] of this.#requests) {
      if (!placed.includes(worker)) continue;
      model.workers.delete(worker);
      try {
        await this.#options.workers.load(worker, load);
        await this.#options.warmUp(model, worker, entry);
        model.workers.add(worker);
        restored.push(model);
      } catch (error) {
        this.#options.log.error({ error, model: model.name, worker }, 'model could not be loaded again');
      }
    }
    return restored;
  }

  /** The `count` workers with the fewest sessions. */
  #placement(count: number): number[] {
    return this.#sessions
      .map((sessions, worker) => ({ sessions, worker }))
      .sort((a, b) => a.sessions - b.sessions || a.worker - b.worker)
      .slice(0, count)
      .map(({ worker }) => worker);
  }

  #model(
    raw: RawConfig,
    entry: RepositoryEntry,
    version: number,
    session: number,
    metadata: SessionMetadata,
    integerDivision: boolean,
  ): Model {
    const config = completeModelConfig(
      raw,
      { inputs: metadata.inputs.map(onnxTensor), outputs: metadata.outputs.map(onnxTensor) },
      {
        modelName: entry.name,
        autoComplete: this.#options.autoComplete,
        defaultMaxBatchSize: this.#options.defaultMaxBatchSize,
        defaultInstanceCount: this.#options.workers.size,
      },
    );
    const batching = config.maxBatchSize > 0;
    const inputs = config.inputs.map((tensor) => tensorSpec(tensor, metadata.inputs, batching));
    const outputs = config.outputs.map((tensor) => tensorSpec(tensor, metadata.outputs, batching));
    return {
      name: entry.name,
      version: String(version),
      config,
      session,
      workers: new Set(),
      inputs,
      outputs,
      inputPositions: positions(inputs),
      outputPositions: positions(outputs),
      batching,
      policy: batchPolicy(config),
      queue: this.#queue(config),
      statistics: new Statistics(),
      computeTimes: new ComputeTimes(),
      plans: new Map(),
      integerDivision,
      outputsUnpredictable: false,
    };
  }

  #queue({ dynamicBatching }: ModelConfig): RequestQueue {
    const { defaultMaxQueueSize, defaultMaxQueueBytes } = this.#options;
    const levels = Math.max(1, dynamicBatching?.priorityLevels ?? 1);
    const maxCount = (level: number) => {
      const policy = dynamicBatching?.priorityQueuePolicy.get(level) ?? dynamicBatching?.defaultQueuePolicy;
      return policy?.maxQueueSize || defaultMaxQueueSize;
    };
    return new RequestQueue({ maxCount, maxBytes: defaultMaxQueueBytes }, levels);
  }
}

function batchPolicy({ maxBatchSize, dynamicBatching }: ModelConfig): BatchPolicy {
  const policies = dynamicBatching
    ? [dynamicBatching.defaultQueuePolicy, ...dynamicBatching.priorityQueuePolicy.values()]
    : [];
  const ruled = policies.some(
    (policy) => policy.maxQueueSize > 0 || policy.defaultTimeoutUs > 0 || policy.allowTimeoutOverride,
  );
  return {
    maxBatchSize: Math.max(1, maxBatchSize),
    dynamic: maxBatchSize > 0 && dynamicBatching !== undefined,
    preferredBatchSizes: dynamicBatching?.preferredBatchSizes ?? [],
    maxQueueDelayMs: (dynamicBatching?.maxQueueDelayUs ?? 0) / 1e3,
    mayPrepare: !ruled && (dynamicBatching?.priorityLevels ?? 0) <= 1,
  };
}

function onnxTensor({ name, ortType, dims }: SessionTensor): OnnxTensor {
  return { name, ortType, dims, datatype: datatypeOfOrt(ortType) };
}

function tensorSpec(
  tensor: TensorConfig & Partial<InputConfig>,
  session: readonly SessionTensor[],
  batching: boolean,
): TensorSpec {
  const index = session.findIndex(({ name }) => name === tensor.name);
  if (index < 0)
    throw new ServeError('INTERNAL', `tensor '${tensor.name}' passed validation but the session has none of that name`);
  return {
    name: tensor.name,
    datatype: tensor.datatype satisfies Datatype,
    dims: tensor.dims,
    reshape: tensor.reshape,
    onnxDims: batching ? session[index]!.dims.slice(1) : session[index]!.dims,
    index,
    optional: tensor.optional ?? false,
  };
}

function positions(specs: readonly TensorSpec[]): ReadonlyMap<string, number> {
  return new Map(specs.map(({ name }, position) => [name, position]));
}
