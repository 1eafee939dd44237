/**
 * The findings of a verdict in words, one at a time.
 *
 * Called by the verdict's text and the Markdown report. Pure.
 */
import type { Step } from './changes.js';
import type { Crossover } from './crossover.js';
import { byteSize, milliseconds, NO_FIGURE, percent } from './figures.js';
import { ALERT_SHARE, type SerializationShare, WARN_SHARE } from './serialization.js';

/** `grpc_raw from 4.89 KB on`, `none from 2 KB to 1000 KB: rest_binary throughout`. */
export function crossoverWords(crossover: Crossover): string {
  const { crossings, fasterThroughout, clearFrom, smallest, largest } = crossover;
  const clear = crossings.filter((crossing) => crossing.clear);
  if (clear.length > 0)
    return clear.map(({ fasterBeyond, bytes }) => `${fasterBeyond} from ${byteSize(bytes)} on`).join(', ');
  const range = `none from ${smallest.label} to ${largest.label}`;
  if (clearFrom && clearFrom.payload.key !== smallest.key) {
    return `${range}; beyond noise ${clearFrom.arm} from ${clearFrom.payload.label} on`;
  }
  if (fasterThroughout ?? clearFrom) return `${range}: ${fasterThroughout ?? clearFrom!.arm} throughout`;
  return `${range}: within noise`;
}

/** `saves 1.2 ms (34 %)`, `costs 0.1 ms (5 %)`; `–` where one of the two was not measured. */
export function stepWords(step: Step | undefined): string {
  if (!step) return NO_FIGURE;
  const { savedMs, savedShare } = step;
  return `${savedMs < 0 ? 'costs' : 'saves'} ${milliseconds(Math.abs(savedMs))} (${percent(Math.abs(savedShare))})`;
}

/** The encoding's part of what both changes save; `all` where the protocol costs on top, `none` where it has to make up for it. */
export function partWords(part: number | undefined): string {
  if (part === undefined) return NO_FIGURE;
  return part >= 1 ? 'all' : part <= 0 ? 'none' : percent(part);
}

/** `36 % !`: `!` from the article's threshold for a warning on, `!!` from that for an alert; `>` where the server told nothing. */
export function shareWords({ share, level, bothSides }: SerializationShare): string {
  const mark = level === 'alert' ? ' !!' : level === 'warn' ? ' !' : '';
  return `${bothSides ? '' : '> '}${percent(share)}${mark}`;
}

export const SHARE_LEGEND = `! from ${percent(WARN_SHARE)}, !! from ${percent(ALERT_SHARE)} of the median latency; > where the server told nothing of its part`;

/** Whether ours is the article's recommendation. */
export function agreement(agrees: boolean | undefined): string {
  return agrees === undefined ? NO_FIGURE : agrees ? 'yes' : 'no';
}

export const NO_DATA = 'no figures in this run';
