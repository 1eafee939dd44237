/**
 * The models there are and the state of each version; finds the one a request means.
 *
 *   UNKNOWN ──▶ LOADING ──▶ READY ──▶ UNLOADING ──▶ UNAVAILABLE ("unloaded")
 *                  └──────▶ UNAVAILABLE (reason)
 *
 * Called by the engine's door. Owns states and reasons. A model that fails to load leaves the others serving.
 */
import { invalid, printable, ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Model } from './model.js';
import { versionPolicyOf } from './model-complete.js';
import { parseModelConfig } from './model-config.js';
import type { RawConfig } from './model-config-raw.js';
import { type RepositoryEntry, servedVersions } from './repository.js';
import type { ModelIndexEntry, ModelState } from './types.js';

interface Slot {
  state: ModelState;
  reason: string;
  /** Set while READY or UNLOADING. */
  model?: Model;
}

interface Named {
  /** Why no version of it was even tried; '' if some was. */
  problem: string;
  /** By version number, ascending. */
  readonly slots: Map<number, Slot>;
  /** The highest ready version, what '' means. */
  latest?: Model | undefined;
}

export interface RegistryOptions {
  readonly load: (entry: RepositoryEntry, raw: RawConfig, version: number) => Promise<Model>;
  /** Models loaded at the same time. */
  readonly concurrency: number;
  readonly log: Log;
}

export class Registry {
  readonly #options: RegistryOptions;
  readonly #models = new Map<string, Named>();
  readonly #listeners: (() => void)[] = [];
  #loading = true;
  #stopped = false;

  constructor(options: RegistryOptions) {
    this.#options = options;
  }

  /** Loads every model of the repository; resolves when each is READY or UNAVAILABLE. */
  async loadAll(entries: readonly RepositoryEntry[]): Promise<void> {
    const jobs = entries.flatMap((entry) => this.#plan(entry));
    const next = async (): Promise<void> => {
      for (let job = jobs.shift(); job && !this.#stopped; job = jobs.shift()) await job();
    };
    await Promise.all(Array.from({ length: this.#options.concurrency }, next));
    this.#loading = false;
    this.#changed();
  }

  /** Loads nothing more; what is loading goes on. */
  stop(): void {
    this.#stopped = true;
  }

  /** A ready model has lost its last session. */
  withdraw(model: Model, reason: string): void {
    const named = this.#models.get(model.name);
    const slot = named?.slots.get(Number(model.version));
    if (!named || slot?.model !== model) return;
    slot.state = 'UNAVAILABLE';
    slot.reason = reason;
    delete slot.model;
    if (named.latest === model) named.latest = this.ready(model.name).at(-1);
    this.#changed();
  }

  /** Whether everything that was to be loaded is READY (`strict`), or the loading is over and something is. */
  isReady(strict: boolean): boolean {
    if (this.#loading) return false;
    if (!strict)
      return this.#models.size === 0 || [...this.#models.values()].some(({ latest }) => latest !== undefined);
    for (const { problem, slots } of this.#models.values()) {
      if (problem !== '') return false;
      for (const { state } of slots.values()) if (state !== 'READY') return false;
    }
    return true;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** The model that serves `version` ('' = the highest ready one) of `name`. Throws NOT_FOUND, UNAVAILABLE or INVALID_ARGUMENT. */
  resolve(name: string, version: string): Model {
    const named = this.#models.get(name);
    if (version === '') {
      if (named?.latest) return named.latest;
    } else {
      const number = parseVersion(version);
      const slot = named?.slots.get(number);
      if (slot?.state === 'READY') return slot.model!;
      if (slot)
        throw new ServeError(
          'UNAVAILABLE',
          `Request for unknown model: '${printable(name)}' version ${number} is not at ready state`,
        );
      if (named)
        throw new ServeError(
          'NOT_FOUND',
          `Request for unknown model: '${printable(name)}' version ${number} is not found`,
        );
    }
    if (name === '') throw invalid('model name must not be empty');
    if (!named) {
      // No directory has such a name: it was made to break a log or a terminal.
      if (/\p{Cc}/u.test(name)) throw invalid(`model name '${printable(name)}' holds control characters`);
      throw new ServeError('NOT_FOUND', `Request for unknown model: '${printable(name)}' is not found`);
    }
    const loading = [...named.slots.values()].some(({ state }) => state === 'LOADING');
    const what = loading ? 'is not at ready state' : 'has no available versions';
    throw new ServeError('UNAVAILABLE', `Request for unknown model: '${printable(name)}' ${what}`);
  }

  /** As {@link resolve}, but undefined for what is not ready. Throws INVALID_ARGUMENT for a malformed version. */
  find(name: string, version: string): Model | undefined {
    const named = this.#models.get(name);
    if (version === '') return named?.latest;
    return named?.slots.get(parseVersion(version))?.model;
  }

  /** The model once it is ready; rejects as {@link resolve} throws. */
  async whenReady(name: string, version: string, _deadlineMs: number): Promise<Model> {
    return this.resolve(name, version);
  }

  /** False for what is unknown or not ready; throws INVALID_ARGUMENT for a malformed version. */
  isModelReady(name: string, version: string): boolean {
    const named = this.#models.get(name);
    if (version === '') return named?.latest !== undefined;
    return named?.slots.get(parseVersion(version))?.state === 'READY';
  }

  /** All ready versions of `name`, or of every model where `name` is ''. */
  ready(name = ''): Model[] {
    const all = name === '' ? [...this.#models.values()] : [this.#models.get(name)];
    return all.flatMap((named) =>
      [...(named?.slots.values() ?? [])].flatMap(({ state, model }) => (state === 'READY' ? [model!] : [])),
    );
  }

  index(readyOnly: boolean): ModelIndexEntry[] {
    const entries: ModelIndexEntry[] = [];
    for (const [name, { problem, slots }] of this.#models) {
      if (slots.size === 0 && !readyOnly)
        entries.push({ name, version: '', state: problem ? 'UNAVAILABLE' : '', reason: problem });
      for (const [version, { state, reason }] of slots) {
        if (!readyOnly || state === 'READY') entries.push({ name, version: String(version), state, reason });
      }
    }
    return entries;
  }

  #plan(entry: RepositoryEntry): (() => Promise<void>)[] {
    const named: Named = { problem: '', slots: new Map() };
    this.#models.set(entry.name, named);
    try {
      if (entry.problem !== undefined) throw new ServeError('UNAVAILABLE', entry.problem);
      const raw = parseModelConfig(entry.configText ?? '', entry.name);
      const versions = servedVersions(versionPolicyOf(raw, entry.name), entry.versions);
      if (versions.length === 0)
        throw new ServeError(
          'UNAVAILABLE',
          `at least one version must be available under the version policy of model '${entry.name}'`,
        );
      for (const version of versions) named.slots.set(version, { state: 'LOADING', reason: '' });
      return versions.map((version) => () => this.#load(named, entry, raw, version));
    } catch (error) {
      const problem = ServeError.from(error);
      named.problem = problem.message;
      this.#options.log.error({ model: entry.name, error: problem }, 'model can not be loaded');
      return [];
    }
  }

  async #load(named: Named, entry: RepositoryEntry, raw: RawConfig, version: number): Promise<void> {
    const slot = named.slots.get(version)!;
    try {
      slot.model = await this.#options.load(entry, raw, version);
      slot.state = 'READY';
      if (!named.latest || Number(named.latest.version) < version) named.latest = slot.model;
    } catch (error) {
      const failure = ServeError.from(error);
      slot.state = 'UNAVAILABLE';
      slot.reason = failure.message;
      this.#options.log.error({ model: entry.name, version, error: failure }, 'model failed to load');
    }
    this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

/** A version as clients write it: a whole number from 1, no sign, no leading zero. Throws INVALID_ARGUMENT. */
function parseVersion(version: string): number {
  if (!/^[1-9]\d{0,17}$/.test(version)) {
    throw invalid(
      `failed to get model version from specified version string '${printable(version)}' (expected a positive whole number)`,
    );
  }
  return Number(version);
}
