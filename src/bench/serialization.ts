/**
 * The share of a cell's latency that went into taking messages apart and putting them together, on both sides.
 *
 * Called by the verdict and the reports. Pure. Owns the article's two thresholds. The times are those of the clock: with many callers
 * they hold waits for the one thread that encodes and decodes, so that shares under the lightest load alone are fit to be judged.
 */
import { type Payload, payloadOf } from './cells.js';
import { isFigure } from './figures.js';
import type { ArmSpec, CellResult, Load } from './results.js';

/** From here on the article wants a change planned. */
export const WARN_SHARE = 0.2;
/** From here on the article wants it made. */
export const ALERT_SHARE = 0.3;

export interface SerializationShare {
  readonly model: string;
  readonly payload: Payload;
  readonly load: Load;
  readonly arm: ArmSpec;
  /** Median milliseconds of encoding and decoding, all sides that told them. */
  readonly ms: number;
  /** Of the median latency, at most 1. */
  readonly share: number;
  /** Whether the server told its part; else the share is a lower bound. */
  readonly bothSides: boolean;
  readonly level: 'ok' | 'warn' | 'alert';
}

export function serializationShareOf(cell: CellResult): SerializationShare {
  const { clientEncodeMs, clientDecodeMs, serverDecodeMs, serverEncodeMs } = cell;
  const ms = [clientEncodeMs, clientDecodeMs, serverDecodeMs, serverEncodeMs]
    .filter(isFigure)
    .reduce((a, b) => a + b, 0);
  const share = Math.min(1, ms / cell.p50Ms.value);
  return {
    model: cell.model,
    payload: payloadOf(cell),
    load: cell.load,
    arm: cell.arm,
    ms,
    share,
    bothSides: isFigure(serverDecodeMs) && isFigure(serverEncodeMs),
    level: share >= ALERT_SHARE ? 'alert' : share >= WARN_SHARE ? 'warn' : 'ok',
  };
}

/** Those of the fewest callers; open loops where there are no others. */
export function lightest<Loaded extends { readonly load: Load }>(all: readonly Loaded[]): Loaded[] {
  const weight = ({ load }: Loaded): number => (load.kind === 'closed' ? load.concurrency : Number.POSITIVE_INFINITY);
  const least = Math.min(...all.map(weight));
  return all.filter((one) => weight(one) === least);
}
