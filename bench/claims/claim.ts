/**
 * What a claim is, and how a measured figure is held against it.
 *
 * Used by the claims of this folder and by `write.ts`. Pure. The article's figures are ranges without a tolerance, measured elsewhere, so
 * a tenth beyond either end still counts as within. A figure outside whose direction is right holds in part, whichever end it is
 * beyond: who plans with the article's number would plan wrongly, who follows its advice would not.
 */
import type { BenchResults } from '../../src/bench/results.js';

export type Verdict = 'holds' | 'holds in part' | 'does not hold here';

export interface Judgement {
  readonly verdict: Verdict | 'not measured';
  /** What was measured, for the table. */
  readonly figure: string;
  /** Why it came out so, and what would change it. */
  readonly remark?: string;
}

export interface Claim {
  /** Anchor in the document. */
  readonly id: string;
  readonly title: string;
  /** What is claimed, in our words. */
  readonly claim: string;
  /** The article's figure, short. */
  readonly article: string;
  /** Heading in the article. */
  readonly section: string;
  /** What was measured and what decides. */
  readonly how: string;
  readonly judge: (results: BenchResults) => Judgement;
}

/** One of the conditions under which a claim is judged. */
export interface Part {
  readonly verdict: Verdict;
  readonly figure: string;
}

const TOLERANCE = 0.1;

export interface Range {
  readonly low: number;
  readonly high: number;
  /** Value at which what is claimed would be no effect at all: 1 for ratios, 0 for savings. */
  readonly neutral: number;
}

/**
 * Within the range (and a tenth beyond) holds; on the claimed side of `neutral`, by at least a tenth of the way to the range's nearer end,
 * holds in part.
 */
export function inRange(value: number, { low, high, neutral }: Range): Verdict {
  if (value >= low * (1 - TOLERANCE) && value <= high * (1 + TOLERANCE)) return 'holds';
  const nearer = Math.abs(low - neutral) < Math.abs(high - neutral) ? low : high;
  const way = (value - neutral) / (nearer - neutral);
  return way >= 0.1 ? 'holds in part' : 'does not hold here';
}

/** All parts hold: holds. None does, nor in part: does not hold here. No part at all: not measured. */
export function together(parts: readonly (Part | undefined)[], remark?: string): Judgement {
  const measured = parts.filter((part) => part !== undefined);
  if (measured.length === 0) return NOT_MEASURED;
  const verdicts = new Set(measured.map(({ verdict }) => verdict));
  return {
    verdict: verdicts.size === 1 ? measured[0]!.verdict : 'holds in part',
    figure: measured.map(({ figure }) => figure).join('; '),
    ...(remark !== undefined && { remark }),
  };
}

export const NOT_MEASURED: Judgement = { verdict: 'not measured', figure: 'not in this run' };
