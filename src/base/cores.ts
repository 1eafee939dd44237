/**
 * How many cores this process may really use, and how workers and their threads share them.
 *
 * Called by `server.ts` at start. Pure functions over the texts of the kernel's files, and one reader. Must not start
 * anything: a container limited to one core of sixty-four gets one worker, not a throttled crowd.
 */

import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { posix } from 'node:path';

/** The text of a file, or undefined where it cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** Whole cores that this process may use, at least 1: what the scheduler allows, limited by the container's CPU quota. */
export function countCores(read: ReadText = readText, available: number = availableParallelism()): number {
  const quotas = [...quotasV2(read), ...quotasV1(read)];
  // Rounded down: a thread too many is stopped by the quota for the rest of each period, in the middle of a batch.
  return Math.max(1, Math.floor(Math.min(available, ...quotas)));
}

/** Cores of a cgroup v2 `cpu.max` ("max 100000" or "<quota> <period>"); Infinity without a limit. */
export function coresOfCpuMax(text: string): number {
  const [quota = '', period = '100000'] = text.trim().split(/\s+/);
  return coresOfQuota(quota, period);
}

/** Cores of a cgroup v1 quota and period, both in microseconds; a quota of -1 is none. */
export function coresOfQuota(quota: string, period: string): number {
  const cores = Number(quota) / Number(period);
  return cores > 0 ? cores : Number.POSITIVE_INFINITY;
}

export interface ThreadWish {
  readonly cores: number;
  /** 0: choose. */
  readonly workerCount: number;
  /** Per worker; 0: choose. */
  readonly intraOpThreads: number;
}

export interface ThreadPlan {
  readonly workers: number;
  readonly intraOpThreads: number;
  /** Set where the plan is not what was asked for, or is a bad idea. */
  readonly warning?: string;
}

/** More workers than this rarely help one machine: each holds its own sessions, and a batch is better than two halves. */
const DEFAULT_WORKERS_MAX = 4;

/** Shares the cores out. Workers x threads never exceed them, unless both numbers were asked for. */
export function threadPlan({ cores, workerCount, intraOpThreads }: ThreadWish): ThreadPlan {
  if (workerCount > 0 && intraOpThreads > 0) {
    const threads = workerCount * intraOpThreads;
    const warning = `${workerCount} workers with ${intraOpThreads} threads each compete for ${cores} cores`;
    return { workers: workerCount, intraOpThreads, ...(threads > cores && { warning }) };
  }
  if (workerCount > 0) {
    const workers = Math.min(workerCount, cores);
    const warning = `${workers} workers instead of ${workerCount}: there are ${cores} cores; set intra-op-thread-count to insist`;
    return { workers, intraOpThreads: Math.floor(cores / workers), ...(workers < workerCount && { warning }) };
  }
  if (intraOpThreads > 0) {
    const threads = Math.min(intraOpThreads, cores);
    const workers = Math.min(Math.floor(cores / threads), DEFAULT_WORKERS_MAX);
    const warning = `${threads} threads instead of ${intraOpThreads}: there are ${cores} cores; set worker-count to insist`;
    return { workers, intraOpThreads: threads, ...(threads < intraOpThreads && { warning }) };
  }
  const workers = Math.min(cores, DEFAULT_WORKERS_MAX);
  return { workers, intraOpThreads: Math.floor(cores / workers) };
}

/** A limit anywhere above counts too, so every level up to the root is read. */
function quotasV2(read: ReadText): number[] {
  const own = /^0::(\/.*)$/m.exec(read('/proc/self/cgroup') ?? '')?.[1] ?? '/';
  return levels(own).flatMap((level) => {
    const text = read(posix.join('/sys/fs/cgroup', level, 'cpu.max'));
    return text === undefined ? [] : [coresOfCpuMax(text)];
  });
}

/** In a container the path is the host's while the mount shows the container's own group as root: both are tried. */
function quotasV1(read: ReadText): number[] {
  const line = /^\d+:((?:[^:\n]*,)?cpu(?:,[^:\n]*)?):(\/.*)$/m.exec(read('/proc/self/cgroup') ?? '');
  if (line === null) return [];
  const [, controllers = 'cpu', own = '/'] = line;
  return [...new Set([controllers, 'cpu'])].flatMap((mount) =>
    levels(own).flatMap((level) => {
      const quota = read(posix.join('/sys/fs/cgroup', mount, level, 'cpu.cfs_quota_us'));
      const period = read(posix.join('/sys/fs/cgroup', mount, level, 'cpu.cfs_period_us'));
      return quota === undefined || period === undefined ? [] : [coresOfQuota(quota, period)];
    }),
  );
}

/** `/a/b` -> `/a/b`, `/a`, `/`. */
function levels(path: string): string[] {
  const parent = posix.dirname(path);
  return parent === path ? [path] : [path, ...levels(parent)];
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    // Absent on other systems and in other versions of cgroups: no limit is known, which is the answer.
    return undefined;
  }
}
