/**
 * The Python clients: makes a virtual environment with the pinned packages, once, and runs the tests in it.
 *
 * Called by `run.ts`. Owns `.venv/interop` at the root of the repository.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Outcome, Target } from './run.js';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const HERE = fileURLToPath(new URL('./', import.meta.url));
const VENV = join(ROOT, '.venv/interop');
const REQUIREMENTS = join(HERE, 'requirements.txt');

export async function runPython(target: Target): Promise<Outcome> {
  const python = environment();
  if (typeof python !== 'string') return python;
  let [passed, failed] = [0, 0];
  const failures: string[] = [];
  for (const file of readdirSync(HERE).filter((name) => /^test_\w+\.py$/.test(name))) {
    const { code, stdout } = await runFile(python, file, target);
    const counted = /^python: (\d+) passed, (\d+) failed$/m.exec(stdout);
    if (counted === null) failures.push(`${file} ended with ${code} and no count`);
    passed += Number(counted?.[1] ?? 0);
    failed += Number(counted?.[2] ?? 1);
  }
  return { passed, failed, failures };
}

/** One file of tests; what fails is told on stderr. */
async function runFile(python: string, file: string, { grpcPort, httpPort }: Target) {
  const child = spawn(python, ['-W', 'ignore::DeprecationWarning', '-B', join(HERE, 'suite.py'), file], {
    env: {
      ...process.env,
      TENSORWIRE_GRPC: `127.0.0.1:${grpcPort}`,
      TENSORWIRE_HTTP: `127.0.0.1:${httpPort}`,
      TENSORWIRE_PROTO_DIR: join(ROOT, 'proto'),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk;
  });
  const [code] = await once(child, 'close');
  return { code, stdout };
}

/** The environment's Python; made anew when the requirements have changed. A reason to skip where it can't be had. */
function environment(): string | { skipped: string } {
  const python = join(VENV, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  const made = join(VENV, 'requirements.txt');
  const wanted = readFileSync(REQUIREMENTS, 'utf8');
  if (existsSync(made) && readFileSync(made, 'utf8') === wanted) return python;
  rmSync(VENV, { recursive: true, force: true });
  try {
    run('python3', ['-c', 'import sys, venv, ensurepip; assert sys.version_info >= (3, 10), "it is older than 3.10"']);
    run('python3', ['-m', 'venv', VENV]);
  } catch (error) {
    return { skipped: `no python3 of 3.10 or later with venv: ${lastLine(error)}` };
  }
  try {
    run(python, ['-m', 'pip', 'install', '--quiet', '--only-binary=:all:', '-r', REQUIREMENTS]);
  } catch (error) {
    return { skipped: `the packages of test/interop/requirements.txt can't be installed: ${lastLine(error)}` };
  }
  writeFileSync(made, wanted);
  return python;
}

function run(command: string, args: string[]): void {
  execFileSync(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

export function lastLine(error: unknown): string {
  const { stderr, message } = error as { stderr?: Buffer; message: string };
  return (stderr?.toString().trim() || message).split('\n').at(-1)!;
}
