/**
 * Keeps external weights inside their model's directory.
 *
 * Called by `session.ts` (through `onnx-scan.ts`) before ONNX Runtime maps the files. ONNX Runtime refuses `..`, absolute paths and
 * symbolic links itself, but not hard links, and its messages hold paths.
 */
import { lstatSync, readFileSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { printable, ServeError } from '#src/base/errors';

/** What stands in place of a file that was cloned and not fetched: a text of so many bytes that begins like this. */
const POINTER_BYTES_MAX = 1024;
const POINTER = 'version https://git-lfs.github.com/spec/';

/**
 * Throws ServeError INVALID_ARGUMENT, with the bare file name, unless each location is a regular file below `directory`, reached
 * by no link of any kind, and not a mere pointer of Git LFS.
 */
export function assertExternalDataInside(directory: string, locations: readonly string[]): void {
  for (const location of locations) assertInside(directory, location);
}

function assertInside(directory: string, location: string): void {
  const parts = location.split('/');
  const refuse = (reason: string): ServeError =>
    new ServeError('INVALID_ARGUMENT', `external data '${printable(parts.at(-1)!)}' of the model ${reason}`);
  // A backslash separates on one system and is part of the name on others; ONNX separates by '/'.
  if (location === '' || /[\0\\]/.test(location)) throw refuse('has no valid name');
  // A leading separator is an empty first part; a drive letter (C:) is refused as well, so that the rule is one everywhere.
  if (parts[0] === '' || /^[a-z]:/i.test(location)) throw refuse('must not have an absolute path');
  if (parts.includes('..')) throw refuse("must not use '..'");
  let path = directory;
  let stats: Stats | undefined;
  for (const part of parts) {
    path = join(path, part);
    stats = statsOf(path);
    if (stats === undefined) throw refuse('is missing');
    if (stats.isSymbolicLink()) {
      throw refuse(
        'must not be a symbolic link, which ONNX Runtime does not follow: put the file itself there, as ' +
          "'hf download --local-dir' does",
      );
    }
  }
  if (!stats!.isFile()) throw refuse('is not a regular file');
  if (stats!.nlink > 1) throw refuse('must not be a hard link');
  if (stats!.size <= POINTER_BYTES_MAX && readFileSync(path, 'latin1').startsWith(POINTER))
    throw refuse("is a pointer of Git LFS: fetch the file itself with 'git lfs pull'");
}

function statsOf(path: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    // A name too long, a file where a directory should be, no permission: whatever it is, there is no file to be had.
    if (typeof (error as NodeJS.ErrnoException).code === 'string') return undefined;
    throw error;
  }
}
