/**
 * What SIGTERM, SIGINT and SIGHUP mean: the first asks for a graceful stop, a later one forces it.
 *
 * Called by `launcher.ts`, which owns the counting, and by `server.ts`. One Ctrl-C reaches the launcher and the server at once
 * (they share the terminal), and a service manager may signal both; so a server that has a launcher takes every signal as
 * the same wish and leaves forcing to the launcher, which ends it by SIGKILL.
 *
 *     terminal, systemd, kubelet ──SIGTERM──▶ launcher ──1st: SIGTERM──▶ server   drains, exits 0
 *                         └──────SIGTERM (maybe)─────────────────────▶   `        the same wish, once more
 *     again                   ──SIGTERM──▶ launcher ──2nd: SIGKILL──▶ server      exit 1
 */

export const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGHUP'] as const;
export type StopSignal = (typeof STOP_SIGNALS)[number];

export interface StopHandlers {
  /** The first signal. Called once. */
  graceful(signal: StopSignal): void;
  /** Each later signal that is meant as one. Left out: later signals change nothing. */
  forced?(signal: StopSignal): void;
}

/** Under npm or npx one Ctrl-C arrives twice: from the terminal and handed on by npm. No thumb is this quick. */
export const SAME_KEYSTROKE_MS = 200;

/** What a signal means after `previous`, both with their time in milliseconds. */
export function meaningOf(
  signal: { readonly name: StopSignal; readonly atMs: number },
  previous?: { readonly name: StopSignal; readonly atMs: number },
): 'graceful' | 'forced' | 'same' {
  if (previous === undefined) return 'graceful';
  const isEcho =
    signal.name === 'SIGINT' && previous.name === 'SIGINT' && signal.atMs - previous.atMs < SAME_KEYSTROKE_MS;
  return isEcho ? 'same' : 'forced';
}

/** Listens until the process ends, or until the returned function is called. */
export function onStopSignals({ graceful, forced }: StopHandlers): () => void {
  let previous: { name: StopSignal; atMs: number } | undefined;
  const listener = (name: StopSignal): void => {
    const signal = { name, atMs: performance.now() };
    const meaning = meaningOf(signal, previous);
    previous = signal;
    if (meaning === 'graceful') graceful(name);
    if (meaning === 'forced') forced?.(name);
  };
  for (const name of STOP_SIGNALS) process.on(name, listener);
  return () => {
    for (const name of STOP_SIGNALS) process.off(name, listener);
  };
}
