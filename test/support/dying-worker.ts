/** An inference worker that can be lost on purpose. Called by tests of what happens then. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory } from './engine.js';

/** A file with the real worker, whose thread ends when a batch of exactly 13 rows arrives. It notes the sessions that it loads in `loads`. */
export function dyingWorker(loads = ''): string {
  const file = join(temporaryDirectory(), 'die.mjs');
  const real = join(import.meta.dirname, '../../dist/workers/inference-worker.js');
  writeFileSync(
    file,
    `import { appendFileSync } from 'node:fs';
import { threadId } from 'node:worker_threads';
import serve from ${JSON.stringify(real)};
const loads = ${JSON.stringify(loads)};
export default ({ port }) => {
  const note = ({ type, load }) => { if (type === 'load') appendFileSync(loads, threadId + ' ' + load.session + '\\n'); };
  if (loads !== '') port.on('message', note);
  port.on('message', (message) => { if (Array.isArray(message) && message[8] === 13) process.exit(3); });
  return serve({ port });
};\n`,
  );
  return file;
}
