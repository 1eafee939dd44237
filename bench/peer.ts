/**
 * Starts the servers that a bench loads: this one with models of its own, and the echoes it is compared with.
 *
 * Used by the benches. Every server is a process of its own, run by plain Node from compiled or type-stripped files, so that no
 * build tool's CPU is counted. What is started here is stopped here.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { OPTIONS } from '../src/base/options.js';
import { v8Flags } from '../src/v8-flags.js';
import { startServer, type TestServer } from '../test/support/server.js';
import { onlyChildOf } from './process-cpu.js';
import { BenchError } from './result.js';

/** What `src/main.ts` gives the serving process. */
const ALLOCATOR = { MALLOC_MMAP_THRESHOLD_: '33554432', MALLOC_TRIM_THRESHOLD_: '268435456' };

export interface Peer {
  readonly pid: number;
  readonly port: number;
  stop(): Promise<void>;
}

/** A temporary directory that is gone when the bench ends. */
export function workDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'tensorwire-bench-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Writes a body for h2load; returns the file. */
export function bodyFile(directory: string, name: string, body: Uint8Array): string {
  const file = join(directory, `${name}.bin`);
  writeFileSync(file, body);
  return file;
}

/** The V8 flags that the launcher gives the serving process by default. */
export function servingFlags(): string[] {
  const { execPath, version } = process;
  return v8Flags({ execPath, version, initialOldSpaceSizeMb: OPTIONS.initialOldSpaceSizeMb.fallback, own: [] });
}

/** This server over `repository`, as users start it. */
export async function startTensorwire(
  repository: string,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<{ server: TestServer; pid: number; stop(): Promise<void> }> {
  const server = await startServer({ repository, args: ['--log-level', 'warn', ...args], env, detached: true });
  await server.waitFor(MODEL_READY);
  return {
    server,
    pid: onlyChildOf(server.process.pid!),
    stop: async () => {
      const code = await server.stop();
      if (code !== 0) throw new BenchError(`the server ended with ${code}: ${server.stderr.slice(-1000)}`);
    },
  };
}

/** A line of the banner, which is printed when all models are loaded. */
const MODEL_READY = /^ +\S+ +\d+ +READY$/m;

/** A file of `bench/`, which prints `port N` when it listens. */
export function startPeer(file: string, flags: readonly string[]): Promise<Peer> {
  const child = spawnServer(file, flags, ['ignore', 'pipe', 'inherit']);
  return new Promise((resolve, reject) => {
    let text = '';
    child.once('error', reject);
    child.once('exit', (code) => reject(new BenchError(`bench/${file} ended with ${code}`)));
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      const port = /^port (\d+)$/m.exec(text)?.[1];
      if (port) resolve({ pid: child.pid!, port: Number(port), stop: () => end(child) });
    });
  });
}

/** Runs a file of `bench/` with this Node. */
export function spawnServer(
  file: string,
  flags: readonly string[],
  stdio: ('ignore' | 'pipe' | 'inherit' | 'ipc')[],
): ChildProcess {
  const path = join(import.meta.dirname, file);
  // Node says at every start that stripping types is experimental.
  // With the serving process's flags comes its allocator's setting; the stock echo has neither.
  const env = flags.length > 0 ? { ...ALLOCATOR, ...process.env } : process.env;
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', ...flags, path], {
    stdio,
    env,
    detached: true,
  });
  return endsWithUs(child);
}

/** Whatever ends this process. Children are detached so that Ctrl-C comes here alone, which then ends them in order. */
export function endsWithUs<Child extends ChildProcess>(child: Child): Child {
  const orphan = (): void => void child.kill('SIGKILL');
  process.once('exit', orphan);
  child.once('exit', () => process.off('exit', orphan));
  return child;
}

function end(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.removeAllListeners('exit');
    child.once('exit', () => resolve());
    child.kill('SIGKILL');
  });
}
