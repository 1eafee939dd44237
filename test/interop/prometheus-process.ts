/**
 * Prometheus and promtool: found, or taken from Debian's package without installing it; and one running Prometheus that can be asked.
 *
 * Called by `prometheus.ts`. Owns `.venv/prometheus` at the root of the repository and the process it starts. Every wait is bounded, by far
 * more than any machine takes: the bounds end what hangs and judge no speed.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { lastLine } from './python.js';

const FOLDER = fileURLToPath(new URL('../../.venv/prometheus', import.meta.url));
const START_MS = 120_000;
const QUERY_MS = 60_000;
const STOP_MS = 60_000;

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

/** What it logs when it has its port. */
const LISTENS = /"Listening on".* address=127\.0\.0\.1:(\d+)/;

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
  /** Empty until it has said which port it was given. */
  #url = '';
  readonly #process: ChildProcess;
  readonly #storage: string;

  private constructor(process: ChildProcess, storage: string) {
    this.#process = process;
    this.#storage = storage;
  }

  /** Resolves when it answers; rejects with what it said when it ends before or takes too long. */
  static async start(binary: string, configFile: string): Promise<Prometheus> {
    const storage = mkdtempSync(join(tmpdir(), 'tensorwire-prometheus-'));
    const args = [`--config.file=${configFile}`, `--storage.tsdb.path=${storage}`, '--web.listen-address=127.0.0.1:0'];
    const child = spawn(binary, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const own = new Prometheus(child, storage);
    let said = '';
    child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
      said = (said + chunk).slice(-4000);
      const port = LISTENS.exec(said)?.[1];
      if (port !== undefined) own.#url = `http://127.0.0.1:${port}`;
    });
    const ready = async (): Promise<boolean> => {
      if (child.exitCode !== null) throw new Error(`prometheus ended with ${child.exitCode}: ${said}`);
      return own.#url !== '' && (await fetch(`${own.#url}/-/ready`).catch(() => undefined))?.ok === true;
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

/** Looks until nothing is wrong any more; rejects with what is still wrong after `limitMs`. */
export async function eventually(look: () => Promise<void>, limitMs: number): Promise<void> {
  const end = Date.now() + limitMs;
  for (;;) {
    try {
      return await look();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
    await wait(250);
  }
}
