/** What a verdict holds; made by `verdict.ts`, told by `verdict-text.ts` and the Markdown report. Plain data. */
import type { Change } from './changes.js';
import type { Crossover } from './crossover.js';
import type { MatrixRow } from './decision-matrix.js';
import type { Recommendation } from './recommendation.js';
import type { SerializationShare } from './serialization.js';

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
