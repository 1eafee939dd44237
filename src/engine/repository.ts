/**
 * Model repositories on disk, in Triton's layout:
 *
 *   <repository>/<model>/config.pbtxt             optional
 *   <repository>/<model>/configs/<name>.pbtxt     in its place, when that name is asked for
 *   <repository>/<model>/<version>/model.onnx     version: 1, 2, ...; a file, or a directory with model.onnx and its data
 *
 * or as `optimum` and onnx-community publish a model, which then is version 1:
 *
 *   <repository>/<model>/config.json              Hugging Face's, not optional; or ONNX Runtime GenAI's genai_config.json
 *   <repository>/<model>/onnx/model.onnx          or beside config.json; also model_quantized.onnx and so on (repository-file.ts)
 *
 * A path that is itself one model's directory counts as a repository of one (KServe mounts those). Called by the registry. Owns
 * what is a model and what a version, and what may be wrong with them. Must not interpret a configuration or load a model.
 */
import { isUtf8 } from 'node:buffer';
import { constants } from 'node:fs';
import { open, readdir, realpath, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { invalid, printable, ServeError } from '../base/errors.js';
import { parsePbtxt } from '../base/pbtxt.js';
import type { VersionPolicy } from './model-config.js';

/** A configuration is some hundred lines; the parser works on the whole text. */
const CONFIG_BYTES_MAX = 1024 * 1024;

export interface RepositoryEntry {
  readonly name: string;
  /** Path of the model's directory; never leaves the server. */
  readonly directory: string;
  /** Ascending. */
  readonly versions: readonly number[];
  /** The ONNX files are not in version directories but lie as Hugging Face's tools lay them; its one version is 1. */
  readonly hubLayout?: boolean;
  /** Content of its config.pbtxt, where it has one. */
  readonly configText?: string;
  /** Why it can't be loaded, fit to be shown. */
  readonly problem?: string;
}

export interface ScanOptions {
  /** `--model-config-name`: use configs/<name>.pbtxt where there is one. */
  readonly configName?: string;
}

/**
 * The models of all repositories by name. A model that can't be loaded is an entry with a problem. Throws INVALID_ARGUMENT,
 * with option and value, for a path that is no readable directory.
 */
export async function scanRepository(paths: readonly string[], options: ScanOptions = {}): Promise<RepositoryEntry[]> {
  const found = new Map<string, RepositoryEntry>();
  for (const path of await distinct(paths)) {
    for (const entry of await scanOne(path, options)) {
      const other = found.get(entry.name);
      found.set(
        entry.name,
        other === undefined ? entry : { ...other, problem: 'model appears in two or more repositories' },
      );
    }
  }
  return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** The versions to load, ascending; those of a specific policy that are not there are left out. */
export function servedVersions(policy: VersionPolicy, versions: readonly number[]): number[] {
  const ascending = [...versions].sort((a, b) => a - b);
  switch (policy.kind) {
    case 'all':
      return ascending;
    case 'latest':
      return ascending.slice(-policy.count);
    case 'specific':
      return ascending.filter((version) => policy.versions.includes(version));
  }
}

/** Resolves links, so that the same repository given twice is one. */
async function distinct(paths: readonly string[]): Promise<string[]> {
  const resolved = paths.map(async (path) => {
    const refuse = (why: string) => invalid(`--model-repository '${printable(path, 256)}' ${why}`);
    const real = await realpath(path).catch((error: NodeJS.ErrnoException) => {
      throw refuse(error.code === 'ENOENT' ? 'does not exist' : `can not be read (${error.code})`);
    });
    if (!(await isDirectory(real))) throw refuse('is not a directory');
    await readdir(real).catch((error: NodeJS.ErrnoException) => {
      throw refuse(`can not be read (${error.code})`);
    });
    return real;
  });
  return [...new Set(await Promise.all(resolved))];
}

async function scanOne(path: string, options: ScanOptions): Promise<RepositoryEntry[]> {
  if (await isModel(path)) return scanSingle(path, options);
  const entries: RepositoryEntry[] = [];
  for (const name of await readdir(path)) {
    // Hidden ones are not models: Kubernetes keeps the mounted data in `..data`.
    if (name.startsWith('.')) continue;
    const directory = join(path, name);
    if (!(await isDirectory(directory))) continue;
    const entry = await scanModel(directory, name, options);
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

/**
 * Numbered directories beside a config.pbtxt, or that hold a model.onnx themselves, or a Hugging Face folder: no repository looks
 * like this.
 */
async function isModel(path: string): Promise<boolean> {
  const versions = await versionsIn(path);
  if (versions.length === 0) return isHubLayout(path);
  if (await exists(join(path, 'config.pbtxt'))) return true;
  const models = await Promise.all(versions.map((version) => exists(join(path, String(version), 'model.onnx'))));
  return models.includes(true);
}

/** The directory's own name is the mount's, so the configuration's goes before. */
async function scanSingle(path: string, options: ScanOptions): Promise<RepositoryEntry[]> {
  const entry = await scanModel(path, basename(path), options);
  if (entry === undefined) return [];
  const name = configuredName(entry.configText);
  if (name === undefined) return [entry];
  const problem = nameProblem(name);
  return [problem === undefined ? { ...entry, name } : { ...entry, name: printable(name, 256), problem }];
}

function configuredName(configText: string | undefined): string | undefined {
  if (configText === undefined) return undefined;
  try {
    const { name } = parsePbtxt(configText);
    return typeof name === 'string' && name !== '' ? name : undefined;
  } catch {
    // Whoever loads the model parses it again and reports what is wrong.
    return undefined;
  }
}

/** Undefined for a directory that does not look like a model at all, such as `lost+found` or a folder of scripts. */
async function scanModel(directory: string, name: string, options: ScanOptions): Promise<RepositoryEntry | undefined> {
  const badName = nameProblem(name);
  if (badName !== undefined) return { name: printable(name, 256), directory, versions: [], problem: badName };
  let versions: number[];
  let configText: string | undefined;
  try {
    versions = await versionsIn(directory);
    configText = await readConfig(directory, options);
  } catch (error) {
    return { name, directory, versions: [], problem: problemOf(error) };
  }
  const config = configText === undefined ? {} : { configText };
  if (versions.length > 0) return { name, directory, versions, ...config };
  if (await isHubLayout(directory)) return { name, directory, versions: [1], hubLayout: true, ...config };
  const other = await otherWeights(directory);
  if (other !== undefined && !(await holdsOnnx(directory))) {
    const problem = `model '${name}' has no ONNX file, and '${printable(other, 256)}' is for others: export it to ONNX, for instance by 'optimum-cli export onnx'`;
    return { name, directory, versions, ...config, problem };
  }
  if (configText === undefined && !(await holdsOnnx(directory))) return undefined;
  const problem =
    `at least one version must be available under the version policy of model '${name}': ` +
    "its directory has no version directory such as '1', nor a config.json as folders from Hugging Face have";
  return { name, directory, versions, ...config, problem };
}

function nameProblem(name: string): string | undefined {
  if (name.length > 256) return 'model name is longer than 256 characters';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here
  if (/[\u0000-\u001f\u007f-\u009f\u2028\u2029/]/.test(name)) return "model name has a control character or '/'";
  // U+FFFD: a name that is not UTF-8, by which the directory can't be opened again.
  if (name.includes('\ufffd') || !name.isWellFormed()) return 'model name is not valid Unicode';
  return undefined;
}

async function versionsIn(directory: string): Promise<number[]> {
  const names = (await readdir(directory)).filter((name) => /^[1-9][0-9]{0,14}$/.test(name));
  const kept = await Promise.all(names.map((name) => isDirectory(join(directory, name))));
  return names
    .filter((_, index) => kept[index])
    .map(Number)
    .sort((a, b) => a - b);
}

async function readConfig(directory: string, { configName }: ScanOptions): Promise<string | undefined> {
  if (configName !== undefined && configName !== '') {
    const named = await readText(join(directory, 'configs', `${configName}.pbtxt`), `configs/${configName}.pbtxt`);
    if (named !== undefined) return named;
  }
  return readText(join(directory, 'config.pbtxt'), 'config.pbtxt');
}

async function readText(path: string, name: string): Promise<string | undefined> {
  const subject = printable(name, 256);
  const failed = (error: NodeJS.ErrnoException): never => {
    throw invalid(`${subject} can not be read (${error.code})`);
  };
  // Not blocking, for a pipe in its place would hold the open for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: NodeJS.ErrnoException) =>
    error.code === 'ENOENT' ? undefined : failed(error),
  );
  if (file === undefined) return undefined;
  try {
    const found = await file.stat();
    if (!found.isFile()) throw invalid(`${subject} is not a file`);
    if (found.size > CONFIG_BYTES_MAX) {
      throw invalid(`${subject} has ${found.size} bytes, at most ${CONFIG_BYTES_MAX} are read`);
    }
    const bytes = await file.readFile();
    if (!isUtf8(bytes)) throw invalid(`${subject} is not valid UTF-8`);
    return bytes.toString();
  } finally {
    await file.close();
  }
}

/** A file of weights that other runtimes read, as most repositories on Hugging Face have nothing else. */
async function otherWeights(directory: string): Promise<string | undefined> {
  const names = await readdir(directory);
  return names.find((name) => /\.(safetensors|gguf)$|^pytorch_model.*\.bin$/.test(name));
}

/** A model file without a version directory around it: the commonest mistake, which must not pass in silence. */
async function holdsOnnx(directory: string): Promise<boolean> {
  const names = await readdir(directory);
  if (names.some((name) => name.endsWith('.onnx'))) return true;
  for (const name of names) {
    const below = join(directory, name);
    if (!name.startsWith('.') && (await isDirectory(below))) {
      if ((await readdir(below).catch(() => [])).some((file) => file.endsWith('.onnx'))) return true;
    }
  }
  return false;
}

/** A config.json, or the one of ONNX Runtime GenAI, with an ONNX file beside it or in `onnx`. */
async function isHubLayout(directory: string): Promise<boolean> {
  const configs = ['config.json', 'genai_config.json'].map((name) =>
    stat(join(directory, name)).catch(() => undefined),
  );
  if (!(await Promise.all(configs)).some((found) => found?.isFile())) return false;
  for (const below of [directory, join(directory, 'onnx')]) {
    if ((await readdir(below).catch(() => [])).some((file) => file.endsWith('.onnx'))) return true;
  }
  return false;
}

function problemOf(error: unknown): string {
  if (error instanceof ServeError) return error.message;
  return `model directory can not be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`;
}

async function isDirectory(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found?.isDirectory() ?? false;
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined)) !== undefined;
}
