/**
 * Runs the real server as users do, in a process of its own, for end-to-end tests.
 *
 * Called by tests and benches after a build. Owns the process it starts and signals no other. Free ports are taken on 127.0.0.1
 * and read from the banner, so any number of servers can run at once.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

export interface ServerOptions {
  /** Directory of the model repository. */
  readonly repository: string;
  /** Further arguments; they come last, so they win over the ones given here. */
  readonly args?: readonly string[];
  /** Variables added to this process's own; undefined takes one away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Out of reach of the terminal's Ctrl-C, for who has to stop it in order. */
  readonly detached?: boolean;
}

export interface ServerExit {
  /** Exit status, or null when a signal ended the process. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface TestServer {
  /** 0 where the arguments say `--allow-grpc false` and so on. */
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly metricsPort: number;
  /** The launcher, which hands signals on to the serving process. */
  readonly process: ChildProcess;
  /** Everything written so far, without colours. */
  readonly stdout: string;
  readonly stderr: string;
  readonly exited: Promise<ServerExit>;
  /** The first match in stdout or stderr, at once or when it comes; rejects when the process ends without. */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  /** SIGTERM, then waits for the end; resolves with the exit status, also when the process had ended before. */
  stop(): Promise<number | null>;
}

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** Lines of the banner: what stands before the address, and the switch that leaves the line out. Only whole lines count. */
const LINES = [
  { key: 'grpcPort', pattern: /^ *gRPC +\S*:(\d+).*\n/m, flag: 'allow-grpc' },
  { key: 'httpPort', pattern: /^ *REST +\S*:(\d+).*\n/m, flag: 'allow-http' },
  { key: 'metricsPort', pattern: /^ *metrics +\S*:(\d+).*\n/m, flag: 'allow-metrics' },
] as const;

/** Resolves when the banner has named every port; rejects with what stderr holds when the process ends before. */
export async function startServer(options: ServerOptions): Promise<TestServer> {
  const addresses = ['grpc', 'http', 'metrics'].flatMap((name) => [
    `--${name}-port`,
    '0',
    `--${name}-address`,
    '127.0.0.1',
  ]);
  const args = [MAIN, '--model-repository', options.repository, ...addresses, ...(options.args ?? [])];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, ORT_DISABLE_TELEMETRY: '1', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: options.detached ?? false,
  });
  const output = collect(child);
  const ports = { grpcPort: 0, httpPort: 0, metricsPort: 0 };
  const allowed = options.args?.join(' ') ?? '';
  for (const { key, pattern, flag } of LINES) {
    if (!new RegExp(`--${flag}[= ]false`).test(allowed)) ports[key] = Number((await output.waitFor(pattern))[1]);
  }
  return {
    ...ports,
    process: child,
    get stdout() {
      return output.text.stdout;
    },
    get stderr() {
      return output.text.stderr;
    },
    exited: output.exited,
    waitFor: output.waitFor,
    async stop() {
      child.kill('SIGTERM');
      return (await output.exited).code;
    },
  };
}

/** Gathers a process's output and lets callers wait for some of it. */
function collect(child: ChildProcess) {
  const text = { stdout: '', stderr: '' };
  const waiting = new Set<() => void>();
  let failure: Error | undefined;
  const wake = (): void => {
    for (const check of waiting) check();
  };
  for (const name of ['stdout', 'stderr'] as const) {
    child[name]!.setEncoding('utf8').on('data', (chunk: string) => {
      text[name] += stripVTControlCharacters(chunk);
      wake();
    });
  }
  // A test that fails without stop() must not leave a server behind.
  const orphan = (): void => void child.kill('SIGTERM');
  process.once('exit', orphan);
  const exited = new Promise<ServerExit>((resolve) => {
    const end = (code: number | null, signal: NodeJS.Signals | null): void => {
      process.off('exit', orphan);
      failure ??= new Error(
        `server ended with ${signal ?? `status ${code}`}: ${text.stderr.trim() || text.stdout.trim()}`,
      );
      resolve({ code, signal });
      wake();
    };
    child.once('error', (error) => {
      failure = error;
      end(null, null);
    });
    // 'close', not 'exit': by then all output has come.
    child.once('close', end);
  });
  const waitFor = (pattern: RegExp): Promise<RegExpExecArray> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        const match = pattern.exec(text.stdout) ?? pattern.exec(text.stderr);
        if (match === null && failure === undefined) return;
        waiting.delete(check);
        if (match !== null) resolve(match);
        else reject(failure);
      };
      waiting.add(check);
      check();
    });
  return { text, exited, waitFor };
}
