/**
 * Makes one version of a model ready: files read, session on a first worker, model put together from the ONNX file's own metadata, processor
 * for texts and pictures registered, sessions on the other workers it needs, warm-up on each.
 *
 * Called by the registry. Owns the order of these steps and undoes them when one fails. Throws ServeError with the reason.
 */
import { readdir } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { ServeError } from '../base/errors.js';
import type { LoadRequest, SessionMetadata, SessionOptions } from '../runtime/messages.js';
import type { SharedWeights, WeightCache } from '../runtime/weight-cache.js';
import type { WorkerPool } from '../runtime/worker-pool.js';
import type { GenerationCounts } from './generation-counts.js';
import { GenerationLoader, type GenerationLoaderOptions } from './generation-loader.js';
import { readHubFolder } from './huggingface.js';
import { decoderFilename, mayGenerate, type Recognised, recognise } from './huggingface-decoder.js';
import { HubFiles } from './huggingface-files.js';
import type { Model } from './model.js';
import { type AssemblyOptions, assembleModel } from './model-assembly.js';
import type { InstanceGroup } from './model-config.js';
import type { RawConfig } from './model-config-raw.js';
import { instanceGroups } from './model-config-session.js';
import type { RepositoryEntry } from './repository.js';
import { modelFile } from './repository-file.js';
import { sessionOptions } from './session-options.js';
import type { Statistics } from './statistics.js';
import { weightBytes } from './weight-bytes.js';

export interface LoaderOptions extends Omit<AssemblyOptions, 'defaultInstanceCount'>, GenerationLoaderOptions {
  readonly workers: WorkerPool;
  readonly weights: WeightCache;
  /** Sessions are made one at a time, so that each one's memory can be told. */
  readonly measuresMemory: boolean;
  /** Runs the configured warm-up of `model` on `worker`. */
  readonly warmUp: (model: Model, worker: number, entry: RepositoryEntry) => Promise<void>;
}

interface Version {
  readonly entry: RepositoryEntry;
  readonly raw: RawConfig;
  readonly version: number;
  /** Of the ONNX file. */
  readonly path: string;
  readonly counts: LoadCounts;
  /** As in Model. */
  readonly generationProblem: string;
}

interface Loaded {
  readonly load: LoadRequest;
  readonly placed: readonly number[];
  readonly entry: RepositoryEntry;
  /** In which life of each worker the session was loaded there last. */
  readonly lives: Map<number, number>;
  /** By how much the process grew for each session. */
  readonly grownBytes: readonly number[];
}

/** What a version counts on, over all its lives. */
export interface LoadCounts {
  readonly statistics: Statistics;
  readonly generationCounts: GenerationCounts;
}

export class ModelLoader {
  readonly #options: LoaderOptions;
  readonly #generation: GenerationLoader;
  /** Sessions on each worker, so that a new model goes where there are fewest. */
  readonly #sessions: number[];
  /** What must be loaded again on a worker that was replaced. */
  readonly #requests = new Map<Model, Loaded>();
  #nextSession = 0;

  constructor(options: LoaderOptions) {
    this.#options = options;
    this.#generation = new GenerationLoader(options);
    this.#sessions = new Array<number>(options.workers.size).fill(0);
  }

  /** Loads `version` of `entry`; nothing of it stays loaded when this throws. */
  async load(entry: RepositoryEntry, raw: RawConfig, version: number, counts: LoadCounts): Promise<Model> {
    const path = await this.#path(entry, raw, version);
    const { generates, problem } = await this.#recognise(entry, path);
    if (problem !== '') {
      const note = `it is served by its raw tensors and generates no text: ${problem}`;
      this.#options.log.warn({ model: entry.name, version }, note);
    }
    if (!generates) return this.#loadSessions({ entry, raw, version, path, counts, generationProblem: problem });
    const { statistics, generationCounts } = counts;
    return this.#generation.load({ entry, raw, version, path, statistics, counts: generationCounts });
  }

  /** A model that is run in batches. */
  async #loadSessions({ entry, raw, version, path, counts, generationProblem }: Version): Promise<Model> {
    const { workers, preprocess, sessionDefaults, log } = this.#options;
    const { group, count } = this.#group(entry, raw);
    const placed = this.#placement(count);
    // Counted from here on, so that models which load at the same time spread.
    for (const worker of placed) this.#sessions[worker]!++;
    const session = this.#nextSession++;
    const lives = new Map<number, number>();
    const grownBytes: number[] = [];
    let processorId = -1;
    try {
      const folder = await readHubFolder(entry, path);
      const defaults = folder.tokenizer ? { ...sessionDefaults, enableMemPattern: false } : sessionDefaults;
      const options = sessionOptions(raw, group, entry.name, defaults);
      const shared = await this.#share(path, placed, options);
      const load: LoadRequest = {
        session,
        path: shared?.path ?? path,
        directory: shared?.directory ?? dirname(path),
        options,
        scan: shared === undefined,
        ...(folder.modules?.pooling && { pooling: folder.modules.pooling }),
      };
      const loadOn = async (worker: number): Promise<SessionMetadata> => {
        const life = workers.life(worker);
        const metadata = await workers.load(worker, load);
        lives.set(worker, life);
        grownBytes.push(metadata.grownBytes);
        return metadata;
      };
      const metadata = await loadOn(placed[0]!);
      const { model: assembled, notes } = await assembleModel(
        {
          entry,
          // Clients are told which of several files it is.
          raw: entry.hubLayout ? { ...raw, default_model_filename: relative(entry.directory, path) } : raw,
          version,
          folder,
          session,
          metadata,
          integerDivision: shared?.integerDivision ?? metadata.integerDivision,
          statistics: counts.statistics,
        },
        { ...this.#options, defaultInstanceCount: workers.size },
      );
      for (const note of notes) log.warn({ model: entry.name, version }, note);
      if (assembled.contents.length > 0) processorId = await preprocess.register(assembled.processor);
      const model: Model = { ...assembled, processorId, generationProblem };
      if (this.#options.measuresMemory) for (const worker of placed.slice(1)) await loadOn(worker);
      else await Promise.all(placed.slice(1).map(loadOn));
      for (const worker of placed) await this.#options.warmUp(model, worker, entry);
      // A worker that died meanwhile came back without the session.
      for (const worker of placed) {
        while (workers.life(worker) !== lives.get(worker)) {
          await loadOn(worker);
          await this.#options.warmUp(model, worker, entry);
        }
      }
      this.#requests.set(model, { load, placed, entry, lives, grownBytes });
      for (const worker of placed) model.workers.add(worker);
      log.info(
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
      if (processorId >= 0) preprocess.unregister(processorId);
      // On all, since another may still be at it: it takes its messages in order.
      await Promise.all(placed.map((worker) => workers.unload(worker, session).catch(() => undefined)));
      throw error;
    }
  }

  /** Bytes that the sessions of `version` will hold at least, by its files. Throws NOT_FOUND as `load` does. */
  async leastBytes(entry: RepositoryEntry, raw: RawConfig, version: number): Promise<number> {
    const { group, count } = this.#group(entry, raw);
    const path = await this.#path(entry, raw, version);
    // Weights on a device are not this process's memory.
    if (group.kind === 'KIND_GPU') return 0;
    const { bytes, isExternal } = await weightBytes(path);
    if ((await this.#recognise(entry, path)).generates) return bytes;
    return bytes * this.#options.weights.copies(count, bytes, isExternal);
  }

  /** By how much the process grew for each session of `model`, as measured by the workers. */
  grownBytes(model: Model): readonly number[] {
    if (model.generation) return this.#generation.grownBytes(model);
    return this.#requests.get(model)?.grownBytes ?? [];
  }

  /** Frees the sessions of `model`, of which no batch is running; never rejects. A worker that is being replaced does not bring them back. */
  async unload(model: Model): Promise<void> {
    if (model.generation) return this.#generation.unload(model);
    const request = this.#requests.get(model);
    if (!request) return;
    this.#requests.delete(model);
    model.workers.clear();
    const { workers, preprocess } = this.#options;
    if (model.processorId >= 0) preprocess.unregister(model.processorId);
    for (const worker of request.placed) this.#sessions[worker]!--;
    await Promise.all(request.placed.map((worker) => workers.unload(worker, model.session).catch(() => undefined)));
  }

  /** Loads again what a replaced worker had; says which models run there again, and which are left without any worker, and why. */
  async restore(worker: number): Promise<{ restored: Model[]; stranded: { model: Model; error: ServeError }[] }> {
    const restored: Model[] = [];
    const stranded: { model: Model; error: ServeError }[] = [];
    const { workers, preprocess, warmUp, log } = this.#options;
    for (const [model, { load, placed, entry, lives }] of this.#requests) {
      const life = workers.life(worker);
      // It may have been loaded for the first time since the worker came back.
      if (!placed.includes(worker) || lives.get(worker) === life) continue;
      try {
        await workers.load(worker, load);
        lives.set(worker, life);
        await warmUp(model, worker, entry);
        // It may have been unloaded meanwhile, here too: the worker takes its messages in order.
        if (!this.#requests.has(model)) continue;
        model.workers.add(worker);
        restored.push(model);
      } catch (thrown) {
        if (!this.#requests.has(model)) continue;
        const error = ServeError.from(thrown);
        log.error({ error, model: model.name, worker }, 'model could not be loaded again');
        await workers.unload(worker, load.session).catch(() => undefined);
        if (model.workers.size > 0) continue;
        this.#requests.delete(model);
        for (const place of placed) this.#sessions[place]!--;
        if (model.processorId >= 0) preprocess.unregister(model.processorId);
        stranded.push({ model, error });
      }
    }
    return { restored, stranded };
  }

  /** Ends what has threads of its own: the models that generate text. */
  close(): Promise<void> {
    return this.#generation.close();
  }

  /** Of the ONNX file: as config.pbtxt names it, else as genai_config.json does, else by the rules of repository-file.ts. */
  async #path(entry: RepositoryEntry, raw: RawConfig, version: number): Promise<string> {
    const named = raw.default_model_filename || undefined;
    if (named !== undefined) return modelFile(entry, version, named);
    const files = new HubFiles(entry, join(entry.directory, entry.hubLayout ? 'onnx' : String(version), 'model.onnx'));
    return modelFile(entry, version, await decoderFilename(files), "'filename' in genai_config.json");
  }

  /** Looks at the graph of those models only whose folders have the files of one that generates text. */
  async #recognise(entry: RepositoryEntry, path: string): Promise<Recognised> {
    const files = new HubFiles(entry, path);
    if (!(await mayGenerate(files))) return { generates: false, problem: '' };
    const [worker] = this.#placement(1) as [number];
    return recognise(files, await this.#options.workers.scan(worker, { path, directory: dirname(path) }));
  }

  /** Which workers `raw` asks for: of what kind, how many. */
  #group(entry: RepositoryEntry, raw: RawConfig): { group: InstanceGroup; count: number } {
    const { workers } = this.#options;
    const groups = instanceGroups(raw, entry.name, workers.size);
    const sum = groups.reduce((sum, { count }) => sum + count, 0);
    // The first group decides the kind: a model with sessions of several kinds would need a choice per batch.
    return { group: groups[0]!, count: Math.min(workers.size, sum) };
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
}
