/**
 * Writes a run's files: `results.json`, `report.md` and a folder of plots, so that the report can be read again without the run.
 *
 * Called by the command and `npm run bench`. Owns the names of the files; what stands in them is the reports'.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BenchError } from './bench-error.js';
import { plots } from './plots.js';
import { markdownReport } from './report-markdown.js';
import type { BenchResults } from './results.js';

const PLOTS = 'plots';

/** Makes the directory where it isn't there. Throws BenchError when it can't be; call it before a long run. */
export function makeOutputDirectory(directory: string): void {
  try {
    mkdirSync(join(directory, PLOTS), { recursive: true });
  } catch (error) {
    throw new BenchError(`the output directory can't be made: ${(error as Error).message}`);
  }
}

/** Returns the paths written, the report first. */
export function writeReportFiles(directory: string, results: BenchResults): string[] {
  makeOutputDirectory(directory);
  const drawn = plots(results);
  const relative = drawn.map(({ file }) => `${PLOTS}/${file}`);
  const files: readonly [path: string, text: string][] = [
    ['report.md', markdownReport(results, relative)],
    ['results.json', `${JSON.stringify(results, null, 1)}\n`],
    ...drawn.map(({ svg }, index): [string, string] => [relative[index]!, svg]),
  ];
  for (const [path, text] of files) writeFileSync(join(directory, path), text);
  return files.map(([path]) => join(directory, path));
}
