/**
 * The verdict as lines for a terminal: what to take where, from which size on, and why.
 *
 * Called by the command and the harness at the end of a run. Pure; Markdown has its own in `report-verdict.ts`.
 */
import { loadLabel } from './cells.js';
import { plainName } from './figures.js';
import { armName } from './results.js';
import type { Verdict } from './verdict-data.js';

/** Lines of plain text, without an end of line at the end. */
export function verdictText({ recommendations }: Verdict): string {
  return recommendations
    .map(
      ({ model, payload, load, arm, reason }) =>
        `${plainName(model)}, ${payload.label}, ${loadLabel(load)}: ${armName(arm)} (${reason})`,
    )
    .join('\n');
}
