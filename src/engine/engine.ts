/**
 * The engine's one door: every request of both front ends comes through `infer`.
 *
 *   infer ─▶ admission (registry, contents, validate) ─▶ scheduler.enqueue ─▶ ... ─▶ handler
 *
 * Called by `grpc/`, `rest/` and the composition root. Owns registry, loader and scheduler and the order in which they stop.
 */
import { ServeError } from '../base/errors.js';
import type { RunReply } from '../runtime/messages.js';
import { Admission } from './admission.js';
import type { EngineOptions } from './engine-options.js';
import type { Entry } from './entry.js';
import type { GenerateCall, GenerateHandler, GenerateRequest } from './generation-types.js';
import { Generator } from './generator.js';
import type { Model } from './model.js';
import { describeModelConfig, modelMetadataTensors } from './model-config.js';
import { ModelLoader } from './model-loader.js';
import { Registry } from './registry.js';
import { type RepositoryEntry, scanRepository } from './repository.js';
import { Scheduler } from './scheduler.js';
import type { Slot } from './slot.js';
import type {
  Cancel,
  Engine,
  InferHandler,
  InferRequest,
  InferStreamHandler,
  ModelContent,
  ModelIndexEntry,
  ModelMetadata,
  ModelStatistics,
} from './types.js';
import { warmUpEntry } from './warm-up.js';

/** What the protocol calls the extensions that are really here; clients switch on them. */
const EXTENSIONS = [
  'classification',
  'model_repository',
  'schedule_policy',
  'model_configuration',
  'binary_tensor_data',
  'parameters',
  'statistics',
] as const;

const LOAD_RETRY_MS = 5000;

const NOTHING: Cancel = () => undefined;

export class InferenceEngine implements Engine {
  readonly serverName: string;
  readonly serverVersion: string;
  readonly extensions = EXTENSIONS;
  readonly #options: EngineOptions;
  readonly #scheduler: Scheduler;
  readonly #loader: ModelLoader;
  readonly #registry: Registry;
  readonly #admission: Admission;
  readonly #generator: Generator;
  readonly #listeners: (() => void)[] = [];
  #stopping = false;
  /** The restoring of workers under way. */
  #restoring: Promise<void> = Promise.resolve();

  constructor(options: EngineOptions) {
    const { workers, slabs, log, modelMemoryBytes: budgetBytes } = options;
    this.#options = options;
    this.serverName = options.serverName;
    this.serverVersion = options.serverVersion;
    this.#scheduler = new Scheduler({
      slabs,
      workerCount: workers.size,
      run: (worker, message) => workers.run(worker, message),
      log,
    });
    this.#loader = new ModelLoader({
      ...options,
      sessionDefaults: { ...options.sessionDefaults, enableCpuMemArena: budgetBytes === 0 },
      measuresMemory: budgetBytes > 0,
      warmUp: (model, worker, entry) => this.#warmUp(model, worker, entry),
      onStranded: (model, error) => this.#stranded(model, error),
    });
    this.#registry = new Registry({
      budgetBytes,
      concurrency: workers.size,
      loadOnFirstUse: options.loadOnFirstUse,
      maxWaiters: options.defaultMaxQueueSize,
      retryMs: options.loadRetryMs ?? LOAD_RETRY_MS,
      load: (slot) => this.#loader.load(slot.entry, slot.raw, slot.version, slot),
      leastBytes: ({ entry, raw, version }) => this.#loader.leastBytes(entry, raw, version),
      unload: (model) => this.#loader.unload(model),
      isBusy: (model) =>
        model.admitting > 0 || this.#scheduler.isBusy(model) || (model.generation?.streams.streamCount ?? 0) > 0,
      grownBytes: (model) => (options.measuresMemory === false ? [] : this.#loader.grownBytes(model)),
      log,
    });
    this.#generator = new Generator({
      ...options,
      registry: this.#registry,
      infer: (request, handler) => this.infer(request, handler),
      maxWaiting: options.defaultMaxQueueSize,
    });
    this.#admission = new Admission({
      ...options,
      registry: this.#registry,
      scheduler: this.#scheduler,
      generate: (model, request, handler) => this.#generator.answer(model, request, handler),
    });
    this.#registry.onChange(() => this.#changed());
  }

  /** Scans the repositories and loads what is to be loaded at start. Throws INVALID_ARGUMENT for a path that is no repository. */
  async load(repositories: readonly string[]): Promise<void> {
    const entries = await scanRepository(repositories);
    // What the threads themselves take is not the first model's cost. Threads that can't start fail the loads, with the reason.
    if (this.#options.modelMemoryBytes > 0) await this.#options.workers.ready().catch(() => undefined);
    await this.#registry.loadAll(entries);
  }

  infer(request: InferRequest, handler: InferHandler): Cancel {
    if (this.#stopping) {
      handler.onError(new ServeError('UNAVAILABLE', 'server is shutting down and has stopped accepting new requests'));
      return NOTHING;
    }
    return this.#admission.infer(request, handler);
  }

  inferStream(request: InferRequest, handler: InferStreamHandler): GenerateCall {
    return this.#generator.inferStream(request, handler);
  }

  generate(request: GenerateRequest, handler: GenerateHandler): GenerateCall {
    return this.#generator.generate(request, handler);
  }

  isReady(): boolean {
    return !this.#stopping && this.#registry.isReady(this.#options.strictReadiness);
  }

  isModelReady(name: string, version: string): boolean {
    return this.#registry.isModelReady(name, version);
  }

  async whenReady(name: string, version: string, deadlineMs: number, signal?: AbortSignal): Promise<void> {
    await this.#registry.whenReady(name, version, deadlineMs, signal);
  }

  modelMetadata(name: string, version: string): ModelMetadata {
    const { config, version: served } = this.#registry.resolve(name, version);
    const versions = version === '' ? this.#registry.askable(name, '').map((slot) => String(slot.version)) : [served];
    return { name, versions, platform: config.platform, ...modelMetadataTensors(config) };
  }

  modelContent(name: string, version: string): ModelContent {
    return this.#registry.resolve(name, version).content;
  }

  modelConfig(name: string, version: string): Record<string, unknown> {
    return describeModelConfig(this.#registry.resolve(name, version).config);
  }

  modelStatistics(name: string, version: string): ModelStatistics[] {
    const slots = this.#registry.askable(name, name === '' ? '' : version);
    return slots.map((slot) => {
      const { name, version, statistics, generationCounts } = slot;
      return statistics.snapshot(name, String(version), this.#registry.bytesOf(slot), generationCounts.responses);
    });
  }

  repositoryIndex(readyOnly: boolean): ModelIndexEntry[] {
    return this.#registry.index(readyOnly);
  }

  onReadinessChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** What is loaded now. */
  readyModels(): readonly Model[] {
    return this.#registry.loaded();
  }

  /** All versions there are, for metrics: counts and queue depths are read from them at scrape time. */
  slots(): readonly Slot[] {
    return this.#registry.slots();
  }

  /** What loading the model in `slot` cost; 0 where it is not loaded, or was not measured (without a memory budget). */
  memoryBytesOf(slot: Slot): number {
    return this.#registry.bytesOf(slot);
  }

  /** Requests refused because no ready model was meant; they have none to be counted on. */
  get unknownModelCount(): number {
    return this.#admission.unknownModelCount + this.#generator.unknownModelCount;
  }

  /** New requests are refused from here on. */
  get isStopping(): boolean {
    return this.#stopping;
  }

  /** Requests accepted and not yet answered. */
  get inFlight(): number {
    return this.#admission.waitingCount + this.#scheduler.inFlight + this.#generator.inFlight;
  }

  onResult(worker: number, answer: number[] | RunReply): void {
    this.#scheduler.onResult(worker, answer);
  }

  /** The thread of `worker` died and another is starting: its models are loaded again there. */
  onWorkerLost(worker: number, reason: unknown): void {
    this.#options.log.error({ worker, error: reason }, 'an inference worker was lost and is being replaced');
    for (const model of this.readyModels()) model.workers.delete(worker);
    this.#scheduler.onLost(worker);
    // One after another: a worker that dies twice in a row must not be loaded twice at once.
    this.#restoring = this.#restoring.then(() => this.#restore(worker));
  }

  async #restore(worker: number): Promise<void> {
    const { restored, stranded } = await this.#loader.restore(worker);
    for (const model of restored) this.#scheduler.onWorkersChanged(model);
    for (const { model, error } of stranded) this.#stranded(model, error);
  }

  /** Nothing can run `model` any more. */
  #stranded(model: Model, error: ServeError): void {
    this.#registry.withdraw(model, error.message);
    const lost = new ServeError('UNAVAILABLE', `model '${model.name}' was lost: ${error.message}`);
    this.#admission.rejectAll(lost, model);
    this.#generator.rejectAll(lost, model);
    this.#scheduler.rejectQueued(lost, model);
  }

  /** Refuses new requests from now on; what is accepted goes on. */
  stopAccepting(): void {
    this.#stopping = true;
    this.#generator.stopAccepting();
    this.#registry.stop();
    this.#changed();
  }

  /** Finishes what is accepted, within `timeoutMs`; what is still queued then is refused, what runs is waited for. */
  async drain(timeoutMs: number): Promise<void> {
    this.stopAccepting();
    const timer = setTimeout(() => {
      const error = new ServeError('UNAVAILABLE', 'server is shutting down');
      this.#admission.rejectAll(error);
      this.#scheduler.rejectQueued(error);
      // A stream could go on for minutes: it ends between two tokens.
      this.#generator.rejectAll(error);
    }, timeoutMs);
    await this.#admission.drained();
    await this.#generator.drained();
    await this.#scheduler.drained();
    clearTimeout(timer);
    await this.#registry.close();
  }

  /** Ends the threads of models that generate text; streams that still run fail. */
  close(): Promise<void> {
    return this.#loader.close();
  }

  async #warmUp(model: Model, worker: number, directory: RepositoryEntry): Promise<void> {
    for (const warmup of model.config.warmup) {
      for (let run = 0; run < warmup.count; run++) {
        await new Promise<void>((resolve, reject) => {
          const handler: InferHandler = {
            onResponse: () => resolve(),
            onError: (error) => reject(new ServeError(error.code, `warm-up '${warmup.name}' failed: ${error.message}`)),
          };
          warmUpEntry(model, warmup, directory, handler)
            .then((entry: Entry) => this.#scheduler.runAside(model, worker, entry))
            .catch(reject);
        });
      }
    }
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}
