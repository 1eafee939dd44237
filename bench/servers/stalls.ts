/**
 * Measures the serving process's event loop from within: how long it is away from a timer that should ring every 2 ms, and what it did
 * meanwhile: it ran, it was ready to run but other threads had the cores, or it was blocked.
 *
 * Loaded into the server by `bench/preprocess.ts` with `--import`; the path of a socket is in TENSORWIRE_BENCH_STALLS. Each request to
 * the socket gets what was seen since the last one. Does nothing in the launcher and in worker threads.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { basename } from 'node:path';
import { isMainThread } from 'node:worker_threads';

/** One absence from the timer; the three parts are those of the whole time since it last rang. */
export interface Stall {
  readonly ms: number;
  readonly ranMs: number;
  readonly waitedForCoreMs: number;
  readonly blockedMs: number;
}

export interface Stalls {
  readonly longest: Stall;
  /** The longest time that the loop itself ran at a stretch, whatever it had to wait for. */
  readonly longestRunMs: number;
  readonly p99Ms: number;
}

const PERIOD_MS = 2;
const NONE: Stall = { ms: 0, ranMs: 0, waitedForCoreMs: 0, blockedMs: 0 };
const socket = process.env.TENSORWIRE_BENCH_STALLS;

if (socket !== undefined && isMainThread && basename(process.argv[1] ?? '') === 'server.js') watch(socket);

function watch(path: string): void {
  let absences: number[] = [];
  let longest = NONE;
  let longestRunMs = 0;
  let lastMs = performance.now();
  let last = scheduled();
  setInterval(() => {
    const ms = Math.max(0, performance.now() - lastMs - PERIOD_MS);
    const now = scheduled();
    const ranMs = now.ranMs - last.ranMs;
    const waitedForCoreMs = now.waitedMs - last.waitedMs;
    absences.push(ms);
    if (ms > longest.ms) {
      const blockedMs = Math.max(0, ms - ranMs - waitedForCoreMs);
      longest = { ms, ranMs, waitedForCoreMs, blockedMs };
    }
    longestRunMs = Math.max(longestRunMs, ranMs);
    last = now;
    lastMs = performance.now();
  }, PERIOD_MS).unref();
  const server = createServer((_, response) => {
    const sorted = absences.sort((a, b) => a - b);
    const seen: Stalls = { longest, longestRunMs, p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? 0 };
    response.end(JSON.stringify(seen));
    absences = [];
    longest = NONE;
    longestRunMs = 0;
    // Sorting and printing are this file's own doing.
    last = scheduled();
    lastMs = performance.now();
  });
  server.listen(path).unref();
}

/** Milliseconds that this thread has run, and that it was ready to run without a core, since it started. */
function scheduled(): { ranMs: number; waitedMs: number } {
  const [ran, waited] = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ');
  return { ranMs: Number(ran) / 1e6, waitedMs: Number(waited) / 1e6 };
}
