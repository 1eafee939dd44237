/**
 * Which CPU runs what: the server gets the first one, the load the second, so that neither takes time from the other.
 *
 * Used by the benches that compare CPU per request. Where `taskset` is missing or the machine has one CPU nothing is pinned, and the
 * bench says so.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

export const SERVER_CPU = 0;
export const LOAD_CPU = 1;

let known: boolean | undefined;

/** Whether processes can be pinned here. */
export function canPin(): boolean {
  known ??= availableParallelism() > 1 && spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0;
  return known;
}

/** For the bench's first lines. */
export function pinningSentence(): string {
  return canPin()
    ? `servers pinned to CPU ${SERVER_CPU}, load to CPU ${LOAD_CPU}`
    : 'nothing pinned: taskset or a second CPU is missing, expect more noise';
}

/** All CPUs in two halves; the load's begins with LOAD_CPU. Nothing is split where nothing can be pinned. */
export function cpuHalves(): { readonly server: readonly number[]; readonly load: readonly number[] } {
  const all = Array.from({ length: availableParallelism() }, (_, cpu) => cpu);
  if (!canPin()) return { server: all, load: all };
  const others = all.filter((cpu) => cpu !== SERVER_CPU && cpu !== LOAD_CPU);
  const half = others.length >> 1;
  return { server: [SERVER_CPU, ...others.slice(0, half)], load: [LOAD_CPU, ...others.slice(half)] };
}

/** Runs `start` so that the processes it starts are pinned to `cpus`; what runs already stays where it is. */
export async function pinnedTo<T>(cpus: number | readonly number[], start: () => Promise<T>): Promise<T> {
  if (!canPin()) return start();
  // A child inherits the affinity of the thread that starts it.
  const before = /^Cpus_allowed_list:\s*(\S+)/m.exec(readFileSync('/proc/self/status', 'latin1'))![1]!;
  setOwnAffinity(String(cpus));
  try {
    return await start();
  } finally {
    setOwnAffinity(before);
  }
}

function setOwnAffinity(cpus: string): void {
  spawnSync('taskset', ['-cp', cpus, String(process.pid)], { stdio: 'ignore' });
}
