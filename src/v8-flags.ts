/**
 * The flags with which V8 collects less garbage under large messages.
 *
 * Called by `main.ts`. Owns no process but the short probe of a flag. Why: the old generation starts tiny, and the external
 * memory of each message then forces full collections, a third of all CPU at 100 KB and more. The flags work on the command line only:
 * NODE_OPTIONS rejects them, and set at run time they do nothing.
 */

import { spawnSync } from 'node:child_process';

export interface FlagWish {
  /** The Node that will serve. */
  readonly execPath: string;
  readonly version: string;
  /** 0: leave V8 as it is. */
  readonly initialOldSpaceSizeMb: number;
  /** The flags that this process was started with: they are handed on, and come last, so that they win. */
  readonly own: readonly string[];
}

/** Flags for the serving process. */
export function v8Flags({ execPath, version, initialOldSpaceSizeMb, own }: FlagWish): string[] {
  // The inspector's port is already taken by this process; to debug the server, start dist/server.js itself.
  const handedOn = own.filter((flag) => !flag.startsWith('--inspect'));
  if (initialOldSpaceSizeMb === 0) return handedOn;
  const flags = [`--initial-old-space-size=${initialOldSpaceSizeMb}`];
  // From Node 24 on young buffers outlive the scavenger (node#61967, node#63863) unless their bytes count globally.
  if (Number.parseInt(version.replace(/^v/, ''), 10) >= 24) flags.push('--external-memory-accounted-in-global-limit');
  return [...flags.filter((flag) => isAccepted(execPath, flag)), ...handedOn];
}

/** V8 renames its flags without notice, and a flag that it does not know keeps Node from starting (a few milliseconds). */
function isAccepted(execPath: string, flag: string): boolean {
  return spawnSync(execPath, [flag, '--version'], { stdio: 'ignore' }).status === 0;
}
