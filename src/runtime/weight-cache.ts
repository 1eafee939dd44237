/**
 * Weights that all workers share: a model is saved once as optimized, with its weights external and pre-packed, and every session
 * maps that file. Without it N workers hold N copies; with it a further worker costs some tens of megabytes.
 *
 *   <cache>/<hash of model files, ONNX Runtime, CPU, options>/model.onnx  model.onnx_data  scan.json
 *
 * Called by the model loader. Owns the cache directory: it is written beside and renamed into place, so that a reader sees a whole
 * entry or none, and a killed server leaves nothing that is believed. What is mapped lies here and not in the repository, where
 * somebody may truncate it, which is a SIGBUS. Must not know ONNX Runtime: a worker does the saving.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { join, relative } from 'node:path';
import { ServeError } from '../base/errors.js';
import type { Log } from '../base/log.js';
import type { SessionOptions } from './messages.js';

export interface ModelFile {
  readonly path: string;
  /** Holds the model and its external data. */
  readonly directory: string;
  /** Files below the directory that hold weights of the model. What else lies there is none of its own. */
  readonly externalData: readonly string[];
}

/** What a compiled model's graph was found to do before it was compiled. */
export interface ScanSummary {
  readonly integerDivision: boolean;
}

export interface SharedWeights extends Omit<ModelFile, 'externalData'>, ScanSummary {}

export interface WeightCacheOptions {
  readonly directory: string;
  /** Models of fewer bytes are not worth a file of their own. */
  readonly minBytes: number;
  readonly log: Log;
}

export class WeightCache {
  readonly #options: WeightCacheOptions;
  /** Entries being made, by directory: models of the same content that load at once share one making. */
  readonly #making = new Map<string, Promise<ScanSummary>>();

  constructor(options: WeightCacheOptions) {
    this.#options = options;
  }

  /**
   * The shared form of `model` for `sessions` sessions, made by `compile` where the cache has none; undefined where sharing gains
   * nothing: a small model in one file, or a large one in one session and one file.
   */
  async share(
    model: ModelFile,
    sessions: number,
    settings: SessionOptions,
    compile: (target: string) => Promise<ScanSummary>,
  ): Promise<SharedWeights | undefined> {
    const external = model.externalData.length > 0;
    if (!external && sessions < 2) return undefined;
    try {
      const files = await filesOf(model);
      const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
      if (!external && this.copies(sessions, bytes, external) > 1) return undefined;
      await this.#ownRoot();
      const directory = join(this.#options.directory, await this.#key(model, settings, files));
      const summary = (await readSummary(join(directory, 'scan.json'))) ?? (await this.#makeOnce(directory, compile));
      return { path: join(directory, 'model.onnx'), directory, integerDivision: summary.integerDivision };
    } catch (error) {
      // Nothing is lost but memory: what is wrong with the model itself, if anything, shows when it is loaded as it is.
      this.#options.log.warn({ error }, 'weights are not shared between workers: the model cache could not be used');
      return undefined;
    }
  }

  /** How many copies of its weights the sessions of a model of `bytes` hold. */
  copies(sessions: number, bytes: number, isExternal: boolean): number {
    return isExternal || bytes >= this.#options.minBytes ? 1 : sessions;
  }

  #makeOnce(directory: string, compile: (target: string) => Promise<ScanSummary>): Promise<ScanSummary> {
    const underway = this.#making.get(directory);
    if (underway) return underway;
    const making = this.#make(directory, compile).finally(() => this.#making.delete(directory));
    this.#making.set(directory, making);
    return making;
  }

  async #make(directory: string, compile: (target: string) => Promise<ScanSummary>): Promise<ScanSummary> {
    const building = `${directory}.${process.pid}.tmp`;
    try {
      await rm(building, { recursive: true, force: true });
      await mkdir(building, { recursive: true, mode: 0o700 });
      const summary = await compile(join(building, 'model.onnx'));
      await writeFile(join(building, 'scan.json'), JSON.stringify(summary));
      await rm(directory, { recursive: true, force: true });
      await rename(building, directory);
      return summary;
    } catch (error) {
      await rm(building, { recursive: true, force: true }).catch(() => undefined);
      throw error;
    }
  }

  /** The cache holds what will be run: another user's directory under a name that can be guessed is not taken. */
  async #ownRoot(): Promise<void> {
    const { directory } = this.#options;
    try {
      await mkdir(directory, { recursive: true, mode: 0o700 });
      const { uid, mode } = await stat(directory);
      const own = process.getuid?.() ?? uid;
      if (uid === own && (mode & 0o022) === 0) return;
    } catch (error) {
      throw new ServeError(
        'FAILED_PRECONDITION',
        `model cache directory can't be made (${(error as NodeJS.ErrnoException).code}); see --model-cache-directory`,
      );
    }
    throw new ServeError(
      'FAILED_PRECONDITION',
      'model cache directory belongs to another user or others can write to it; see --model-cache-directory',
    );
  }

  async #key(
    model: ModelFile,
    settings: SessionOptions,
    files: readonly { name: string; bytes: number }[],
  ): Promise<string> {
    const { graphOptimizationLevel, configEntries } = settings;
    const hash = createHash('sha256');
    const { version } = createRequire(import.meta.url)('onnxruntime-node/package.json') as { version: string };
    hash.update(
      JSON.stringify([
        version,
        process.arch,
        cpus()[0]?.model,
        graphOptimizationLevel,
        configEntries,
        model.path.slice(model.directory.length),
        files,
      ]),
    );
    for (const { name } of files) {
      for await (const chunk of createReadStream(join(model.directory, name), { highWaterMark: 1 << 20 }))
        hash.update(chunk);
    }
    return hash.digest('hex');
  }
}

async function filesOf({ path, directory, externalData }: ModelFile): Promise<{ name: string; bytes: number }[]> {
  const names = new Set([relative(directory, path), ...externalData]);
  const files = await Promise.all(
    [...names].map(async (name) => ({ name, bytes: (await stat(join(directory, name))).size })),
  );
  return files.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function readSummary(file: string): Promise<ScanSummary | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as ScanSummary;
  } catch {
    // Absent or half-written by another version of the server: made anew.
    return undefined;
  }
}
