/**
 * A run of the benchmark as one Markdown document that needs nothing beside it but its plots.
 *
 * Called by the harness and the command `tensorwire bench --out`. Pure.
 */
import { resultsTable } from './report-table.js';
import type { BenchResults } from './results.js';
import { verdict } from './verdict.js';
import { verdictText } from './verdict-text.js';

/** `plotFiles`: paths of the plots relative to the report, those of {@link import('./plots.js').plots} with their folder before them. */
export function markdownReport(results: BenchResults, plotFiles: readonly string[]): string {
  return [
    '# Benchmark',
    verdictText(verdict(results)),
    '```',
    resultsTable(results),
    '```',
    ...plotFiles.map((file) => `![](${file})`),
    '',
  ].join('\n');
}
