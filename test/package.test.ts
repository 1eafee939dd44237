/**
 * What `npm pack` makes, used as a stranger would: in a project of its own, with nothing but the packages it says it needs.
 *
 * No network: the tarball is unpacked where npm would put it, and its dependencies are links to those that are installed here.
 */
import { execFile } from 'node:child_process';
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startServer, type TestServer } from './support/server.js';

const root = join(import.meta.dirname, '..');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
  dependencies: Record<string, string>;
};
const project = mkdtempSync(join(tmpdir(), 'tensorwire-package-'));
const tarballs = mkdtempSync(join(tmpdir(), 'tensorwire-tarball-'));
const env = { ...process.env, PATH: `${join(root, 'node_modules/.bin')}${delimiter}${process.env.PATH}` };
let packed: string[] = [];
let server: TestServer;

/** Runs a command in the project; what it printed. */
async function run(command: string, ...args: string[]): Promise<string> {
  try {
    return (await promisify(execFile)(command, args, { cwd: project, env, maxBuffer: 1 << 26 })).stdout;
  } catch (error) {
    const { message, stdout } = error as Error & { stdout: string };
    throw new Error(`${message}\n${stdout}`);
  }
}

const write = (name: string, text: string) => writeFileSync(join(project, name), text);

/** A link to a package that is installed here. */
function link(name: string): void {
  const path = join(project, 'node_modules', name);
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(join(root, 'node_modules', name), path);
}

beforeAll(async () => {
  write('package.json', JSON.stringify({ name: 'fresh', version: '1.0.0', type: 'module' }));
  const [answer] = JSON.parse(
    await run('npm', 'pack', root, '--ignore-scripts', '--json', '--silent', '--pack-destination', tarballs),
  ) as [{ filename: string; files: { path: string }[] }];
  packed = answer.files.map(({ path }) => path);
  await run('tar', '-xzf', join(tarballs, answer.filename), '-C', tarballs);
  cpSync(join(tarballs, 'package'), join(project, 'node_modules/tensorwire'), { recursive: true });
  for (const name of Object.keys(manifest.dependencies)) link(name);
  server = await startServer({ repository: join(root, 'models'), args: ['--log-level', 'error'] });
});
afterAll(async () => {
  await server?.stop();
  for (const directory of [project, tarballs]) rmSync(directory, { recursive: true, force: true });
});

test('it holds what is run and nothing that only builds or tests it', () => {
  for (const file of ['dist/main.js', 'dist/client/client.js', 'dist/client/client.d.ts', 'README.md', 'LICENSE']) {
    expect(packed).toContain(file);
  }
  const foreign = packed.filter(
    (file) => !/^(dist|proto|models)\//.test(file) && !['README.md', 'LICENSE', 'package.json'].includes(file),
  );
  expect(foreign).toEqual([]);
  expect(packed.filter((file) => /(?<!\.d)\.ts$|\.test\.|\/(test|node_modules)\//.test(file))).toEqual([]);
});

test('every source is in it as a module with its types', () => {
  const built = [
    ...globSync('src/**/*.ts', { cwd: root }).map((file) => file.slice('src/'.length)),
    ...globSync('workers/**/*.ts', { cwd: root }),
  ].flatMap((file) => ['js', 'd.ts'].map((ending) => `dist/${file.slice(0, -'ts'.length)}${ending}`));
  expect(built.length).toBeGreaterThan(300);
  expect(built.filter((file) => !packed.includes(file))).toEqual([]);
});

/** The same program for both protocols, typed as strictly as the compiler can. */
const PROGRAM = `
import { type Budget, ClientError, type ClientOptions, connect, type InferAnswer, type TensorData } from 'tensorwire/client';

async function sum(options: ClientOptions): Promise<string> {
  const client = connect(options);
  const data = Int32Array.from({ length: 16 }, (_, i) => i);
  const answer: InferAnswer = await client.infer({
    model: 'simple',
    inputs: ['INPUT0', 'INPUT1'].map((name) => ({ name, shape: [1, 16], data })),
  });
  const sums: TensorData = answer.output('OUTPUT0').data;
  const budget: Budget = answer.budget;
  let pieces = 0;
  for await (const { text } of client.generateStream({ model: 'stories', text: 'Once', parameters: { max_tokens: 4 } })) {
    pieces += text.length > 0 ? 1 : 0;
  }
  const failed = await client.infer({ model: 'nobody', inputs: [] }).catch((error: unknown) => error);
  await client.close();
  const code = failed instanceof ClientError ? failed.code : 'none';
  return [client.protocol, sums.slice(0, 4).join(' '), budget.totalMs > 0, pieces > 0, code].join(', ');
}

console.log(await sum({ protocol: 'grpc', addresses: [process.argv[2] ?? ''] }));
console.log(await sum({ protocol: 'rest', addresses: [process.argv[3] ?? ''] }));
`;

const RESULT = 'grpc, 0 2 4 6, true, true, NOT_FOUND\nrest, 0 2 4 6, true, true, NOT_FOUND\n';

const addresses = () => [`127.0.0.1:${server.grpcPort}`, `127.0.0.1:${server.httpPort}`];

const STRICT = {
  target: 'es2023',
  module: 'nodenext',
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  // Ours are checked as well.
  skipLibCheck: false,
};

test('a strict TypeScript program over both protocols type-checks and runs', async () => {
  link('@types/node');
  link('undici-types');
  write('main.ts', PROGRAM);
  write(
    'tsconfig.json',
    JSON.stringify({ compilerOptions: { ...STRICT, types: ['node'], outDir: 'out' }, files: ['main.ts'] }),
  );
  await run('tsc', '-p', '.');
  expect(await run('node', 'out/main.js', ...addresses())).toBe(RESULT);
});

test('its types need no other package, not even those of Node', async () => {
  const program = PROGRAM.replaceAll(/process\.argv\[\d\] \?\? ''/g, "'a:1'").replaceAll('console.log', 'String');
  write('alone.ts', program);
  write('alone.json', JSON.stringify({ compilerOptions: { ...STRICT, types: [], noEmit: true }, files: ['alone.ts'] }));
  await run('tsc', '-p', 'alone.json');
});

test('a type that is wrong is found', async () => {
  write('wrong.ts', PROGRAM.replace("'OUTPUT0'", '0'));
  write(
    'wrong.json',
    JSON.stringify({ compilerOptions: { ...STRICT, types: ['node'], noEmit: true }, files: ['wrong.ts'] }),
  );
  await expect(run('tsc', '-p', 'wrong.json')).rejects.toThrow(
    "'number' is not assignable to parameter of type 'string'",
  );
});

test('plain JavaScript imports it, CommonJS requires it, and nothing of the server is loaded', async () => {
  write(
    'plain.js',
    `import { createRequire } from 'node:module';
import { connect } from 'tensorwire/client';
const client = connect({ protocol: 'rest', addresses: [process.argv[2]] });
console.log(await client.isLive(), (await client.serverMetadata()).name);
await client.close();
const files = Object.keys(createRequire(import.meta.url).cache).map((file) => /.*node_modules\\/((@[^/]+\\/)?[^/]+)/.exec(file)?.[1]);
console.log(['undici', '@grpc/grpc-js', 'fastify', 'piscina', 'onnxruntime-node', 'pino'].map((name) => files.includes(name)).join(' '));
`,
  );
  expect(await run('node', 'plain.js', addresses()[1]!)).toBe('true tensorwire\ntrue true false false false false\n');
  write('old.cjs', "const { connect } = require('tensorwire/client');\nconsole.log(typeof connect);\n");
  expect(await run('node', 'old.cjs')).toBe('function\n');
});

test('the server in it runs, too', async () => {
  expect(await run('node', 'node_modules/tensorwire/dist/main.js', '--version')).toContain(manifest.version);
});
