/**
 * The size of a model's weights by its files: what one session of it holds at least.
 *
 * Called by the loader, before a model is loaded under a memory budget. Asks the file system only; the files are not opened.
 */
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface WeightBytes {
  /** Of the model file and what lies beside it under its name, such as `model.onnx_data`. */
  readonly bytes: number;
  /** Some of it is outside the model file. */
  readonly isExternal: boolean;
}

/** For the model file at `path`. External data under another name is not found: it shows when the model is loaded. */
export async function weightBytes(path: string): Promise<WeightBytes> {
  const file = basename(path);
  const directory = dirname(path);
  const stem = file.replace(/\.[^.]*$/, '.');
  const names = (await readdir(directory)).filter(
    // The same weights in the form that they were exported from are none of the model's.
    (name) => name !== file && name.startsWith(stem) && !name.endsWith('.safetensors'),
  );
  const sizes = await Promise.all(
    [file, ...names].map(async (name) => {
      const found = await stat(join(directory, name)).catch(() => undefined);
      return found?.isFile() ? found.size : 0;
    }),
  );
  return { bytes: sizes.reduce((sum, size) => sum + size, 0), isExternal: names.length > 0 };
}
