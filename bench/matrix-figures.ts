/**
 * The matrix in a handful of numbers for the RESULT line: whether the run is sound, and how far apart the arms are.
 *
 * Used by `matrix.ts`. Pure. Ratios are of medians with one caller; above 1 means that REST takes longer.
 */

import { BUSY_CLIENT } from '../src/bench/report-notes.js';
import type { BenchResults, CellResult, Encoding } from '../src/bench/results.js';
import { MATRIX_MODELS } from './matrix-models.js';
import type { Figures } from './result.js';

export function matrixFigures({ cells, streams, experiments, seconds }: BenchResults): Figures {
  const figures: Record<string, number> = {
    seconds,
    cells: cells.length,
    failures: cells.reduce((sum, { failures }) => sum + failures, 0),
    answers_unequal: cells.filter(({ answersEqual }) => !answersEqual).length,
    busy_clients: cells.filter(({ clientCpuShare }) => clientCpuShare > BUSY_CLIENT).length,
    // How far the sum of the phases is from the time that was measured, in the worst cell.
    explained_off_max: Math.max(0, ...cells.map(({ explainedShare }) => Math.abs(1 - explainedShare))),
  };
  for (const model of MATRIX_MODELS) {
    for (const kb of new Set(cells.map(({ payloadKb }) => payloadKb))) {
      const p50 = (encoding: Encoding) => oneCaller(cells, model, kb, encoding)?.p50Ms.value;
      const grpc = p50('grpc_raw');
      if (grpc === undefined) continue;
      for (const encoding of ['rest_json', 'rest_binary'] as const) {
        const rest = p50(encoding);
        if (rest !== undefined) figures[`${encoding}_over_grpc_${model}_${kb}k`] = rest / grpc;
      }
    }
  }
  const total = (way: string) => streams.find((stream) => stream.way === way)?.totalMs.value;
  const stream = total('grpc_stream');
  for (const way of ['sse', 'sse_openai', 'request_per_token_grpc', 'request_per_token_rest']) {
    const other = total(way);
    if (stream !== undefined && other !== undefined) figures[`${way}_over_grpc_stream`] = other / stream;
  }
  for (const { name, figures: own } of experiments) if (own.ratio !== undefined) figures[`${name}_ratio`] = own.ratio;
  return figures;
}

function oneCaller(
  cells: readonly CellResult[],
  model: string,
  kb: number | null,
  encoding: Encoding,
): CellResult | undefined {
  return cells.find(
    ({ model: own, payloadKb, arm, load }) =>
      own === model &&
      payloadKb === kb &&
      arm.encoding === encoding &&
      !arm.gzip &&
      load.kind === 'closed' &&
      load.concurrency === 1,
  );
}
