/**
 * The files of one model: the ONNX file of a version, labels, warm-up data, Hugging Face's files.
 *
 * Called by the loader while a model loads. Owns the rule that a name from a configuration leads nowhere but into the model's
 * own directory, and the bounds of what is read. Everything that throws throws a ServeError that names the file as the
 * configuration does, never its path.
 */
import { constants } from 'node:fs';
import { open, readdir, realpath, stat } from 'node:fs/promises';
import { isAbsolute, join, relative, sep } from 'node:path';
import { invalid, printable, ServeError } from '../base/errors.js';
import type { RepositoryEntry } from './repository.js';

const LABELS_BYTES_MAX = 16 * 1024 * 1024;
const WARMUP_BYTES_MAX = 256 * 1024 * 1024;

/**
 * Names that Hugging Face's tools give the forms of one model, best first: as trained, then whole bytes, half precision, half bytes.
 * Optimized ones come last, since they were made for one machine.
 */
const HUB_FILES = [
  'model.onnx',
  'model_quantized.onnx',
  'model_int8.onnx',
  'model_uint8.onnx',
  'model_fp16.onnx',
  'model_q4.onnx',
  'model_q4f16.onnx',
  'model_bnb4.onnx',
  'model_optimized.onnx',
  // As decoders came before, merged of one for the first token and one for the others.
  'decoder_model_merged.onnx',
  'decoder_model_merged_quantized.onnx',
] as const;

/** Where they lie; a name in the first goes before the same one in the second. */
const HUB_DIRECTORIES = ['onnx', ''] as const;

/**
 * Path of a version's model file; `filename` is the configuration's default_model_filename, or what `field` says it is, undefined where
 * nothing names one. Links are followed wherever they lead: the operator laid them. Throws NOT_FOUND, INVALID_ARGUMENT for a name that
 * leaves the version's directory.
 */
export async function modelFile(
  entry: RepositoryEntry,
  version: number,
  filename?: string,
  field = 'default_model_filename',
): Promise<string> {
  if (filename !== undefined) checkInside(filename, entry, field);
  return entry.hubLayout ? hubModelFile(entry, filename) : versionModelFile(entry, version, filename ?? 'model.onnx');
}

async function hubModelFile(entry: RepositoryEntry, filename?: string): Promise<string> {
  for (const name of filename === undefined ? HUB_FILES : [filename]) {
    for (const directory of HUB_DIRECTORIES) {
      const path = join(entry.directory, directory, name);
      if ((await stat(path).catch(() => undefined))?.isFile()) return path;
    }
  }
  const there = await hubFiles(entry);
  // A name that is on no list leaves no choice when it is the only one.
  if (filename === undefined && there.length === 1) return join(entry.directory, there[0]!);
  const names = there.map((name) => `'${printable(name, 256)}'`).join(', ');
  throw new ServeError(
    'NOT_FOUND',
    `unable to find '${printable(filename ?? 'model.onnx', 256)}' in model '${printable(entry.name, 256)}', which has ${names || 'none'}: ` +
      'name one in default_model_filename of config.pbtxt',
  );
}

/** The ONNX files there are, by path below the model's directory. */
async function hubFiles(entry: RepositoryEntry): Promise<string[]> {
  const found = await Promise.all(
    HUB_DIRECTORIES.map(async (directory) => {
      const names = await readdir(join(entry.directory, directory)).catch(() => []);
      return names.filter((name) => name.endsWith('.onnx')).map((name) => join(directory, name));
    }),
  );
  return found.flat().sort();
}

async function versionModelFile(entry: RepositoryEntry, version: number, filename: string): Promise<string> {
  const path = join(entry.directory, String(version), filename);
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile()) return path;
  if (found?.isDirectory()) {
    const inner = join(path, 'model.onnx');
    if ((await stat(inner).catch(() => undefined))?.isFile()) return inner;
  }
  const wanted = found?.isDirectory() ? `${filename}/model.onnx` : filename;
  throw new ServeError(
    'NOT_FOUND',
    `unable to find '${printable(wanted, 256)}' in version ${version} of model '${printable(entry.name, 256)}'`,
  );
}

/** Labels of an output by class index: one a line. */
export async function readLabels(entry: RepositoryEntry, filename: string): Promise<string[]> {
  checkInside(filename, entry, 'label_filename');
  const bytes = await read(entry, filename, LABELS_BYTES_MAX);
  const lines = new TextDecoder().decode(bytes).split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}

/**
 * Content of a file that a model's directory may hold. `field` is the configuration's that names it; without one the name is ours, and
 * links are followed wherever they lead, as for the model file: the Hub's cache is made of links. Undefined where there is none.
 * Throws INVALID_ARGUMENT for one that has more than `most` bytes or can't be read.
 */
export async function readOptional(
  entry: RepositoryEntry,
  filename: string,
  { most, field }: { readonly most: number; readonly field?: string },
): Promise<Uint8Array | undefined> {
  if (field !== undefined) checkInside(filename, entry, field);
  try {
    return await read(entry, filename, most, field !== undefined);
  } catch (error) {
    if (error instanceof ServeError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
}

/** Raw tensor data for a warm-up request. */
export async function readWarmupFile(entry: RepositoryEntry, filename: string): Promise<Uint8Array> {
  checkInside(filename, entry, 'input_data_file');
  return read(entry, join('warmup', filename), WARMUP_BYTES_MAX);
}

/** Throws INVALID_ARGUMENT for a name that may lead out of the model's directory. */
export function checkInside(filename: string, entry: RepositoryEntry, field: string): void {
  const parts = filename.split(/[\\/]/);
  if (filename !== '' && !filename.includes('\0') && !isAbsolute(filename) && !parts.includes('..')) return;
  throw invalid(
    `${field} '${printable(filename, 256)}' of model '${printable(entry.name, 256)}' must be a relative path without '..'`,
  );
}

async function read(entry: RepositoryEntry, filename: string, most: number, mustStay = true): Promise<Uint8Array> {
  const subject = `file '${printable(filename, 256)}' of model '${printable(entry.name, 256)}'`;
  const failed = (error: NodeJS.ErrnoException): never => {
    if (error.code === 'ENOENT') throw new ServeError('NOT_FOUND', `unable to find ${subject}`);
    throw invalid(`${subject} can not be read (${error.code})`);
  };
  // The name has no `..`, but a link on the way may lead out: compare where both really are, and open that place.
  const root = await realpath(entry.directory).catch(failed);
  const path = await realpath(join(entry.directory, filename)).catch(failed);
  const below = relative(root, path);
  if (mustStay && (isAbsolute(below) || below.split(sep).includes('..')))
    throw invalid(`${subject} lies outside the model's directory`);
  // Not blocking, for a pipe in its place would hold the open for ever.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(failed);
  try {
    const found = await file.stat();
    if (!found.isFile()) throw invalid(`${subject} is not a file`);
    if (found.size > most) throw invalid(`${subject} has ${found.size} bytes, at most ${most} are read`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}
