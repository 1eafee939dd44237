/**
 * What a run ran on: Node, processor, system, and what the server says of itself.
 *
 * Called by the command and `npm run bench`.
 */
import { availableParallelism, cpus, release, type } from 'node:os';
import type { Environment } from './results.js';

type Known = Pick<Environment, 'server' | 'pinned' | 'clientProcesses'>;

export function environmentOf(known: Known): Environment {
  return {
    node: process.version,
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    os: `${type()} ${release()} ${process.arch}`,
    ...known,
  };
}
