/**
 * Prometheus and promtool: found, or taken from Debian's package without installing it; and one running Prometheus that can be asked.
 *
 * Called by `prometheus.ts`. Owns `.venv/prometheus` at the root of the repository and the process it starts. Every wait is bounded.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { lastLine } from './python.js';

const FOLDER = fileURLToPath(new URL('../../.venv/prometheus', import.meta.url));
const START_MS = 20_000;
const QUERY_MS = 5_000;
const STOP_MS = 5_000;

export interface Binaries {
  readonly prometheus: string;
  readonly promtool: string;
}

/** Those on PATH, else those of the package; or why there are none. */
export function findPrometheus(): Binaries | { skipped: string } {
  const unpacked = join(FOLDER, 'usr/bin');
  for (const folder of ['', unpacked]) {
    const own = { prometheus: join(folder, 'prometheus'), promtool: join(folder, 'promtool') };
    if (Object.values(own).every((file) => spawnSync(file, ['--version']).status === 0)) return own;
  }
  for (const tool of ['apt-get', 'dpkg']) {
    if (spawnSync(tool, ['--version']).status !== 0)
      return { skipped: `prometheus is not on PATH, and there is no ${tool}` };
  }
  try {
    rmSync(FOLDER, { recursive: true, force: true });
    mkdirSync(FOLDER, { recursive: true });
    execFileSync('apt-get', ['download', 'prometheus'], { cwd: FOLDER, stdio: 'pipe', timeout: 120_000 });
    const [file] = readdirSync(FOLDER).filter((name) => name.endsWith('.deb'));
    execFileSync('dpkg', ['-x', file!, '.'], { cwd: FOLDER, stdio: 'pipe', timeout: 60_000 });
  } catch (error) {
    return { skipped: `prometheus is not on PATH and its package can't be had: ${lastLine(error)}` };
  }
  const own = { prometheus: join(unpacked, 'prometheus'), promtool: join(unpacked, 'promtool') };
  if (spawnSync(own.prometheus, ['--version']).status === 0) return own;
  return { skipped: "the package's prometheus does not run here" };
}

/** One element of an instant vector. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  /** May be NaN. */
  readonly value: number;
}

export interface Rule {
  readonly name: string;
  readonly query: string;
  readonly type: 'alerting' | 'recording';
  readonly health: string;
  readonly lastError?: string;
}

export class Prometheus {
  readonly #url: string;
  readonly #process: ChildProcess;
  readonly #storage: string;

  private constructor(url: string, process: ChildProcess, storage: string) {
    this.#url = url;
    this.#process = process;
    this.#storage = storage;
  }

  /** Resolves when it answers; rejects with what it said when it ends before or takes too long. */
  static async start(binary: string, configFile: string): Promise<Prometheus> {
    const storage = mkdtempSync(join(tmpdir(), 'tensorwire-prometheus-'));
    const address = `127.0.0.1:${await freePort()}`;
    const args = [`--config.file=${configFile}`, `--storage.tsdb.path=${storage}`, `--web.listen-address=${address}`];
    const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
      said = (said + chunk).slice(-4000);
    });
    const own = new Prometheus(`http://${address}`, child, storage);
    const ready = async (): Promise<boolean> => {
      if (child.exitCode !== null) throw new Error(`prometheus ended with ${child.exitCode}: ${said}`);
      return (await fetch(`http://${address}/-/ready`).catch(() => undefined))?.ok === true;
    };
    try {
      await until(ready, START_MS, 'prometheus answers');
    } catch (error) {
      await own.stop();
      throw error;
    }
    return own;
  }

  /** The instant vector of `query`, now. */
  async query(query: string): Promise<Sample[]> {
    const { result } = await this.#get<{ result: { metric: Sample['metric']; value: [number, string] }[] }>(
      `query?query=${encodeURIComponent(query)}`,
    );
    return result.map(({ metric, value }) => ({ metric, value: Number(value[1]) }));
  }

  async labelValues(label: string, series: string): Promise<string[]> {
    return this.#get(`label/${label}/values?match[]=${encodeURIComponent(series)}`);
  }

  async rules(): Promise<Rule[]> {
    const { groups } = await this.#get<{ groups: { rules: Rule[] }[] }>('rules');
    return groups.flatMap(({ rules }) => rules);
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode === null) {
      const ended = once(this.#process, 'close');
      this.#process.kill('SIGTERM');
      const kill = setTimeout(() => this.#process.kill('SIGKILL'), STOP_MS);
      await ended;
      clearTimeout(kill);
    }
    rmSync(this.#storage, { recursive: true, force: true });
  }

  async #get<T>(path: string): Promise<T> {
    const response = await fetch(`${this.#url}/api/v1/${path}`, { signal: AbortSignal.timeout(QUERY_MS) });
    const answer = (await response.json()) as { status: string; data: T; error?: string };
    if (answer.status !== 'success') throw new Error(`prometheus answered ${answer.error}`);
    return answer.data;
  }
}

/** Asks until the answer is yes; rejects after `limitMs`. */
export async function until(question: () => Promise<boolean>, limitMs: number, what: string): Promise<void> {
  const end = Date.now() + limitMs;
  while (!(await question())) {
    if (Date.now() > end) throw new Error(`waited ${limitMs} ms until ${what}`);
    await wait(100);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
