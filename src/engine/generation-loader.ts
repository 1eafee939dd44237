/**
 * Makes a model that generates text ready: its files read, a token-stream worker with its decoder, prompts registered with the preprocess
 * workers; brings it back when its thread dies, and lets all of it go again.
 *
 * Called by the model loader, which has seen that it is such a model. Owns the threads of these models, one each. Throws ServeError with
 * the reason.
 */
import { dirname, relative } from 'node:path';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { GenerationSpec, LoadedGeneration } from '../runtime/generation-messages.js';
import type { PreprocessPool } from '../runtime/preprocess-pool.js';
import type { TokenStreams } from '../runtime/token-streams.js';
import type { Generation, GenerationDefaults } from './generation.js';
import { type GenerationSettings, generationConfig, generationSettings } from './generation-config.js';
import type { GenerationCounts } from './generation-counts.js';
import { generationModel, usableContext } from './generation-model.js';
import { HubFiles } from './huggingface-files.js';
import { type GenerationFolder, readGenerationFolder } from './huggingface-generation.js';
import type { Model } from './model.js';
import type { QueueBounds } from './model-assembly.js';
import type { RawConfig } from './model-config-raw.js';
import { instanceGroups } from './model-config-session.js';
import type { RepositoryEntry } from './repository.js';
import { type SessionDefaults, sessionOptions } from './session-options.js';
import type { Statistics } from './statistics.js';

/** Starts a thread for one model; `onLost` is called each time that it dies and another one is there in its place. */
export type StartTokenStreams = (options: {
  readonly maxSequences: number;
  readonly onLost: (reason: unknown) => void;
}) => TokenStreams;

export interface GenerationLoaderOptions extends QueueBounds {
  readonly generation: GenerationSettings & {
    /** Threads inside one step: a model's one thread makes its steps, and they take turns with the ordinary models' batches. */
    readonly intraOpNumThreads: number;
  };
  readonly startTokenStreams: StartTokenStreams;
  readonly preprocess: Pick<PreprocessPool, 'register' | 'unregister'>;
  readonly sessionDefaults: SessionDefaults;
  readonly log: Log;
  /** A loaded model was lost with its thread and could not be brought back: nothing of it is left. */
  readonly onStranded: (model: Model, error: ServeError) => void;
}

export interface GenerationParts {
  readonly entry: RepositoryEntry;
  readonly raw: RawConfig;
  readonly version: number;
  /** Of the ONNX file. */
  readonly path: string;
  readonly statistics: Statistics;
  readonly counts: GenerationCounts;
}

/** Most tokens of a prompt in one run; the worker takes fewer where they would hold up the other streams. */
const PREFILL_CHUNK = 256;

interface Thread {
  readonly streams: TokenStreams;
  /** How often it died, and after how many deaths the decoder was loaded last. */
  losses: number;
  loadedAfter: number;
  /** Set once its model serves. */
  model?: Model;
}

export class GenerationLoader {
  readonly #options: GenerationLoaderOptions;
  readonly #threads = new Set<Thread>();

  constructor(options: GenerationLoaderOptions) {
    this.#options = options;
  }

  /** Nothing of it stays when this throws. */
  async load(parts: GenerationParts): Promise<Model> {
    const { entry, raw, version, path } = parts;
    const { log } = this.#options;
    const settings = generationSettings(raw, entry.name, this.#options.generation);
    const filename = entry.hubLayout ? relative(entry.directory, path) : raw.default_model_filename || 'model.onnx';
    const config = generationConfig(raw, entry.name, filename);
    const folder = await readGenerationFolder(new HubFiles(entry, path), settings.maxSequenceLength);
    const spec: GenerationSpec = {
      path,
      directory: dirname(path),
      options: this.#sessionOptions(raw, entry.name),
      tokenizerJson: folder.prompt.tokenizerJson,
      tokenizerConfigJson: folder.prompt.tokenizerConfigJson,
      modelType: folder.modelType,
      names: folder.names,
      contextLength: folder.contextLength,
      slidingWindow: folder.slidingWindow,
      headSize: folder.headSize,
      maxSequences: settings.maxSequences,
      kvCacheBytes: settings.kvCacheBytes,
      prefixCacheBytes: settings.prefixCacheBytes,
      prefillChunk: PREFILL_CHUNK,
    };
    const thread: Thread = {
      streams: this.#options.startTokenStreams({
        maxSequences: spec.maxSequences,
        onLost: (reason) => this.#lost(thread, reason),
      }),
      losses: 0,
      loadedAfter: -1,
    };
    this.#threads.add(thread);
    let processorId = -1;
    try {
      const loading = this.#loadDecoder(thread, spec);
      loading.catch(() => undefined);
      const { processor, chatProblem, ...registered } = await this.#register(folder);
      processorId = registered.processorId;
      let loaded = await loading;
      // It may have died while the prompts were still being registered.
      while (thread.losses !== thread.loadedAfter) loaded = await this.#loadDecoder(thread, spec);
      const { streams } = thread;
      const contextLength = usableContext(spec, loaded.kvBytesPerToken);
      const generation: Generation = {
        spec: { ...spec, contextLength },
        loaded,
        streams,
        defaults: knownTokens(folder.defaults, loaded),
        counts: parts.counts,
        chatProblem,
        isLost: false,
      };
      const made = { version, config, generation, processor, processorId, statistics: parts.statistics };
      thread.model = generationModel(made, this.#options);
      const notes = [...folder.notes, ...loaded.notes];
      if (chatProblem !== folder.chatProblem) notes.push(`it takes no conversations: ${chatProblem}`);
      if (contextLength < spec.contextLength) {
        notes.push(
          `its context of ${spec.contextLength} tokens is cut to ${contextLength}, for which kv_cache_byte_size has room`,
        );
      }
      for (const note of notes) log.warn({ model: entry.name, version }, note);
      log.info(
        {
          model: entry.name,
          version,
          file: relative(entry.directory, path),
          loadMs: Math.round(loaded.loadMs),
          threads: spec.options.intraOpNumThreads,
          contextLength,
          kvLayout: loaded.layout,
        },
        'model is ready',
      );
      return thread.model;
    } catch (error) {
      await this.#release(thread, processorId);
      throw error;
    }
  }

  /**
   * What the process grew by, and all that the cache of keys and values may still take: it grows with the streams, when nobody would make
   * room for it any more.
   */
  grownBytes(model: Model): readonly number[] {
    const { spec, loaded } = model.generation!;
    const { kvCacheBytes, prefixCacheBytes, maxSequences, contextLength } = spec;
    const most = maxSequences * contextLength * loaded.kvBytesPerToken;
    return [loaded.grownBytes + Math.min(kvCacheBytes, most) + prefixCacheBytes];
  }

  /** Ends the thread of `model`, whose streams have ended; never rejects. */
  async unload(model: Model): Promise<void> {
    const thread = this.#threadOf(model);
    if (thread) await this.#release(thread, model.processorId);
  }

  /** Ends all threads; streams that still run fail. */
  async close(): Promise<void> {
    await Promise.all([...this.#threads].map((thread) => this.#release(thread, thread.model?.processorId ?? -1)));
  }

  /** With a chat template that is none, the model takes everything but conversations. */
  async #register({ prompt, chatProblem }: GenerationFolder) {
    const { preprocess } = this.#options;
    const withTemplate = { prompt };
    try {
      return { processor: withTemplate, processorId: await preprocess.register(withTemplate), chatProblem };
    } catch (thrown) {
      if (prompt.chatTemplate === undefined) throw thrown;
      // What else may be wrong with it is wrong without its template, too.
      const { toolTemplate: _, ...rest } = prompt;
      const processor = { prompt: { ...rest, chatTemplate: undefined } };
      const processorId = await preprocess.register(processor);
      return { processor, processorId, chatProblem: ServeError.from(thrown).message };
    }
  }

  #threadOf(model: Model): Thread | undefined {
    return [...this.#threads].find((thread) => thread.model === model);
  }

  /** Until it is loaded in a thread that lives: one that died meanwhile came back without it. */
  async #loadDecoder(thread: Thread, spec: GenerationSpec): Promise<LoadedGeneration> {
    for (;;) {
      thread.loadedAfter = thread.losses;
      const loaded = await thread.streams.load(spec);
      if (thread.losses === thread.loadedAfter) return loaded;
    }
  }

  /** Its streams were told. Loads the decoder again in the new thread; a model for which that fails is given up. */
  #lost(thread: Thread, reason: unknown): void {
    thread.losses++;
    const { model } = thread;
    const { log, onStranded } = this.#options;
    // A load that is under way sees it by itself.
    if (!model || !this.#threads.has(thread) || model.generation!.isLost) return;
    const generation = model.generation!;
    log.error({ model: model.name, error: reason }, 'a token-stream worker was lost and is being replaced');
    generation.isLost = true;
    this.#loadDecoder(thread, generation.spec).then(
      () => {
        generation.isLost = false;
        if (this.#threads.has(thread))
          log.info({ model: model.name, version: Number(model.version) }, 'model was loaded again');
      },
      (thrown: unknown) => {
        // It may have been unloaded meanwhile.
        if (!this.#threads.has(thread)) return;
        const error = ServeError.from(thrown);
        log.error({ error, model: model.name }, 'model could not be loaded again');
        void this.#release(thread, model.processorId);
        onStranded(model, error);
      },
    );
  }

  async #release(thread: Thread, processorId: number): Promise<void> {
    this.#threads.delete(thread);
    if (processorId >= 0) this.#options.preprocess.unregister(processorId);
    const { log } = this.#options;
    await thread.streams
      .close()
      .catch((error: unknown) => log.error({ error }, 'a token-stream worker did not end well'));
  }

  #sessionOptions(raw: RawConfig, name: string) {
    const { sessionDefaults, generation } = this.#options;
    // The first group decides the kind; there is one thread whatever its count.
    const [group] = instanceGroups(raw, name, 1);
    return sessionOptions(raw, group!, name, {
      ...sessionDefaults,
      intraOpNumThreads: generation.intraOpNumThreads,
    });
  }
}

/** Files name ids that the model does not have: those of the family's large vocabulary, in a small model's configuration. */
function knownTokens(defaults: GenerationDefaults, { vocabularySize }: LoadedGeneration): GenerationDefaults {
  const known = (ids: readonly number[]) => ids.filter((id) => id < vocabularySize);
  return {
    ...defaults,
    eosTokenIds: known(defaults.eosTokenIds),
    suppressTokenIds: known(defaults.suppressTokenIds),
  };
}
