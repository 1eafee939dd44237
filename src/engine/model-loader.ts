/**
 * Makes one version of a model ready: session on a first worker, config completed from the ONNX file's own metadata, sessions on
 * the other workers it needs, warm-up on each.
 *
 * Called by the registry. Owns the order of these steps and undoes them when one fails. Throws ServeError with the reason.
 */
import { readdir } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { type Datatype, datatypeOfOrt } from '../base/datatype.js';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { LoadRequest, SessionMetadata, SessionOptions, SessionTensor } from '../runtime/messages.js';
import type { SharedWeights, WeightCache } from '../runtime/weight-cache.js';
import type { WorkerPool } from '../runtime/worker-pool.js';
import type { BatchPolicy } from './batcher.js';
import { ComputeTimes } from './compute-times.js';
import type { Model } from './model.js';
import { completeModelConfig } from './model-complete.js';
import type { InputConfig, ModelConfig, OnnxTensor, TensorConfig } from './model-config.js';
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
    // Counted from here on, so that models which load at the same time spread.
    for (const worker of placed) this.#sessions[worker]!++;
    const session = this.#nextSession++;
    /** Where it is loaded, and in which life of the worker. */
    const loaded = new Map<number, number>();
    try {
      const path = await modelFile(entry, version, raw.default_model_filename || undefined);
      const shared = await this.#share(path, placed, options);
      const load: LoadRequest = {
        session,
        path: shared?.path ?? path,
        directory: shared?.directory ?? dirname(path),
        options,
        scan: shared === undefined,
      };
      const loadOn = async (worker: number): Promise<SessionMetadata> => {
        const life = workers.life(worker);
        const metadata = await workers.load(worker, load);
        loaded.set(worker, life);
        return metadata;
      };
      const metadata = await loadOn(placed[0]!);
      const integerDivision = shared?.integerDivision ?? metadata.integerDivision;
      const model = this.#model(raw, entry, version, session, metadata, integerDivision);
      await Promise.all(placed.slice(1).map(loadOn));
      for (const worker of placed) await this.#options.warmUp(model, worker, entry);
      // A worker that died meanwhile came back without the session.
      for (const worker of placed) {
        while (workers.life(worker) !== loaded.get(worker)) {
          await loadOn(worker);
          await this.#options.warmUp(model, worker, entry);
        }
      }
      this.#requests.set(model, { load, placed, entry });
      for (const worker of placed) model.workers.add(worker);
      this.#options.log.info(
        {
          model: entry.name,
          version,
          file: relative(entry.directory, path),
          workers: placed.length,
          loadMs: Math.round(metadata.loadMs),
          sharedWeights: shared !== undefined,
        },
        'model is ready',
      );
      return model;
    } catch (error) {
      for (const worker of placed) this.#sessions[worker]!--;
      await Promise.all([...loaded.keys()].map((worker) => workers.unload(worker, session).catch(() => undefined)));
      throw error;
    }
  }

  /** Loads again what a replaced worker had; says which models run there again, and which are left without any worker, and why. */
  async restore(worker: number): Promise<{ restored: Model[]; stranded: { model: Model; error: ServeError }[] }> {
    const restored: Model[] = [];
    const stranded: { model: Model; error: ServeError }[] = [];
    const { workers, warmUp, log } = this.#options;
    for (const [model, { load, placed, entry }] of this.#requests) {
      if (!placed.includes(worker)) continue;
      try {
        await workers.load(worker, load);
        await warmUp(model, worker, entry);
        model.workers.add(worker);
        restored.push(model);
      } catch (thrown) {
        const error = ServeError.from(thrown);
        log.error({ error, model: model.name, worker }, 'model could not be loaded again');
        await workers.unload(worker, load.session).catch(() => undefined);
        if (model.workers.size > 0) continue;
        this.#requests.delete(model);
        stranded.push({ model, error });
      }
    }
    return { restored, stranded };
  }

  /** The form of the model that workers can share, where that gains something. */
  async #share(path: string, placed: readonly number[], options: SessionOptions): Promise<SharedWeights | undefined> {
    // What is saved is optimized for this CPU.
    if (options.executionProviders.length > 1) return undefined;
    const { workers, weights } = this.#options;
    const [worker] = placed as [number];
    const directory = dirname(path);
    const alone = (await readdir(directory).catch(() => [])).length === 1;
    const { externalData } = alone ? { externalData: [] } : await workers.scan(worker, { path, directory });
    return weights.share({ path, directory, externalData }, placed.length, options, (target) =>
      workers.compile(worker, { source: path, directory, target, options }),
    );
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
      contents: [],
      processor: {},
      processorId: -1,
      padding: inputs.map(() => undefined),
      defaultOutputs: outputs.map((_, position) => position),
      labels: outputs.map(() => undefined),
      content: { inputs: [], embeddingOutput: undefined, embeddingProblem: '', isMatryoshka: false },
      computeTimes: new ComputeTimes(),
      plans: new Map(),
      integerDivision,
      admitting: 0,
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
