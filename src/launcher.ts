/**
 * Runs the serving process: gives it the V8 flags it needs, hands signals on, and restarts it after a native death.
 *
 * Called by `main.ts`. Owns the child process and nothing else: it knows no model, no port and no protocol. Threads don't contain
 * native faults (a division in a graph can raise SIGFPE), so only a process outside can bring the server back.
 * Must run on the Nodes that `main.ts` accepts, older than those that serve.
 *
 *                 ┌───────── ready, then native death: restart at once, at most `restartLimit` times in 60 s ────────┐
 *                 ▼                                                                                                  │
 *     spawn ▶ starting ──{ready: true} over IPC──▶ serving ──────────────────────────────────────────────────────────┘
 *                 │ exits                             │ exits: its code is ours
 *                 ▼                                   ▼
 *               its code is ours          1st signal: handed on, exit within `forceAfterMs`; 2nd or overdue: SIGKILL, 1
 *
 * The server sees 'disconnect' when the launcher itself dies, and is then expected to drain and exit.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { onStopSignals, type StopSignal } from './stop-signals.js';

/** What the launcher needs of a log. */
export interface LauncherLog {
  error(fields: Readonly<Record<string, unknown>>, message: string): void;
}

export interface LaunchOptions {
  /** The Node that serves, and its own flags. */
  readonly execPath: string;
  readonly execArgs: readonly string[];
  readonly serverFile: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  /** Restarts within `RESTART_WINDOW_MS`; one native death more ends it. */
  readonly restartLimit: number;
  /** How long a graceful stop may take before it is forced. */
  readonly forceAfterMs: number;
  readonly log: LauncherLog;
}

/** What the server sends when it serves. `restartArgs` follow `args` at a restart: the ports it found, for example. */
export interface ReadyMessage {
  readonly ready: true;
  readonly restartArgs?: readonly string[];
}

export const RESTART_WINDOW_MS = 60_000;

/** Ends with the exit code that the launcher should have. */
export function launch(options: LaunchOptions): Promise<number> {
  const { restartLimit, forceAfterMs, log } = options;
  let child: ChildProcess;
  let restartArgs: readonly string[] = [];
  let isReady = false;
  let stopping: 'no' | 'graceful' | 'forced' = 'no';
  let overdue: NodeJS.Timeout | undefined;
  const restartsAtMs: number[] = [];

  return new Promise((resolve) => {
    const stopListening = onStopSignals({ graceful: stop, forced: (signal) => force(`a second signal (${signal})`) });
    start();

    function start(): void {
      isReady = false;
      child = spawn(options.execPath, [...options.execArgs, options.serverFile, ...options.args, ...restartArgs], {
        stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
        env: options.env,
      });
      child.on('message', (message) => {
        if (!isReadyMessage(message)) return;
        isReady = true;
        restartArgs = message.restartArgs ?? [];
      });
      child.on('error', (error) => {
        // Only a process that never came to be: one that runs reports by 'exit'.
        if (child.pid !== undefined) return;
        log.error({ reason: error.message }, 'the serving process could not be started');
        end(1);
      });
      child.once('exit', (code, signal) => {
        const exitCode = judge(code, signal);
        if (exitCode === undefined) start();
        else end(exitCode);
      });
    }

    /** The launcher's exit code after this death, or undefined for a restart. */
    function judge(code: number | null, signal: NodeJS.Signals | null): number | undefined {
      if (stopping === 'forced') return 1;
      // A server that had no handlers yet is ended by the signal itself: nothing was accepted, so that is a clean stop.
      if (stopping === 'graceful') return isStopSignal(signal) ? 0 : exitCodeOf(code, signal);
      if (!isReady || !isNativeDeath(code, signal)) return exitCodeOf(code, signal);
      const nowMs = performance.now();
      const fields = { death: signal ?? `exit code ${code}`, restartLimit };
      if (!mayRestart(restartsAtMs, nowMs, restartLimit)) {
        log.error(fields, 'the serving process died natively more than restart-limit times in 60 seconds: giving up');
        return 1;
      }
      restartsAtMs.push(nowMs);
      log.error(fields, 'the serving process died natively: starting it again');
      return undefined;
    }

    function stop(signal: StopSignal): void {
      stopping = 'graceful';
      overdue = setTimeout(() => force('the time to exit is over'), forceAfterMs);
      // A hang-up asks for the same, and the server then needs one handler less.
      child.kill(signal === 'SIGHUP' ? 'SIGTERM' : signal);
    }

    function force(reason: string): void {
      if (stopping === 'forced') return;
      stopping = 'forced';
      log.error({ reason }, 'the serving process is killed');
      child.kill('SIGKILL');
    }

    function end(code: number): void {
      clearTimeout(overdue);
      stopListening();
      resolve(code);
    }
  });
}

/** Whether one more restart is allowed: fewer than `limit` in the last minute. */
export function mayRestart(restartsAtMs: readonly number[], nowMs: number, limit: number): boolean {
  return restartsAtMs.filter((atMs) => nowMs - atMs < RESTART_WINDOW_MS).length < limit;
}

const NATIVE_SIGNALS = new Set(['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGKILL', 'SIGSEGV', 'SIGSYS']);
const SHELL_OFFSET = 128;

/**
 * Whether a death was the native code's (or the memory killer's, or the server's own watchdog's) rather than the server's decision:
 * by signal, or by the exit codes that stand for one (134 is abort() on Windows too, where faults are above 0xC0000000).
 */
export function isNativeDeath(code: number | null, signal: NodeJS.Signals | null): boolean {
  if (signal !== null) return NATIVE_SIGNALS.has(signal);
  if (code === null || code >= 0xc0000000) return true;
  return [...NATIVE_SIGNALS].some((name) => code === SHELL_OFFSET + signalNumber(name as NodeJS.Signals));
}

/** A child's end as an exit code, by the shell's rule for signals. */
export function exitCodeOf(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? SHELL_OFFSET + signalNumber(signal ?? 'SIGKILL');
}

function signalNumber(signal: NodeJS.Signals): number {
  return constants.signals[signal] ?? 0;
}

function isStopSignal(signal: NodeJS.Signals | null): boolean {
  return signal === 'SIGTERM' || signal === 'SIGINT' || signal === 'SIGHUP';
}

function isReadyMessage(message: unknown): message is ReadyMessage {
  return typeof message === 'object' && message !== null && (message as { ready?: unknown }).ready === true;
}
