/** An inference worker that loads nothing until it is told to. Called by tests of what happens while a model loads. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from './engine.js';

export interface GatedWorker {
  readonly file: string;
  /** From now on models load. */
  open(): void;
}

/** The real worker, whose thread waits before its first load for `open`, however long that takes. */
export function gatedWorker(): GatedWorker {
  const directory = temporaryDirectory();
  const [file, gate] = [join(directory, 'gated.mjs'), join(directory, 'gate')];
  const real = join(import.meta.dirname, '../../dist/workers/inference-worker.js');
  writeFileSync(
    file,
    `import { existsSync } from 'node:fs';
import serve from ${JSON.stringify(real)};
const nap = new Int32Array(new SharedArrayBuffer(4));
export default ({ port }) => {
  port.on('message', ({ type }) => {
    if (type === 'load') while (!existsSync(${JSON.stringify(gate)})) Atomics.wait(nap, 0, 0, 5);
  });
  return serve({ port });
};\n`,
  );
  return { file, open: () => writeFileSync(gate, '') };
}
