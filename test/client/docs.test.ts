/**
 * docs/client.md is run: its servers and programs in order, as a reader would, and every promise in a comment is looked for in what
 * the program prints. Its programs are type-checked as strictly as the compiler can.
 */
import { execFile } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ReadmeBlock, readmeBlocks } from '../support/readme.js';
import { startServer, type TestServer } from '../support/server.js';

const root = join(import.meta.dirname, '../..');
const text = readFileSync(join(root, 'docs/client.md'), 'utf8');
const { version, scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  scripts: Record<string, string>;
};
const blocks = readmeBlocks(text);
const project = mkdtempSync(join(tmpdir(), 'tensorwire-docs-'));
const env = { ...process.env, PATH: `${join(root, 'node_modules/.bin')}${delimiter}${process.env.PATH}` };
/** By the first digit of their ports in the document. */
const servers = new Map<string, TestServer>();

beforeAll(() => {
  mkdirSync(join(project, 'node_modules/@types'), { recursive: true });
  symlinkSync(root, join(project, 'node_modules/tensorwire'));
  for (const name of ['@types/node', 'undici-types']) {
    symlinkSync(join(root, 'node_modules', name), join(project, 'node_modules', name));
  }
  writeFileSync(join(project, 'package.json'), '{"type":"module"}');
  for (const name of ['server.pem', 'server.key', 'authority.pem', 'client.pem', 'client.key']) {
    copyFileSync(join(root, 'test/fixtures/tls', name), join(project, name));
  }
});
afterAll(async () => {
  await Promise.all([...servers.values()].map((server) => server.stop()));
  rmSync(project, { recursive: true });
});

async function run(command: string, args: readonly string[]): Promise<string> {
  try {
    return (await promisify(execFile)(command, args, { cwd: project, env })).stdout;
  } catch (error) {
    const { message, stdout } = error as Error & { stdout: string };
    throw new Error(`${message}\n${stdout}`);
  }
}

/** The document's ports are the usual ones, ours are free ones. */
function here(source: string): string {
  return source.replace(/localhost:([89])00([01])/g, (_, first: string, last: string) => {
    const { httpPort, grpcPort } = servers.get(first)!;
    return `localhost:${last === '0' ? httpPort : grpcPort}`;
  });
}

/** Starts what a block says, in the place of the server that had its ports. */
async function serve(command: string): Promise<void> {
  const words = command.split(/\s+/).slice(2);
  const first = words.includes('--http-port') ? '9' : '8';
  await servers.get(first)?.stop();
  const args = words
    .filter((word, index) => !/-port$/.test(word) && !/-port$/.test(words[index - 1] ?? ''))
    .map((word) => (existsSync(join(project, word)) ? join(project, word) : word));
  servers.set(first, await startServer({ repository: join(root, 'models'), args: ['--log-level', 'error', ...args] }));
}

function expectScript(command: string): void {
  for (const part of command.split(' && ')) {
    const name = /^npm run (\w+)$/.exec(part)?.[1];
    const install = `npm install --ignore-scripts ../tensorwire/tensorwire-${version}.tgz`;
    if (name) expect(Object.keys(scripts)).toContain(name);
    else expect(['npm ci', 'npm pack', install]).toContain(part);
  }
}

/** What comments behind `console.log` say that it prints. */
function promisedBy(source: string): string[] {
  return [...source.matchAll(/^.*console\.log\(.*\); \/\/ (.+)$/gm)].map((match) => match[1]!);
}

async function runScript(block: ReadmeBlock): Promise<void> {
  const name = block.text.trim().split(' ').at(-1)!;
  const source = blocks.find(({ file }) => file === name);
  expect(source, `no block is saved as ${name}`).toBeDefined();
  const stdout = await run('tsx', [name]);
  const promised = promisedBy(source!.text);
  expect(promised).not.toEqual([]);
  for (const line of promised) expect(stdout).toContain(line);
}

test.for(blocks)('line $line, $kind: $file works as it stands', async (block) => {
  switch (block.kind) {
    case 'npm':
      for (const command of block.commands) expectScript(command);
      return;
    case 'serve':
      for (const command of block.commands) await serve(command);
      return;
    case 'file':
      writeFileSync(join(project, block.file), here(block.text));
      return;
    case 'script':
      await runScript(block);
      return;
    case 'drawing':
      return;
    default:
      expect.unreachable(`${block.kind} in docs/client.md`);
  }
});

test('every program type-checks, and none is left unrun', async () => {
  const files = blocks.filter(({ kind }) => kind === 'file').map(({ file }) => file);
  const ran = blocks.filter(({ kind }) => kind === 'script').map((block) => block.text.trim().split(' ').at(-1));
  expect(files.filter((file) => !ran.includes(file))).toEqual([]);
  const compilerOptions = {
    target: 'es2023',
    module: 'nodenext',
    strict: true,
    exactOptionalPropertyTypes: true,
    noUncheckedIndexedAccess: true,
    types: ['node'],
    noEmit: true,
  };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files }));
  await run('tsc', ['-p', '.']);
});

test('the options it lists are those of the types', () => {
  const types = readFileSync(join(root, 'src/client/types.ts'), 'utf8');
  const members = (name: string) =>
    [...new RegExp(`interface ${name} \\{\\n(.*?)\\n\\}`, 's').exec(types)![1]!.matchAll(/^ {2}readonly (\w+)/gm)].map(
      (match) => match[1]!,
    );
  const listed = [...text.matchAll(/^\| `(\w+)`( \*)? +\|/gm)];
  const section = listed.filter((match) => match.index > text.indexOf('\n## Options\n'));
  expect(new Set(section.map((match) => match[1]))).toEqual(
    new Set([...members('ClientOptions'), ...members('CallOptions')]),
  );
  expect(new Set(section.filter((match) => match[2]).map((match) => match[1]))).toEqual(
    new Set(members('CallOptions')),
  );
});
