/**
 * The interop suites: clients that others wrote, against the real server. `npm run interop` runs them all.
 *
 * A suite whose tools can't be had here is skipped, in one line that says why; a test that fails makes the exit code 1.
 */
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DATATYPES, type Datatype } from '../../src/base/datatype.js';
import { writeTextModel } from '../support/huggingface.js';
import { identityModel, slowModel, stringModel, writeModel } from '../support/onnx.js';
import { startServer } from '../support/server.js';
import { runFamilies } from './families.js';
import { runGrpcurl } from './grpcurl.js';
import { runPrometheus } from './prometheus.js';
import { runPython } from './python.js';

/** Where the server is. */
export interface Target {
  readonly grpcPort: number;
  readonly httpPort: number;
}

export type Outcome =
  | { readonly passed: number; readonly failed: number; readonly failures: readonly string[] }
  | { readonly skipped: string };

const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));
const FILES = [
  'simple/config.pbtxt',
  'simple/1/model.onnx',
  'digits/config.pbtxt',
  'digits/1/model.onnx',
  'digits/labels.txt',
];

/**
 * The models that come with the server (`stories` writes text), `identity_<datatype>`, `strings`, `sentences`, which embeds texts, and
 * `slow`, which takes a second.
 */
function makeRepository(directory: string): void {
  for (const file of FILES) {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    copyFileSync(join(MODELS, file), join(directory, file));
  }
  cpSync(join(MODELS, 'stories'), join(directory, 'stories'), { recursive: true });
  for (const datatype of Object.keys(DATATYPES) as Datatype[]) {
    if (datatype === 'BF16') continue;
    writeModel(directory, `identity_${datatype}`, { versions: { 1: identityModel(datatype, ['n']) } });
  }
  writeModel(directory, 'strings', { versions: { 1: stringModel() } });
  writeTextModel(directory, 'sentences', { head: 'hidden', pooling: ['mean'], normalize: true });
  writeModel(directory, 'slow', { versions: { 1: slowModel(3_000) } });
}

const repository = mkdtempSync(join(tmpdir(), 'tensorwire-interop-'));
makeRepository(repository);
const server = await startServer({ repository, args: ['--id', 'interop', '--log-level', 'warn'] });
let [passed, failed, skipped] = [0, 0, 0];
try {
  for (const [name, suite] of [
    ['grpcurl', runGrpcurl],
    ['python', runPython],
    ['families', runFamilies],
    ['prometheus', runPrometheus],
  ] as const) {
    const outcome = await suite(server);
    if ('skipped' in outcome) {
      skipped++;
      console.log(`interop: SKIPPED ${name}: ${outcome.skipped}`);
      continue;
    }
    passed += outcome.passed;
    failed += outcome.failed;
    for (const failure of outcome.failures) console.log(`interop: FAILED ${name}: ${failure}`);
    console.log(`interop: ${name}: ${outcome.passed} passed, ${outcome.failed} failed`);
  }
} finally {
  const code = await server.stop();
  if (code !== 0) {
    failed++;
    console.log(`interop: FAILED the server ended with ${code}: ${server.stderr}`);
  }
  rmSync(repository, { recursive: true });
}
console.log(`interop: ${passed} passed, ${failed} failed, ${skipped} suites skipped`);
process.exitCode = failed > 0 ? 1 : 0;
