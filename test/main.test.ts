import { execFile, spawnSync } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { canServe, findServingNode, SUPPORTED_NODE } from '../src/serving-node.js';
import { v8Flags } from '../src/v8-flags.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** A copy of the built package whose server only tells how it was started and exits with 42. */
let copy: string;
beforeAll(() => {
  copy = realpathSync(mkdtempSync(join(tmpdir(), 'tensorwire-main-')));
  cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
  cpSync(join(root, 'package.json'), join(copy, 'package.json'));
  mkdirSync(join(copy, 'models'));
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'junction');
  const told =
    '{ version, execArgv, argv: argv.slice(2), telemetry: env.ORT_DISABLE_TELEMETRY, canTell: !!process.send }';
  writeFileSync(
    join(copy, 'dist', 'server.js'),
    `const { version, execArgv, argv, env } = process;\nconsole.log(JSON.stringify(${told}));\nprocess.exit(42);\n`,
  );
});
afterAll(() => rmSync(copy, { recursive: true }));

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

function run(
  args: string[],
  env: object = {},
  node = process.execPath,
  home = copy,
  flags: string[] = [],
): Promise<Outcome> {
  return new Promise((resolve) => {
    const file = join(home, 'dist', 'main.js');
    execFile(node, [...flags, file, ...args], { env: { ...process.env, ...env } }, (error, stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stdout, stderr });
    });
  });
}

/** A Node on this machine that is too old to serve, such as the one that the system came with. */
function findOldNode(): string | undefined {
  for (const directory of (process.env.PATH ?? '').split(delimiter)) {
    const candidate = join(directory, process.platform === 'win32' ? 'node.exe' : 'node');
    const { stdout } = spawnSync(candidate, ['--version'], { encoding: 'utf8' });
    if (/^v(18|20)\./.test(stdout ?? '')) return candidate;
  }
  return undefined;
}

describe('the command', () => {
  test('--help and --version answer on stdout and start nothing', async () => {
    const help = await run(['--help']);
    expect(help).toMatchObject({ code: 0, stderr: '' });
    expect(help.stdout).toContain('--model-repository');
    expect(await run(['--version'])).toEqual({ code: 0, stderr: '', stdout: `tensorwire ${manifest.version}\n` });
  });

  test('a bad option is one line on stderr and exit code 1', async () => {
    expect(await run(['--http-port=abc'])).toEqual({
      code: 1,
      stdout: '',
      stderr: 'tensorwire: option --http-port: "abc" must be a port from 0 to 65535 (0 takes any free one)\n',
    });
  });

  test('a bad variable is one line on stderr and exit code 1', async () => {
    const { code, stdout, stderr } = await run([], { TENSORWIRE_LOG_LEVEL: 'loud' });
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^tensorwire: option --log-level: "loud" from TENSORWIRE_LOG_LEVEL must be one of .*\n$/);
  });

  test('the server gets the arguments, the V8 flag, a way to talk back and no telemetry; its exit code is ours', async () => {
    const { code, stdout } = await run(['--http-port=0', '--initial-old-space-size-mb=64']);
    expect(code).toBe(42);
    expect(JSON.parse(stdout)).toMatchObject({
      argv: ['--http-port=0', '--initial-old-space-size-mb=64'],
      execArgv: expect.arrayContaining(['--initial-old-space-size=64']),
      telemetry: '1',
      canTell: true,
    });
  });

  test('flags of Node are handed on, and 0 MiB leaves V8 as it is', async () => {
    const { stdout } = await run(['--initial-old-space-size-mb=0'], {}, process.execPath, copy, [
      '--max-old-space-size=900',
    ]);
    expect(JSON.parse(stdout).execArgv).toEqual(['--max-old-space-size=900']);
  });
});

describe('which Node serves', () => {
  test.each([
    ['v22.23.2', true],
    ['22.23.3', true],
    ['v22.24.0', true],
    ['v22.23.1', false],
    ['v22.22.9', false],
    ['v23.11.0', false],
    ['v24.18.1', true],
    ['v24.18.0', false],
    ['v25.9.0', false],
    ['v26.5.1', true],
    ['v26.5.0', false],
    ['v27.0.0', true],
    ['v20.20.2', false],
    ['v18.0.0', false],
    ['v26.10.0-nightly20260101', true],
  ])('%s: %s', (version, serves) => expect(canServe(version)).toBe(serves));

  test('the rule is that of package.json', () => {
    expect(SUPPORTED_NODE).toBe(manifest.engines.node);
  });

  test('every Node pinned in package.json can serve and is looked for on its platform', () => {
    const pinned = Object.entries<string>(manifest.optionalDependencies).filter(([name]) => name.startsWith('node-'));
    const platforms = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64', 'win32-x64'];
    expect(pinned.map(([, version]) => canServe(version))).toEqual(platforms.map(() => true));
    const advised = platforms.map((platform) => {
      const node = findServingNode({
        version: 'v20.0.0',
        execPath: 'node',
        platform,
        from: join(tmpdir(), 'nowhere.js'),
      });
      return node.ok ? '' : /\((node-[\w-]+)\)$/.exec(node.advice)?.[1];
    });
    expect(advised.toSorted()).toEqual(pinned.map(([name]) => name).toSorted());
  });

  test('a Node that is new enough serves itself', () => {
    const node = findServingNode({
      version: 'v24.21.0',
      execPath: '/n',
      platform: 'plan9-mips',
      from: import.meta.url,
    });
    expect(node).toEqual({ ok: true, execPath: '/n', version: 'v24.21.0' });
  });

  test('an old Node on a platform without a pinned one is told what to do', () => {
    const node = findServingNode({ version: 'v20.1.0', execPath: '/n', platform: 'plan9-mips', from: import.meta.url });
    expect(node).toEqual({
      ok: false,
      advice: `tensorwire: Node v20.1.0 is too old to serve: install Node ${SUPPORTED_NODE}`,
    });
  });
});

describe('V8 flags', () => {
  const { execPath, version } = process;

  test('a flag that this Node does not know is left out, so that it starts all the same', () => {
    // Claims a version whose second flag the Node that runs this test may lack.
    const flags = v8Flags({ execPath, version: 'v24.0.0', initialOldSpaceSizeMb: 128, own: [] });
    expect(flags[0]).toBe('--initial-old-space-size=128');
    expect(spawnSync(execPath, [...flags, '--version']).status).toBe(0);
  });

  test('the inspector stays with the launcher', () => {
    expect(v8Flags({ execPath, version, initialOldSpaceSizeMb: 0, own: ['--inspect=0', '--no-warnings'] })).toEqual([
      '--no-warnings',
    ]);
  });
});

const oldNode = findOldNode();
if (oldNode === undefined) console.warn('no Node 18 or 20 on PATH: what an old Node does is not tested here');

describe.runIf(oldNode !== undefined)('under a Node that is too old', () => {
  test('options are answered all the same', async () => {
    expect(await run(['--version'], {}, oldNode)).toEqual({
      code: 0,
      stderr: '',
      stdout: `tensorwire ${manifest.version}\n`,
    });
    expect(await run(['--bogus'], {}, oldNode)).toMatchObject({ code: 1, stdout: '' });
  });

  test('the pinned Node serves', async () => {
    const { code, stdout, stderr } = await run([], {}, oldNode);
    expect({ code, stderr }).toEqual({ code: 42, stderr: '' });
    const told = JSON.parse(stdout);
    expect(canServe(told.version)).toBe(true);
    expect(told.execArgv).toContain('--initial-old-space-size=512');
  });

  test('without the pinned one it says what to do in one line and exits with 1', async () => {
    const bare = mkdtempSync(join(tmpdir(), 'tensorwire-bare-'));
    cpSync(join(copy, 'dist'), join(bare, 'dist'), { recursive: true });
    cpSync(join(copy, 'package.json'), join(bare, 'package.json'));
    try {
      const { code, stdout, stderr } = await run(['--version'], {}, oldNode, bare);
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(/^tensorwire: Node v\d+\.\d+\.\d+ is too old to serve: install Node .*\n$/);
    } finally {
      rmSync(bare, { recursive: true });
    }
  });
});
