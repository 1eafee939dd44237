/**
 * Finds the compiled file of a process or thread of the bench, also where its parent runs from TypeScript (tests, tsx).
 *
 * Called by what starts them: Node alone can't run the sources, whose imports end in `.js`.
 */
import { fileURLToPath } from 'node:url';

/** `name` is a file of this folder without its ending. */
export function compiledFile(callerUrl: string, name: string): string {
  const folder = new URL('.', callerUrl).href.replace(/\/src\/bench\/$/, '/dist/bench/');
  return fileURLToPath(new URL(`${name}.js`, folder));
}
