/**
 * Models that other people's tools exported, one of each family: what is served must be what Python generates, token for token.
 *
 * Called by `run.ts`. The models come from `generative/make_families.py`, which needs PyTorch, optimum and ONNX Runtime GenAI, some
 * gigabytes; so the suite runs where TENSORWIRE_FAMILIES_PYTHON names a Python that has them, or where TENSORWIRE_FAMILIES names a folder
 * that is made already, and is skipped elsewhere.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startServer } from '../support/server.js';
import type { Outcome } from './run.js';

const SCRIPT = fileURLToPath(new URL('generative/make_families.py', import.meta.url));
const FOLDER = fileURLToPath(new URL('../../.venv/families/', import.meta.url));

interface Case {
  readonly text: string;
  readonly ids: readonly number[];
  /** The text of the tokens that follow, as Python has it. */
  readonly greedy_text: string;
}

interface Expected {
  readonly new_tokens: number;
  readonly cases: readonly Case[];
}

interface FamilyModel {
  readonly name: string;
  /** FP32: the answers are PyTorch's. Else they are ONNX Runtime's for this file, one sequence at a time. */
  readonly exact: boolean;
}

export async function runFamilies(): Promise<Outcome> {
  const folder = familiesFolder();
  if (typeof folder !== 'string') return folder;
  const { models } = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as { models: FamilyModel[] };
  // Nothing from the prefix cache: every prompt is worked on.
  const args = ['--log-level', 'error', '--prefix-cache-byte-size', '0', '--max-sequences', '8'];
  const server = await startServer({ repository: folder, args });
  let passed = 0;
  const failures: string[] = [];
  const check = (name: string, wrong: string | undefined): void => {
    if (wrong === undefined) passed++;
    else failures.push(`${name}: ${wrong}`);
  };
  try {
    await server.waitFor(/^first \w+$/m);
    for (const { name, exact } of models) {
      const { cases, new_tokens } = JSON.parse(readFileSync(join(folder, name, 'expected.json'), 'utf8')) as Expected;
      const answer = ({ ids }: Case) => complete(server.httpPort, name, ids, new_tokens);
      const alone: string[] = [];
      for (const one of cases) alone.push(await answer(one));
      // Half precision rounds where a run of another shape would not, and what lies close together changes places.
      const isHalf = name.includes('fp16');
      if (!isHalf) check(`${name} alone`, different(cases, alone));
      else check(`${name} alone`, 2 * same(cases, alone) < cases.length ? different(cases, alone) : undefined);
      // Eight at a time, of different lengths. Kernels for quantized weights round otherwise for one row than for several.
      const together: string[] = [];
      for (let at = 0; at < cases.length; at += 8) {
        together.push(...(await Promise.all(cases.slice(at, at + 8).map(answer))));
      }
      if (exact) check(`${name} in company`, different(cases, together));
      else
        console.log(`interop: ${name}: in company ${same(cases, together)} of ${cases.length} answers are those alone`);
      const byText = await complete(server.httpPort, name, cases[0]!.text, new_tokens);
      check(`${name} from text`, byText === alone[0] ? undefined : `${byText} for ${alone[0]}`);
    }
  } finally {
    const code = await server.stop();
    if (code !== 0) failures.push(`the server ended with ${code}: ${server.stderr.slice(-500)}`);
  }
  return { passed, failed: failures.length, failures };
}

/** Where the models are, made if need be; or why they are not. */
function familiesFolder(): string | { skipped: string } {
  const made = process.env.TENSORWIRE_FAMILIES;
  if (made !== undefined) return existsSync(join(made, 'index.json')) ? made : { skipped: `${made} has no index.json` };
  const python = process.env.TENSORWIRE_FAMILIES_PYTHON;
  if (python === undefined) return { skipped: 'TENSORWIRE_FAMILIES_PYTHON names no Python with PyTorch and optimum' };
  const { status, stderr } = spawnSync(python, [SCRIPT, FOLDER], {
    env: { ...process.env, OMP_NUM_THREADS: '1' },
    stdio: ['ignore', 'inherit', 'pipe'],
    encoding: 'utf8',
  });
  return status === 0 ? FOLDER : { skipped: `generative/make_families.py ended with ${status}: ${stderr.slice(-300)}` };
}

async function complete(
  port: number,
  model: string,
  prompt: string | readonly number[],
  tokens: number,
): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/v1/completions`, {
    method: 'POST',
    body: JSON.stringify({ model, prompt, max_tokens: tokens, temperature: 0, ignore_eos: true }),
    headers: { 'content-type': 'application/json' },
  });
  const reply = (await response.json()) as { choices?: { text: string }[]; error?: { message: string } };
  return reply.choices?.[0]?.text ?? `error: ${reply.error?.message}`;
}

function same(cases: readonly Case[], answers: readonly string[]): number {
  return cases.filter(({ greedy_text }, i) => greedy_text === answers[i]).length;
}

/** The first answer that is another than Python's. */
function different(cases: readonly Case[], answers: readonly string[]): string | undefined {
  const at = cases.findIndex(({ greedy_text }, i) => greedy_text !== answers[i]);
  if (at < 0) return undefined;
  const wrong = cases.length - same(cases, answers);
  return `${wrong} of ${cases.length} differ, first ${JSON.stringify(answers[at])} for ${JSON.stringify(cases[at]!.greedy_text)}`;
}
