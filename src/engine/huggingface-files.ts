/**
 * Finds and reads Hugging Face's files of one model: beside the ONNX file, then in the folders above it up to the model's.
 *
 * Called by huggingface.ts and huggingface-generation.ts. Owns where a file is looked for and how errors call it. Must not know what is in
 * a file. Everything that throws throws a ServeError naming the file.
 */
import { stat } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { printable } from '../base/errors.js';
import { JsonFields } from './huggingface-json.js';
import type { RepositoryEntry } from './repository.js';
import { readOptional } from './repository-file.js';

/** Chat templates and thousands of special tokens make some of them large. */
export const FILE_BYTES_MAX = 16 * 1024 * 1024;

/** Vocabularies of 250 thousand words have 17 MB, with merges twice that. */
export const TOKENIZER_BYTES_MAX = 64 * 1024 * 1024;

export interface FoundFile {
  readonly subject: string;
  readonly bytes: Uint8Array;
  /** Of those that are looked into. */
  readonly directory: string;
}

export class HubFiles {
  readonly #entry: RepositoryEntry;
  /** Below the model's directory, in the order in which they are looked into. */
  readonly #directories: string[];

  /** `onnxPath` is that of the model's ONNX file, or of where it would be. */
  constructor(entry: RepositoryEntry, onnxPath: string) {
    this.#entry = entry;
    this.#directories = ancestors(relative(entry.directory, dirname(onnxPath)));
  }

  addBelow(path: string): void {
    if (path !== '') this.#directories.push(...this.#directories.map((directory) => join(directory, path)));
  }

  subject(name: string): string {
    return `file '${printable(name, 256)}' of model '${printable(this.#entry.name, 256)}'`;
  }

  read(name: string, most: number, field?: string): Promise<Uint8Array | undefined> {
    return readOptional(this.#entry, name, { most, ...(field !== undefined && { field }) });
  }

  async find(name: string, most = FILE_BYTES_MAX): Promise<FoundFile | undefined> {
    for (const directory of this.#directories) {
      const path = join(directory, name);
      const bytes = await this.read(path, most);
      if (bytes) return { subject: this.subject(path), bytes, directory };
    }
    return undefined;
  }

  /** Whether `find` would find it; nothing is read. */
  async has(name: string): Promise<boolean> {
    const paths = this.#directories.map((directory) => join(this.#entry.directory, directory, name));
    const found = await Promise.all(paths.map((path) => stat(path).catch(() => undefined)));
    return found.some((file) => file?.isFile());
  }

  async fields(name: string): Promise<JsonFields | undefined> {
    const found = await this.find(name);
    return found && JsonFields.parse(found.subject, found.bytes);
  }
}

/** `a/b` as ['a/b', 'a', '']. */
function ancestors(path: string): string[] {
  const all: string[] = [];
  for (let at = path; at !== '' && at !== '.'; at = dirname(at)) all.push(at);
  return [...all, ''];
}
