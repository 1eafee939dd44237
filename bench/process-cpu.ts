/**
 * CPU time that a process has used, all its threads together, and where its memory is.
 *
 * Used by the benches with the pid of the process that serves, which for tensorwire is the launcher's child. Reads /proc only, so
 * it costs the process nothing; Linux alone has it.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { BenchError } from './result.js';

export interface CpuTime {
  /** Of all threads, in microseconds. */
  readonly totalUs: number;
  /** Of the thread that runs the event loop. */
  readonly mainUs: number;
}

/**
 * CPU time since the process started. Threads that have ended are not in it: measure while none does. Throws BenchError when the process
 * has ended.
 */
export function cpuTime(pid: number): CpuTime {
  try {
    return cpuTimeOfThreads(pid);
  } catch (error) {
    if (existsSync(`/proc/${pid}/task`)) throw error;
    throw new BenchError(`process ${pid} has ended`);
  }
}

function cpuTimeOfThreads(pid: number): CpuTime {
  let totalUs = 0;
  let mainUs = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const us = threadUs(`/proc/${pid}/task/${thread}`);
    totalUs += us;
    if (Number(thread) === pid) mainUs = us;
  }
  return { totalUs, mainUs };
}

/** Nanoseconds where the kernel keeps them, else utime + stime in ticks of 10 ms. */
function threadUs(directory: string): number {
  try {
    return Number(readFileSync(`${directory}/schedstat`, 'latin1').split(' ', 1)[0]) / 1000;
  } catch {
    const fields = statFields(`${directory}/stat`);
    return (Number(fields[11]) + Number(fields[12])) * 10_000;
  }
}

/** The process that `parent` has started; there must be exactly one. */
export function onlyChildOf(parent: number): number {
  const children = readdirSync('/proc').filter((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      return Number(statFields(`/proc/${name}/stat`)[1]) === parent;
    } catch {
      return false; // It has ended since the directory was read.
    }
  });
  if (children.length !== 1) throw new BenchError(`process ${parent} has ${children.length} children, expected 1`);
  return Number(children[0]);
}

/** Memory of the process in MB (10^6 bytes), pages shared with other processes counted in proportion. */
export function proportionalMb(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
  return (Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1]) * 1024) / 1e6;
}

/** Fields of a stat file from the state on; the name before it may hold spaces and brackets. */
function statFields(file: string): string[] {
  const text = readFileSync(file, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}
