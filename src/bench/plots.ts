/**
 * The plots of a run, as standalone SVG.
 *
 * Called by the harness and the command `tensorwire bench --out`. Pure: what to write is told, nothing is written.
 */
import type { BenchResults } from './results.js';

export interface Plot {
  /** `latency-text_embedding.svg`: unique in a run, of [a-z0-9_.-] alone. */
  readonly file: string;
  /** What it shows, for a caption. */
  readonly title: string;
  readonly svg: string;
}

/** Only plots that a run has figures for. */
export function plots(_results: BenchResults): Plot[] {
  return [];
}
