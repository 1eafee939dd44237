/**
 * Writes a run's files: `results.json`, `report.md` and a folder of plots, so that the report can be read again without the run.
 *
 * Called by the command and `npm run bench`. Owns the names of the files; what stands in them is the reports'.
 */
import { closeSync, mkdirSync, openSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UsageError } from './bench-error.js';
import { plots } from './plots.js';
import { markdownReport } from './report-markdown.js';
import type { BenchResults } from './results.js';

const PLOTS = 'plots';

const REPORT = 'report.md';
const RESULTS = 'results.json';

/** Makes the directory where it isn't there. Throws UsageError when a run couldn't write its files there; call it before the run. */
export function makeOutputDirectory(directory: string): void {
  const plotDirectory = join(directory, PLOTS);
  try {
    makeDirectory(plotDirectory);
    for (const each of [directory, plotDirectory]) {
      const attempt = join(each, `.attempt-${process.pid}`);
      writeFileSync(attempt, '');
      rmSync(attempt);
    }
    for (const name of [REPORT, RESULTS]) tryFile(join(directory, name));
  } catch (error) {
    throw new UsageError(`the output directory ${directory} can't be written: ${(error as Error).message}`);
  }
}

/** Not mkdir's own recursion: Node's never ends where a directory says that what is to be made in it isn't there, as /proc does. */
function makeDirectory(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) return;
  const parent = dirname(path);
  if (parent !== path) makeDirectory(parent);
  mkdirSync(path);
}

/** One of an earlier run may belong to somebody else. */
function tryFile(file: string): void {
  if (statSync(file, { throwIfNoEntry: false })) closeSync(openSync(file, 'r+'));
}

/** Returns the paths written, the report first. */
export function writeReportFiles(directory: string, results: BenchResults): string[] {
  makeOutputDirectory(directory);
  const drawn = plots(results);
  const relative = drawn.map(({ file }) => `${PLOTS}/${file}`);
  const files: readonly [path: string, text: string][] = [
    [REPORT, markdownReport(results, relative)],
    [RESULTS, `${JSON.stringify(results, null, 1)}\n`],
    ...drawn.map(({ svg }, index): [string, string] => [relative[index]!, svg]),
  ];
  for (const [path, text] of files) writeFileSync(join(directory, path), text);
  return files.map(([path]) => join(directory, path));
}
