/** The layers of ARCHITECTURE.md as a test: imports point down, there are no cycles, heavy packages have one home each. */
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const files = [...globSync('src/**/*.ts', { cwd: root }), ...globSync('workers/**/*.ts', { cwd: root })].sort();

interface Import {
  from: string;
  /** A file of the repository, or a package's name. */
  to: string;
}

/** Type imports count too: what a layer can't name, it can't know. */
const IMPORT =
  /(?:^|[^.\w])(?:import|export)\s+(?:type\s+)?(?:[\w*{][^'"]*?\sfrom\s+)?['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/g;

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(IMPORT)].map((match) => {
    const specifier = (match[1] ?? match[2])!;
    if (specifier.startsWith('#src/')) return { from: file, to: `${specifier.slice(1)}.ts` };
    if (specifier.startsWith('.')) {
      return { from: file, to: relative(root, join(root, dirname(file), specifier)).replace(/\.js$/, '.ts') };
    }
    return { from: file, to: specifier };
  });
}

const imports = files.flatMap(importsOf);
const internal = imports.filter(({ to }) => /^(src|workers)\//.test(to));

/** Higher may import lower and its own. */
function rank(file: string): number {
  if (file.startsWith('src/base/')) return 0;
  if (file.startsWith('src/runtime/')) return 1;
  if (file.startsWith('workers/')) return 2;
  if (file.startsWith('src/engine/')) return 2;
  if (/^src\/(grpc|rest|tracing)\//.test(file)) return 3;
  // The client stands beside the server: it knows the base alone. The bench is made of it.
  if (file.startsWith('src/client/')) return 1;
  if (file.startsWith('src/bench/')) return 3;
  return 4;
}

test('the pattern that finds imports finds all kinds of them', () => {
  const text = `import a from 'one';\nimport type { b } from './two.js';\nexport { c } from '#src/three';\nimport 'four';\nawait import('five');\nimport {\n  d,\n} from 'six';`;
  expect([...text.matchAll(IMPORT)].map((match) => match[1] ?? match[2])).toEqual([
    'one',
    './two.js',
    '#src/three',
    'four',
    'five',
    'six',
  ]);
});

test('every import of a file finds a file', () => {
  expect(internal.filter(({ to }) => !files.includes(to))).toEqual([]);
});

test('imports never point up a layer', () => {
  expect(internal.filter(({ from, to }) => rank(to) > rank(from))).toEqual([]);
});

test('the two front ends do not know each other', () => {
  const side = (file: string) => /^src\/(grpc|rest)\//.exec(file)?.[1];
  expect(internal.filter(({ from, to }) => side(from) && side(to) && side(from) !== side(to))).toEqual([]);
});

test('the front ends see the engine through its types alone, and nothing of the runtime', () => {
  const front = internal.filter(({ from }) => /^src\/(grpc|rest)\//.test(from));
  expect(
    front.filter(
      ({ to }) =>
        to.startsWith('src/engine/') &&
        !/^src\/engine\/((generation-)?types|finished-request|request-trace)\.ts$/.test(to),
    ),
  ).toEqual([]);
  // The JSON pool's door is the one exception: the REST front end parses and prints beside the main thread.
  expect(front.filter(({ to }) => to.startsWith('src/runtime/') && to !== 'src/runtime/json-pool.ts')).toEqual([]);
});

test("workers know the base and the runtime's messages, and nobody imports workers", () => {
  const allowed = ['messages', 'tensor', 'preprocess-messages', 'generation-messages', 'token-ring'].map(
    (name) => `src/runtime/${name}.ts`,
  );
  const bad = internal.filter(
    ({ from, to }) => from.startsWith('workers/') && !/^(workers|src\/base)\//.test(to) && !allowed.includes(to),
  );
  expect(bad).toEqual([]);
  expect(internal.filter(({ from, to }) => from.startsWith('src/') && to.startsWith('workers/'))).toEqual([]);
});

test('the client knows the base alone, the bench the client and the base, and the server neither', () => {
  const inside = (file: string) => /^src\/(client|bench)\//.exec(file)?.[1];
  const allowed = { client: /^src\/(client|base)\//, bench: /^src\/(bench|client|base)\// };
  const bad = internal.filter(({ from, to }) => {
    const part = inside(from) as 'client' | 'bench' | undefined;
    return part ? !allowed[part].test(to) : inside(to) && from !== 'src/main.ts';
  });
  expect(bad).toEqual([]);
});

test('there are no cycles, types included', () => {
  const state = new Map<string, 'open' | 'done'>();
  const cycles: string[] = [];
  const visit = (file: string, path: string[]): void => {
    if (state.get(file) === 'done') return;
    if (state.get(file) === 'open') {
      cycles.push([...path.slice(path.indexOf(file)), file].join(' -> '));
      return;
    }
    state.set(file, 'open');
    for (const { from, to } of internal) if (from === file) visit(to, [...path, file]);
    state.set(file, 'done');
  };
  for (const file of files) visit(file, []);
  expect(cycles).toEqual([]);
});

/** Where a package may be imported. */
const HOMES: Record<string, RegExp> = {
  '@grpc/grpc-js': /^src\/(grpc|client)\//,
  '@grpc/proto-loader': /^src\/(grpc|client)\//,
  undici: /^src\/(client|bench)\//,
  '@opentelemetry/api': /^src\/(tracing|client)\//,
  '@opentelemetry/core': /^src\/tracing\//,
  '@opentelemetry/sdk-trace': /^src\/tracing\//,
  '@opentelemetry/resources': /^src\/tracing\//,
  '@opentelemetry/exporter-trace-otlp-proto': /^src\/tracing\//,
  'cli-table3': /^src\/bench\//,
  'd3-scale': /^src\/bench\//,
  'd3-shape': /^src\/bench\//,
  '@grpc/reflection': /^src\/grpc\//,
  'grpc-health-check': /^src\/grpc\//,
  fastify: /^src\/rest\//,
  '@fastify/cors': /^src\/rest\//,
  piscina: /^(src\/runtime|workers)\//,
  'node:worker_threads': /^(src\/(runtime|bench)|workers)\//,
  'onnxruntime-node': /^workers\//,
  sharp: /^workers\/image/,
  '@huggingface/jinja': /^workers\/chat-template/,
  '@huggingface/tokenizers': /^workers\/(text|token|prompt|detokenizer)/,
  protobufjs: /^(src\/base\/pbtxt|src\/grpc\/|workers\/)/,
  pino: /^src\/base\/log\.ts$/,
  'prom-client': /^src\/base\/metrics\.ts$/,
  commander: /^src\/(base\/(config|options|option-kind)\.ts$|bench\/)/,
};

const packageOf = (specifier: string) => /^(node:[\w/]+|@[^/]+\/[^/]+|[^/]+)/.exec(specifier)![0];

test('heavy packages have one home each', () => {
  const bad = imports.filter(({ from, to }) => {
    const home = HOMES[packageOf(to)];
    return home && !home.test(from);
  });
  expect(bad).toEqual([]);
});

test('every package that is imported has a home here or is part of Node', () => {
  const used = new Set(
    imports
      .map(({ to }) => to)
      .filter((to) => !/^(src|workers)\//.test(to))
      .map(packageOf),
  );
  expect([...used].filter((name) => !name.startsWith('node:') && !HOMES[name])).toEqual([]);
});

test('only the options table and the composition root read the environment', () => {
  const readers = files.filter((file) => /process\.env\b/.test(readFileSync(join(root, file), 'utf8')));
  expect(readers.filter((file) => rank(file) < 4 && file !== 'src/base/config.ts')).toEqual([]);
});

test('files stay small', () => {
  const long = files.filter((file) => readFileSync(join(root, file), 'utf8').split('\n').length > 320);
  expect(long).toEqual([]);
});
