/**
 * Finds figures in a run's results; undefined where the run didn't measure them or they are no numbers.
 *
 * Used by the claims. Pure. Cells are those of the closed loop without compression unless said otherwise.
 */
import { isFigure } from '../../src/bench/figures.js';
import type { BenchResults, CellResult, Encoding, StreamResult } from '../../src/bench/results.js';

export const MODELS = ['text_embedding', 'image_classification', 'llm_token'] as const;
export const SIZES_KB = [2, 10, 100, 500, 1000] as const;

export interface CellKey {
  readonly model: string;
  readonly kb: number;
  /** 1 when not given. */
  readonly concurrency?: number;
}

export function cellOf(results: BenchResults, key: CellKey, encoding: Encoding): CellResult | undefined {
  const { model, kb, concurrency = 1 } = key;
  return results.cells.find(
    ({ arm, load, ...cell }) =>
      cell.model === model &&
      cell.payloadKb === kb &&
      arm.encoding === encoding &&
      !arm.gzip &&
      load.kind === 'closed' &&
      load.concurrency === concurrency,
  );
}

/** A figure of the second arm over that of the first; undefined unless both were measured and the first isn't 0. */
export function ratioOf(
  results: BenchResults,
  key: CellKey,
  [below, above]: readonly [Encoding, Encoding],
  figure: (cell: CellResult) => number | null,
): number | undefined {
  const [a, b] = [cellOf(results, key, below), cellOf(results, key, above)];
  return a && b && quotient(figure(b), figure(a));
}

/** Milliseconds in codecs on both sides; undefined where the server told none. */
export function serializationMs(cell: CellResult): number | undefined {
  const { clientEncodeMs, clientDecodeMs, serverDecodeMs, serverEncodeMs } = cell;
  if (serverDecodeMs === null || serverEncodeMs === null) return undefined;
  return finite(clientEncodeMs + clientDecodeMs + serverDecodeMs + serverEncodeMs);
}

export function streamOf(results: BenchResults, way: StreamResult['way']): StreamResult | undefined {
  return results.streams.find((stream) => stream.way === way);
}

/** Reads figures of one experiment by name. */
export function experimentOf(results: BenchResults, name: string): (figure: string) => number | undefined {
  const figures = results.experiments.find((experiment) => experiment.name === name)?.figures;
  return (figure) => finite(figures?.[figure]);
}

export function quotient(above: number | null | undefined, below: number | null | undefined): number | undefined {
  const [a, b] = [finite(above), finite(below)];
  return a === undefined || b === undefined || b === 0 ? undefined : finite(a / b);
}

function finite(value: number | null | undefined): number | undefined {
  return isFigure(value) ? value : undefined;
}
