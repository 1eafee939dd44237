/**
 * The models there are and the state of each version (slot.ts); finds the one a request means.
 *
 * Called by the engine's door. Owns names and what '' as a version means: the highest that can be asked, loaded or not, so that an answer
 * does not depend on what happens to be in memory. A model that fails to load leaves the others serving. What is loaded when, and what
 * is unloaded for it, is `residency.ts`'s.
 */
import { nowMs } from '../base/clock.js';
import { invalid, printable, ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { Model } from './model.js';
import { versionPolicyOf } from './model-complete.js';
import { parseModelConfig } from './model-config.js';
import { loadOnFirstUse, parametersOf } from './model-config-session.js';
import { type RepositoryEntry, servedVersions } from './repository.js';
import { Residency, type ResidencyOptions } from './residency.js';
import { Slot } from './slot.js';
import type { ModelIndexEntry } from './types.js';

interface Named {
  /** Why no version of it was even tried; '' if some was. */
  problem: string;
  /** By version number, ascending. */
  readonly slots: Map<number, Slot>;
  /** The highest version that can be asked, what '' means. */
  latest?: Slot | undefined;
}

export interface RegistryOptions extends Omit<ResidencyOptions, 'onChange'> {
  /** For models whose configuration does not say it: load at the first use and not at start. */
  readonly loadOnFirstUse: boolean;
  readonly log: Log;
}

export class Registry {
  readonly #options: RegistryOptions;
  readonly #residency: Residency;
  readonly #models = new Map<string, Named>();
  readonly #listeners: (() => void)[] = [];
  #loading = true;
  #uses = 0;
  /** Those who ask before it is known which models there are; undefined from then on. */
  #early: (() => void)[] | undefined = [];

  constructor(options: RegistryOptions) {
    this.#options = options;
    this.#residency = new Residency({ ...options, onChange: (slot) => this.#moved(slot) });
  }

  /** Loads every model that is to be loaded at start; resolves when each is READY or UNAVAILABLE, or left to its first use. */
  async loadAll(entries: readonly RepositoryEntry[]): Promise<void> {
    const slots = entries.flatMap((entry) => this.#plan(entry));
    this.#endEarly();
    await this.#residency.loadAtStart(slots.filter(({ onDemand }) => !onDemand));
    this.#loading = false;
    this.#changed();
  }

  /** Loads nothing more but what requests wait for already; what is loading goes on. */
  stop(): void {
    this.#endEarly();
    this.#residency.stop();
  }

  /** Refuses what still waits for a model; resolves when nothing is loading any more. */
  close(): Promise<void> {
    return this.#residency.close();
  }

  /** A ready model has lost its last session. */
  withdraw(model: Model, reason: string): void {
    const slot = this.#models.get(model.name)?.slots.get(Number(model.version));
    if (slot?.model !== model) return;
    slot.state = 'UNAVAILABLE';
    slot.reason = reason;
    slot.model = undefined;
    slot.retryAtMs = nowMs() + this.#options.retryMs;
    this.#residency.forget(slot);
    this.#moved(slot);
  }

  /** Whether everything that was to be loaded at start is READY (`strict`), or the loading is over and something can be asked. */
  isReady(strict: boolean): boolean {
    if (this.#loading) return false;
    if (!strict)
      return this.#models.size === 0 || [...this.#models.values()].some(({ latest }) => latest !== undefined);
    for (const { problem, slots } of this.#models.values()) {
      if (problem !== '') return false;
      // One that failed on demand is tried again, and is no reason to take the others out of service.
      for (const { state, onDemand } of slots.values()) if (state !== 'READY' && !onDemand) return false;
    }
    return true;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /**
   * The model that serves `version` ('' = the highest that can be asked) of `name`, undefined where it is not loaded. Throws
   * INVALID_ARGUMENT for a malformed version. Marks it as used.
   */
  find(name: string, version: string): Model | undefined {
    const named = this.#models.get(name);
    const slot = version === '' ? named?.latest : named?.slots.get(parseVersion(version));
    if (slot?.model) slot.lastUse = ++this.#uses;
    return slot?.model;
  }

  /** As {@link find}; throws NOT_FOUND, UNAVAILABLE or INVALID_ARGUMENT for what is not loaded. */
  resolve(name: string, version: string): Model {
    const model = this.find(name, version);
    if (model) return model;
    throw this.#refusal(name, version);
  }

  /**
   * The model once it is loaded; loads it where it is not, and waits for the one load that is under way. Rejects as {@link resolve}
   * throws; UNAVAILABLE with the reason when the load fails, DEADLINE_EXCEEDED at the deadline, CANCELLED when `signal` says that the
   * caller has gone. A load that has begun goes on without anybody.
   */
  async whenReady(name: string, version: string, deadlineMs: number, signal?: AbortSignal): Promise<Model> {
    const model = this.find(name, version);
    if (model) return model;
    // The ports open before the repository is looked through.
    if (this.#early) await new Promise<void>((resolve) => this.#early?.push(resolve));
    const slot = this.#wanted(name, version);
    if (!slot) throw this.#refusal(name, version);
    if (slot.state === 'UNAVAILABLE' && !slot.mayRetry)
      throw new ServeError(slot.failureCode, `model '${slot.name}' failed to load: ${slot.reason}`);
    return this.#residency.want(slot, { deadlineMs, signal });
  }

  /** False for what can't be asked: unknown, loading at start, failed. Throws INVALID_ARGUMENT for a malformed version. */
  isModelReady(name: string, version: string): boolean {
    const named = this.#models.get(name);
    if (version !== '') return isReady(named?.slots.get(parseVersion(version)));
    return named !== undefined && [...named.slots.values()].some(isReady);
  }

  /** The loaded versions of all models. */
  loaded(): Model[] {
    return this.slots().flatMap(({ model }) => model ?? []);
  }

  /** Every version of `name`, or of every model where `name` is ''. */
  slots(name = ''): Slot[] {
    const all = name === '' ? [...this.#models.values()] : [this.#models.get(name)];
    return all.flatMap((named) => [...(named?.slots.values() ?? [])]);
  }

  /** Versions that can be asked, with their counts: of all models, of one, or one version. Throws as {@link resolve}. */
  askable(name: string, version: string): Slot[] {
    const number = version === '' ? 0 : parseVersion(version);
    const found = this.slots(name).filter((slot) => isReady(slot) && (number === 0 || slot.version === number));
    if (name !== '' && found.length === 0) throw this.#refusal(name, version);
    return found;
  }

  /** What the model in `slot` was measured to cost; 0 where that is not known. */
  bytesOf(slot: Slot): number {
    return this.#residency.bytesOf(slot);
  }

  index(readyOnly: boolean): ModelIndexEntry[] {
    const entries: ModelIndexEntry[] = [];
    for (const [name, { problem, slots }] of this.#models) {
      if (slots.size === 0 && !readyOnly)
        entries.push({ name, version: '', state: problem ? 'UNAVAILABLE' : '', reason: problem });
      for (const [version, slot] of slots) {
        const { state, reason } = slot.indexed();
        if (!readyOnly || state === 'READY') entries.push({ name, version: String(version), state, reason });
      }
    }
    return entries;
  }

  #plan(entry: RepositoryEntry): Slot[] {
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
      const onDemand = loadOnFirstUse(parametersOf(raw), entry.name) ?? this.#options.loadOnFirstUse;
      for (const version of versions) named.slots.set(version, new Slot({ entry, raw, version, onDemand }));
      named.latest = highestAskable(named);
      return [...named.slots.values()];
    } catch (error) {
      const problem = ServeError.from(error);
      named.problem = problem.message;
      this.#options.log.error({ model: entry.name, error: problem }, 'model can not be loaded');
      return [];
    }
  }

  /** The version to load for a request that found none loaded: for '' one that is on the way before one that failed. */
  #wanted(name: string, version: string): Slot | undefined {
    const named = this.#models.get(name);
    if (!named) return undefined;
    const slot = version === '' ? named.latest : named.slots.get(parseVersion(version));
    if (slot) return slot.state === 'UNAVAILABLE' && !slot.onDemand ? undefined : slot;
    if (version !== '') return undefined;
    const slots = [...named.slots.values()].reverse();
    return slots.find(({ state }) => state === 'LOADING') ?? slots.find(({ onDemand }) => onDemand);
  }

  /** Why there is no such model, or none that serves. Throws INVALID_ARGUMENT for a malformed version. */
  #refusal(name: string, version: string): ServeError {
    const named = this.#models.get(name);
    const number = version === '' ? undefined : parseVersion(version);
    const error = (code: 'NOT_FOUND' | 'UNAVAILABLE', what: string) =>
      new ServeError(code, `Request for unknown model: '${printable(name)}' ${what}`);
    if (named && number !== undefined) {
      if (named.slots.has(number)) return error('UNAVAILABLE', `version ${number} is not at ready state`);
      return error('NOT_FOUND', `version ${number} is not found`);
    }
    if (name === '') return invalid('model name must not be empty');
    if (!named) {
      // No directory has such a name: it was made to break a log or a terminal.
      if (/\p{Cc}/u.test(name)) return invalid(`model name '${printable(name)}' holds control characters`);
      return error('NOT_FOUND', 'is not found');
    }
    const loading = [...named.slots.values()].some(({ state, isAskable }) => state === 'LOADING' || isAskable);
    return error('UNAVAILABLE', loading ? 'is not at ready state' : 'has no available versions');
  }

  #endEarly(): void {
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const resolve of early) resolve();
  }

  /** A slot has another state or model. */
  #moved(slot: Slot): void {
    const named = this.#models.get(slot.name);
    if (named) named.latest = highestAskable(named);
    // What has just been loaded is not what was used least recently.
    if (slot.model) slot.lastUse = ++this.#uses;
    this.#changed();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

function highestAskable({ slots }: Named): Slot | undefined {
  return [...slots.values()].findLast(({ isAskable }) => isAskable);
}

/** A request will be served, if only by loading the model (again). */
function isReady(slot: Slot | undefined): boolean {
  return slot !== undefined && (slot.isAskable || slot.mayRetry);
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
