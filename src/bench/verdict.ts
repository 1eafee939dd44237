/**
 * What a run of the benchmark comes to: which arm for which payload and load, from which size on another one is faster, what the
 * encoding brings and what the protocol, and the article's decision matrix with measured figures.
 *
 * Called by the reports and the command `tensorwire bench`. Pure.
 */
import { answeredCells, cellGroups } from './cells.js';
import { changesOf } from './changes.js';
import { crossoversOf } from './crossover.js';
import { matrixOf } from './decision-matrix.js';
import { recommendationOf } from './recommendation.js';
import type { BenchResults } from './results.js';
import { serializationShareOf } from './serialization.js';
import type { Verdict } from './verdict-data.js';

export type { Verdict } from './verdict-data.js';
export { verdictText } from './verdict-text.js';

/** The verdict on any run, whatever was left out of it. */
export function verdict(results: BenchResults): Verdict {
  const cells = answeredCells(results);
  const groups = cellGroups(cells);
  const recommendations = groups.map((group) => recommendationOf(group, results.rounds));
  return {
    recommendations,
    crossovers: crossoversOf(cells, results.rounds),
    changes: groups.flatMap((group) => changesOf(group) ?? []),
    serialization: groups.flatMap((group) => group.cells.map(serializationShareOf)),
    matrix: matrixOf(cells, results.streams, recommendations),
  };
}
