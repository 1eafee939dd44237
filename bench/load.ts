/**
 * Load from outside Node: h2load as a child process, sending one prepared body over and over.
 *
 * Used by the benches. A Node client would cost three times what the server does; h2load costs next to nothing. It knows no gRPC,
 * so what it can't see is held by counting: every reply must have status 200 and as many bytes as the one that was checked.
 */
import { spawn } from 'node:child_process';
import { canPin, LOAD_CPU } from './affinity.js';
import { endsWithUs } from './peer.js';
import { cpuTime } from './process-cpu.js';
import { BenchError } from './result.js';

/** What to send, to whom. */
export interface Target {
  /** For messages. */
  readonly name: string;
  readonly url: string;
  /** The process that serves. */
  readonly pid: number;
  readonly protocol: 'h2' | 'h1';
  readonly bodyFile: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Bytes of the one right reply, as a probe has found them (see probe.ts). */
  readonly replyBytes: number;
}

/** Requests in flight = connections x streams. */
export interface Concurrency {
  readonly connections: number;
  readonly streams: number;
}

export interface LoadResult {
  readonly requests: number;
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly meanLatencyMs: number;
  readonly maxLatencyMs: number;
}

export interface CpuResult extends LoadResult {
  /** CPU of the serving process per request, all threads. */
  readonly cpuUs: number;
  /** Its event loop's part. */
  readonly mainUs: number;
}

const INSTALL = "h2load is needed and is not here: install Debian's nghttp2-client (apt-get install nghttp2-client)";

export interface LoadOptions extends Concurrency {
  readonly requests: number;
  /** Whether to keep the load on its own CPU. */
  readonly pin: boolean;
}

/** Sends `requests` requests; throws BenchError unless every one was answered rightly. */
export async function load(target: Target, { requests, connections, streams, pin }: LoadOptions): Promise<LoadResult> {
  const protocol = target.protocol === 'h1' ? ['--h1'] : [`-m${streams}`];
  const headers = Object.entries(target.headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`]);
  const args = [...protocol, `-n${requests}`, `-c${connections}`, '-d', target.bodyFile, ...headers, target.url];
  const text = await (pin && canPin()
    ? output('taskset', ['-c', String(LOAD_CPU), 'h2load', ...args])
    : output('h2load', args));
  return parse(text, target, requests);
}

/** {@link load}, with the CPU that it cost the serving process. */
export async function loadWithCpu(target: Target, options: LoadOptions): Promise<CpuResult> {
  const before = cpuTime(target.pid);
  const result = await load(target, options);
  const after = cpuTime(target.pid);
  return {
    ...result,
    cpuUs: (after.totalUs - before.totalUs) / options.requests,
    mainUs: (after.mainUs - before.mainUs) / options.requests,
  };
}

/** How many requests take about `seconds`; runs a few, which warms up too. */
export async function requestsFor(
  seconds: number,
  target: Target,
  options: Omit<LoadOptions, 'requests'>,
): Promise<number> {
  const inFlight = options.connections * options.streams;
  const first = await load(target, { ...options, requests: 4 * inFlight });
  const second = await load(target, {
    ...options,
    requests: rounded(first.requestsPerSecond * seconds * 0.3, inFlight),
  });
  return rounded(second.requestsPerSecond * seconds, inFlight);
}

/** A multiple of what is in flight: each connection then gets the same share. */
function rounded(requests: number, inFlight: number): number {
  return Math.max(2, Math.round(requests / inFlight)) * inFlight;
}

function output(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = endsWithUs(spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true }));
    let text = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors += chunk));
    child.once('error', (error: NodeJS.ErrnoException) =>
      reject(error.code === 'ENOENT' ? new BenchError(INSTALL) : error),
    );
    child.once('close', (code) => {
      if (code === 0) resolve(text);
      else if (code === 127 || /failed to execute h2load/.test(errors)) reject(new BenchError(INSTALL));
      else reject(new BenchError(`h2load ended with ${code}: ${errors.trim()}`));
    });
  });
}

function parse(text: string, target: Target, requests: number): LoadResult {
  const find = (pattern: RegExp): string[] => {
    const match = pattern.exec(text);
    if (!match) throw new BenchError(`h2load against ${target.name} printed no ${pattern}:\n${text}`);
    return match.slice(1);
  };
  const [duration, rate] = find(/^finished in (\S+), (\S+) req\/s/m);
  const [succeeded] = find(/^requests:.* (\d+) succeeded, /m).map(Number);
  const [ok] = find(/^status codes: (\d+) 2xx/m).map(Number);
  const [dataBytes] = find(/^traffic:.*\((\d+)\) data$/m).map(Number);
  if (succeeded !== requests || ok !== requests) {
    throw new BenchError(`${target.name}: ${requests} requests, ${succeeded} succeeded, ${ok} with status 200`);
  }
  if (dataBytes !== requests * target.replyBytes) {
    throw new BenchError(
      `${target.name}: ${dataBytes} bytes in ${requests} replies, expected ${target.replyBytes} in each: errors among them?`,
    );
  }
  const [, max, mean] = find(/^time for request:\s+(\S+)\s+(\S+)\s+(\S+)/m);
  return {
    requests,
    seconds: milliseconds(duration!) / 1000,
    requestsPerSecond: Number(rate),
    meanLatencyMs: milliseconds(mean!),
    maxLatencyMs: milliseconds(max!),
  };
}

/** h2load's durations: 335.80ms, 122us, 1.24s, 1.5m. */
function milliseconds(text: string): number {
  const unit = /[a-z]+$/.exec(text)?.[0] ?? '';
  const factor = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[unit];
  if (factor === undefined) throw new BenchError(`h2load printed the duration '${text}'`);
  return Number.parseFloat(text) * factor;
}
