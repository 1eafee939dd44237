#!/usr/bin/env node
/**
 * The command `tensorwire`: checks Node and the options, then launches the serving process and becomes its exit code.
 *
 * Called by people and containers as `node dist/main.js`. Nothing starts before the options are right: `--help` and `--version` end
 * with 0, anything wrong with one line on stderr and 1. Only `serving-node.ts` is imported at once: it says in plain words what an
 * older Node would otherwise say in a syntax error. Must not serve: that is `server.ts`, in a process of its own. `tensorwire bench`
 * launches nothing: it asks a server that is there, and ends as `bench/command.ts` says.
 */

import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { findServingNode, type ServingNode } from './serving-node.js';

const node = findServingNode({
  version: process.version,
  execPath: process.execPath,
  platform: `${process.platform}-${process.arch}`,
  from: import.meta.url,
});
if (node.ok) {
  if (process.env.npm_lifecycle_event) stopWithShell();
  process.exitCode = await run(node, process.argv.slice(2));
} else {
  process.stderr.write(`${node.advice}\n`);
  process.exitCode = 1;
}

async function run({ execPath, version }: ServingNode & { ok: true }, argv: readonly string[]): Promise<number> {
  if (argv[0] === 'bench') return bench(execPath, argv.slice(1));
  const { ConfigAnswer, ConfigError, parseConfig } = await import('./base/config.js');
  const { createLog, guardStandardStreams } = await import('./base/log.js');
  guardStandardStreams();
  try {
    const config = parseConfig(argv, process.env);
    const { launch } = await import('./launcher.js');
    const { v8Flags } = await import('./v8-flags.js');
    return await launch({
      execPath,
      execArgs: v8Flags({
        execPath,
        version,
        initialOldSpaceSizeMb: config.initialOldSpaceSizeMb,
        own: process.execArgv,
      }),
      serverFile: fileURLToPath(new URL('./server.js', import.meta.url)),
      args: argv,
      // Who has set these knows better.
      env: {
        ...allocatorSettings(config.modelMemoryBudget > 0),
        // Pictures are decoded in libuv's threads, beside compression and files; they are asked for one at a time by each worker.
        UV_THREADPOOL_SIZE: String(4 + (config.preprocessWorkerCount || Math.ceil(availableParallelism() / 2))),
        ...process.env,
        // ONNX Runtime reports to its makers unless told not to before it is loaded.
        ORT_DISABLE_TELEMETRY: '1',
      },
      restartLimit: config.restartLimit,
      // The server ends itself after exit-timeout-secs; this is for one that no longer can.
      forceAfterMs: config.exitTimeoutSecs * 1000 + 5000,
      log: createLog({ level: config.logLevel, format: config.logFormat }),
    });
  } catch (error) {
    if (error instanceof ConfigAnswer) {
      process.stdout.write(error.text);
      return 0;
    }
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`tensorwire: ${error.message}\n`);
    return 1;
  }
}

/** The benchmark of any server, on the Node that serves. */
async function bench(execPath: string, argv: readonly string[]): Promise<number> {
  const { onStopSignals, STOP_SIGNALS } = await import('./stop-signals.js');
  if (execPath === process.execPath) {
    const { benchCommand, INTERRUPTED } = await import('./bench/command.js');
    const interrupt = new AbortController();
    onStopSignals({ graceful: () => interrupt.abort(), forced: () => process.exit(INTERRUPTED) });
    const code = await benchCommand(argv, interrupt.signal);
    // What still waits for a server that is silent would keep the process.
    if (interrupt.signal.aborted) process.exit(code);
    return code;
  }
  const { spawn } = await import('node:child_process');
  const child = spawn(execPath, [fileURLToPath(import.meta.url), 'bench', ...argv], { stdio: 'inherit' });
  // Ctrl-C reaches it as well; that one keystroke comes twice is known there.
  for (const name of STOP_SIGNALS) process.on(name, () => child.kill(name));
  return new Promise((resolve) => child.once('exit', (code) => resolve(code ?? 1)));
}

/**
 * glibc gives memory of a megabyte back to the system at each free and takes it anew at the next tensor, page by page; kept, it saves the
 * workers CPU at that size (500 to 300-350 us a request in most runs). Under a memory budget that price is paid: memory of a model that
 * was unloaded must be given back, and what the next one costs is measured by what the process takes anew (src/engine/residency.ts).
 */
function allocatorSettings(givesBack: boolean): Record<string, string> {
  return givesBack
    ? { MALLOC_MMAP_THRESHOLD_: '131072', MALLOC_TRIM_THRESHOLD_: '131072' }
    : { MALLOC_MMAP_THRESHOLD_: '33554432', MALLOC_TRIM_THRESHOLD_: '268435456' };
}

/** Under `npm start` a shell stands between npm and this process and dies of a signal without handing it on. */
function stopWithShell(): void {
  const shell = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === shell) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, 500);
  timer.unref();
}
