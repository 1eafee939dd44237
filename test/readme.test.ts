/**
 * README.md is run: its blocks in order, as a newcomer would, against real servers; and what it says is compared with the code.
 *
 * Commands run in a directory that looks like a clone. Where a tool is missing on this machine (curl, grpcurl, tritonclient; its
 * Python may be named by TENSORWIRE_PYTHON), its blocks are skipped with a warning.
 */
import { execFile, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withTables } from '../docs/generate.js';
import { parsePbtxt } from '../src/base/pbtxt.js';
import { INFER_PHASES } from '../src/base/timeline.js';
import { SUPPORTED_NODE } from '../src/serving-node.js';
import { type ReadmeBlock, readmeBlocks } from './support/readme.js';
import { startServer, type TestServer } from './support/server.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const read = (file: string) => readFileSync(join(root, file), 'utf8');
const readme = read('README.md');
const manifest = JSON.parse(read('package.json')) as { scripts: Record<string, string>; version: string };
const python = process.env.TENSORWIRE_PYTHON ?? 'python3';
const path = `${join(root, 'node_modules/.bin')}${delimiter}${process.env.PATH}`;

/** Where the commands run. */
let clone: string;
/** The server that the block before started. */
let server: TestServer | undefined;

beforeAll(() => {
  clone = mkdtempSync(join(tmpdir(), 'tensorwire-readme-'));
  for (const name of ['node_modules', 'proto', 'models', 'dist', 'package.json'])
    symlinkSync(join(root, name), join(clone, name));
  const tls = join(root, 'test/fixtures/tls');
  for (const name of ['server.pem', 'server.key', 'authority.pem']) copyFileSync(join(tls, name), join(clone, name));
});
afterAll(async () => {
  await server?.stop();
  rmSync(clone, { recursive: true });
});

/** README's addresses are those of a server on its usual ports; ours runs on others. */
function here(text: string): string {
  const fields = { 8000: 'httpPort', 8001: 'grpcPort', 8002: 'metricsPort' } as const;
  return text.replace(/localhost:(800[012])/g, (_, port: '8000') => `127.0.0.1:${server![fields[port]]}`);
}

/** Runs a script as a terminal would; stdout. Rejects when a command fails, a curl that is answered with an error included. */
function shell(script: string): Promise<string> {
  const strict = `set -eu\ncurl() { command curl --fail-with-body "$@"; }\n${here(script)}`;
  return new Promise((resolve, reject) => {
    execFile(
      'bash',
      ['-o', 'pipefail', '-c', strict],
      { cwd: clone, env: { ...process.env, PATH: path } },
      (error, stdout, stderr) => {
        if (error) reject(new Error(`${error.message}\n${stdout}${stderr}`));
        else resolve(stdout);
      },
    );
  });
}

function isThere(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { env: { ...process.env, PATH: path } }).status === 0;
}

/** What a block needs beyond Node and a shell, where this machine lacks it. */
function lacking({ kind, text }: ReadmeBlock): string | undefined {
  if (kind === 'shell' && text.includes('curl ') && !isThere('curl', ['--version'])) return 'curl';
  if (kind === 'grpcurl' && !isThere('grpcurl', ['-version'])) return 'grpcurl';
  const client = 'import tritonclient.grpc, tritonclient.http';
  if (kind === 'script' && text.startsWith('python3') && !isThere(python, ['-c', client]))
    return `tritonclient in ${python}`;
  return undefined;
}

/** Options as README gives them, with its files where they are here and without its addresses. */
async function serve(command: string): Promise<void> {
  await server?.stop();
  server = undefined;
  const [, variables = '', rest = ''] = /^((?:[A-Z_]+=\S+ )*)(.*)$/s.exec(command)!;
  const env = Object.fromEntries(variables.split(' ').flatMap((one) => (one ? [one.split(/=(.*)/s).slice(0, 2)] : [])));
  const words = command.startsWith('npm') ? [] : rest.split(/\s+/).slice(2);
  const at = words.indexOf('--model-repository');
  const [, repository = 'models'] = at < 0 ? [] : words.splice(at, 2);
  const args = words.map((word) => (existsSync(join(clone, word)) ? join(clone, word) : word));
  server = await startServer({ repository: join(clone, repository), args, env });
  expect(server.stdout).toMatch(/^ {2}digits +1 {2}READY$/m);
  expect(server.stdout).not.toContain('UNAVAILABLE');
}

/** What comments behind `print` and `console.log` say that they print. */
function promisedBy(source: string): string[] {
  return [...source.matchAll(/^.*(?:print|console\.log)\(.*\);? +(?:#|\/\/) (.+)$/gm)].map((match) => match[1]!);
}

function expectScript(command: string): void {
  for (const part of command.split(' && ')) {
    const [, verb = '', name = ''] = part.split(' ');
    if (verb === 'ci' || verb === 'prune') continue;
    expect(Object.keys(manifest.scripts), command).toContain(verb === 'run' ? name : verb);
    const bench = /^npm run bench -- ([a-z][\w-]*)$/.exec(part)?.[1];
    if (bench) expect(read('bench/main.ts'), command).toContain(`from './${bench}.js'`);
  }
}

const blocks = readmeBlocks();
const replyOf = (block: ReadmeBlock) => blocks.find(({ kind, line }) => kind === 'reply' && line > block.line)!;
const savedAs = (name: string) => blocks.find(({ file }) => file === name);

async function run(block: ReadmeBlock): Promise<void> {
  const next = blocks[blocks.indexOf(block) + 1];
  switch (block.kind) {
    case 'serve':
      for (const command of block.commands) await serve(command);
      return;
    case 'help':
      expect(await shell(block.text)).toContain('--model-repository');
      return;
    case 'bench':
      // Less of the same: what counts is that it measures and concludes.
      expect(await shell(`${block.text.trim()} --concurrency 1 --rounds 1 --duration 0.2`)).toMatch(
        /^Verdict\n─+\nOf \d+ combinations? of model, payload and load, take \w/m,
      );
      return;
    case 'shell':
    case 'grpcurl': {
      const stdout = await shell(block.text);
      if (next?.kind === 'reply') expect(JSON.parse(stdout)).toEqual(JSON.parse(replyOf(block).text));
      return;
    }
    case 'file':
      mkdirSync(dirname(join(clone, block.file)), { recursive: true });
      writeFileSync(join(clone, block.file), here(block.text));
      return;
    case 'script':
      for (const command of block.commands) {
        const source = savedAs(command.split(' ').at(-1)!);
        expect(source, `${command}: no block is saved under that name`).toBeDefined();
        const promised = promisedBy(source!.text);
        expect(promised).not.toEqual([]);
        const stdout = await shell(command.replace(/^python3/, python).replace(/^npx /, ''));
        for (const text of promised) expect(stdout).toContain(text);
      }
      return;
    case 'fragment':
      expect(Object.keys(parsePbtxt(block.text))).not.toEqual([]);
      return;
    case 'npm':
      for (const command of block.commands) expectScript(command);
      return;
    case 'unit': {
      const help = await shell('node dist/main.js --help');
      for (const [flag] of block.text.matchAll(/ --[a-z-]+/g)) expect(help).toContain(flag);
      return;
    }
    case 'outside':
      for (const [file] of block.text.matchAll(/node_modules\/\S+/g))
        expect(existsSync(join(root, file)), file).toBe(true);
      return;
    case 'reply':
    case 'drawing':
      return;
    default:
      block.kind satisfies never;
  }
}

describe('the blocks of README.md, in order', () => {
  test.for(blocks)('line $line, $kind: $language works as it stands', async (block, { skip }) => {
    const tool = lacking(block);
    if (tool !== undefined) {
      console.warn(`README.md:${block.line} is NOT RUN, this machine has no ${tool}:\n${block.text}`);
      skip();
    }
    await run(block);
  });

  test('a server that is stopped by SIGTERM ends with 0, as the table of exit codes says', async () => {
    await serve('npm ci && npm start');
    expect(await server!.stop()).toBe(0);
    server = undefined;
  });

  test('a block of no known kind is an error', () => {
    expect(() => readmeBlocks('```sh\nrm -r /\n```\n')).toThrow('README.md:1: a block of no known kind');
    expect(() => readmeBlocks('```json\n{}\n```\n')).toThrow('no known kind');
    expect(() => readmeBlocks('```sh\ncurl x\nnpm test\n```\n')).toThrow('no known kind');
  });
});

describe('what README.md says of the code', () => {
  test('the generated tables are what `npm run docs` writes', () => {
    expect(unpadded(withTables(readme))).toBe(unpadded(readme));
    expect(manifest.scripts.docs).toContain('docs/generate.ts');
  });

  test('the example of Server-Timing has the phases in order, and they add up', () => {
    const example = /^server-timing: (.*)$/m.exec(readme)![1]!;
    const parts = example.split(', ').map((part) => /^(\w+);dur=([\d.]+)$/.exec(part)!);
    expect(parts.map(([, name]) => name)).toEqual([...INFER_PHASES, 'total']);
    const lengths = parts.map(([, , dur]) => Number(dur));
    const total = lengths.pop()!;
    expect(lengths.reduce((sum, length) => sum + length, 0)).toBeCloseTo(total, 2);
  });

  test('the metrics it names are those that are served', async () => {
    // Nobody collects the spans, but they are counted.
    const env = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' };
    const measured = await startServer({ repository: join(root, 'models'), env });
    const text = await (await fetch(`http://127.0.0.1:${measured.metricsPort}/metrics`)).text();
    await measured.stop();
    const served = [...text.matchAll(/^# TYPE ((?:nv_|tensorwire_|vllm:|rest_|grpc_)\w+)/gm)].map((match) => match[1]!);
    const named = [...readme.matchAll(/`((?:nv_|tensorwire_|vllm:|rest_|grpc_)\w*[a-z])`/g)]
      .map((match) => match[1]!)
      .filter((name) => !/^(rest_(json|binary)|grpc_(raw|typed))$/.test(name));
    expect([...new Set(named)].sort()).toEqual(served.sort());
  });

  test('the Nodes and the banner are those of the code', () => {
    expect(readme).toContain(`\`${SUPPORTED_NODE}\``);
    expect(readme).toContain(`tensorwire ${manifest.version}\n  gRPC     0.0.0.0:8001\n`);
  });
});

const documents = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...globSync('docs/*.md', { cwd: root })];

describe.each(documents)('%s', (document) => {
  const text = read(document);

  test('names only files that are there', () => {
    const named = [...text.matchAll(/\b(?:src|workers|test|proto|bench|docs)\/[\w./-]*\w/g)].map(([name]) => name);
    expect([...new Set(named)].filter((name) => !existsSync(join(root, name)))).toEqual([]);
  });

  test('links only to files and headings that are there', () => {
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map((match) => match[1]!)
      .filter((link) => !link.includes('://'));
    const broken = links.filter((link) => {
      const [file = '', heading] = link.split('#');
      const target = file === '' ? document : join(dirname(document), file);
      if (!existsSync(join(root, target))) return true;
      return heading !== undefined && !headingsOf(read(target)).includes(heading);
    });
    expect(broken).toEqual([]);
  });

  test('does not talk anything down', () => {
    expect(text.match(/\b(simply|just|blazing\w*|obviously)\b/gi) ?? []).toEqual([]);
  });
});

/** The formatter lines up the columns of tables; what they say is what counts. */
function unpadded(markdown: string): string {
  return markdown.replace(/ +\|/g, ' |').replace(/-{3,}/g, '---');
}

/** Anchors as GitHub makes them, and those that are set by hand. */
function headingsOf(markdown: string): string[] {
  const named = [...markdown.matchAll(/<a id="([^"]+)">/g)].map((match) => match[1]!);
  const headings = [...markdown.matchAll(/^#+ (.+)$/gm)].map((match) =>
    match[1]!
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
  return [...named, ...headings];
}
