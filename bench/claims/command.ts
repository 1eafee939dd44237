/**
 * `npm run bench -- claims`: writes docs/claims.md from a run's `results.json`.
 *
 * Called by `bench/main.ts`. Measures nothing.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { UsageError } from '../../src/bench/bench-error.js';
import type { BenchResults } from '../../src/bench/results.js';
import { BenchError, say } from '../result.js';
import { claimsMarkdown } from './write.js';

const DOCUMENT = join(import.meta.dirname, '../../docs/claims.md');

export function addClaimsCommand(program: Command): void {
  program
    .command('claims')
    .description("docs/claims.md, which holds the article's claims against a run's results")
    .addOption(new Option('--results <file>', 'what the run wrote').default('bench-results/results.json'))
    .addOption(new Option('--document <file>', 'where it goes').default(DOCUMENT, 'docs/claims.md'))
    .action(({ results, document }: { results: string; document: string }) => {
      const text = claimsMarkdown(readResults(results));
      try {
        writeFileSync(document, text);
      } catch (error) {
        throw new UsageError(`option --document: ${(error as Error).message}`);
      }
      say(`written: ${document}`);
    });
}

/** Throws BenchError for a file that is missing or isn't the results of a run. */
export function readResults(file: string): BenchResults {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw new BenchError(`can't read results from ${file}: ${(error as Error).message}; npm run bench writes them`);
  }
  let results: unknown;
  try {
    results = JSON.parse(text);
  } catch {
    throw new BenchError(`${file} is not JSON, expected the results.json of a run`);
  }
  const { schema, cells, streams, experiments } = (results ?? {}) as Partial<Record<keyof BenchResults, unknown>>;
  if (schema !== 1 || ![cells, streams, experiments].every(Array.isArray)) {
    throw new BenchError(`${file} holds no results of a run, expected schema 1 with cells, streams and experiments`);
  }
  return results as BenchResults;
}
