/**
 * What a run of the benchmark comes to: which arm for which payload and load, from which size on another one is faster, what the
 * encoding brings and what the protocol, and the article's decision matrix with measured figures.
 *
 * Called by the reports and the command `tensorwire bench`. Pure.
 */
import { answeredCells, cellGroups } from './cells.js';
import { type Change, changesOf } from './changes.js';
import { type Crossover, crossoversOf } from './crossover.js';
import { type MatrixRow, matrixOf } from './decision-matrix.js';
import { type Recommendation, recommendationOf } from './recommendation.js';
import type { BenchResults } from './results.js';
import { type SerializationShare, serializationShareOf } from './serialization.js';

export interface Verdict {
  /** One for each model, load and payload, in the order of the reports. */
  readonly recommendations: readonly Recommendation[];
  /** By model and load, for pairs of arms that were measured at two payloads or more. */
  readonly crossovers: readonly Crossover[];
  /** JSON to binary on REST against REST to gRPC; where REST JSON was measured. */
  readonly changes: readonly Change[];
  /** One for each cell, in the order of the reports. */
  readonly serialization: readonly SerializationShare[];
  /** All rows of the article, those without figures included. */
  readonly matrix: readonly MatrixRow[];
}

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
    matrix: matrixOf(results, cells, recommendations),
  };
}
