/** What the matrix asks: every model, size and arm; compression where it can matter; one rate for all arms. */
import { expect, test } from 'vitest';
import { closedCells, matrixPlan, openCells } from '../../bench/matrix-cells.js';
import { matrixFigures } from '../../bench/matrix-figures.js';
import { measureCells } from '../../bench/matrix-measure.js';
import { writeMatrixModels } from '../../bench/matrix-models.js';
import { ProgressLine } from '../../src/bench/progress-line.js';
import { armName, type BenchResults, type CellResult } from '../../src/bench/results.js';
import type { CellSpec } from '../../src/bench/run-cells.js';
import { temporaryDirectory } from '../support/engine.js';
import { startServer } from '../support/server.js';

const label = ({ payload, arm, load }: CellSpec) =>
  `${payload.model} ${payload.payloadKb} ${armName(arm)} ${load.kind === 'closed' ? load.concurrency : `${load.ratePerSecond}/s`}`;

/** A cell of which only the given figures count. */
function result(cell: CellSpec, perSecond: number, p50 = 1): CellResult {
  const exactly = (value: number) => ({ value, low: value, high: value });
  return {
    model: cell.payload.model,
    payloadKb: cell.payload.payloadKb,
    arm: cell.arm,
    load: cell.load,
    perSecond: exactly(perSecond),
    p50Ms: exactly(p50),
    failures: 0,
    answersEqual: true,
    clientCpuShare: 0.5,
    explainedShare: 0.99,
  } as CellResult;
}

test('a full run has every size, model, arm and number of callers, once each', () => {
  const cells = closedCells(matrixPlan(false)).map(label);
  expect(new Set(cells).size).toBe(cells.length);
  const plain = cells.filter((name) => !name.includes('gzip'));
  expect(plain).toHaveLength(5 * 3 * 4 * 3);
  expect(cells).toContain('llm_token 1000 grpc_typed 64');
});

test('compression is tried where bodies are large and callers few', () => {
  const zipped = closedCells(matrixPlan(false)).filter(({ arm }) => arm.gzip);
  expect(new Set(zipped.map(({ arm }) => armName(arm)))).toEqual(new Set(['rest_json+gzip', 'grpc_raw+gzip']));
  expect(new Set(zipped.map(({ payload }) => payload.payloadKb))).toEqual(new Set([100, 500, 1000]));
  expect(zipped).toHaveLength(3 * 3 * 2 * 2);
});

test('open loops run at half of what the slowest arm can answer, all arms at the same rate', () => {
  const plan = { ...matrixPlan(true), sizesKb: [2] };
  const closed = closedCells(plan);
  const capacity = { rest_json: 247, rest_binary: 900, grpc_raw: 1000, grpc_typed: 800 };
  const measured = closed.map((cell) => {
    // One caller alone never reaches what eight do.
    const callers = cell.load.kind === 'closed' ? cell.load.concurrency : 0;
    return result(cell, callers === 8 ? capacity[cell.arm.encoding] : 50);
  });
  const open = openCells(plan, measured);
  expect(open).toHaveLength(3 * 4);
  expect(new Set(open.map(({ load }) => load.kind === 'open' && load.ratePerSecond))).toEqual(new Set([120]));
});

test('a payload without closed figures gets no open loop', () => {
  expect(openCells(matrixPlan(true), [])).toEqual([]);
});

test('the figures say whether the run is sound and how far the arms are apart', () => {
  const cells = closedCells({ ...matrixPlan(true), sizesKb: [2], concurrencies: [1] }).map((cell) =>
    result(cell, 100, cell.arm.encoding === 'rest_json' ? 3 : 1.5),
  );
  const streams = [
    { way: 'grpc_stream', totalMs: { value: 50, low: 50, high: 50 } },
    { way: 'sse', totalMs: { value: 60, low: 60, high: 60 } },
  ];
  const experiments = [{ name: 'independent_grpc_raw', figures: { ours: 9, h2load: 10, ratio: 0.9 }, method: '' }];
  const figures = matrixFigures({ cells, streams, experiments, seconds: 9 } as unknown as BenchResults);
  expect(figures).toMatchObject({
    seconds: 9,
    cells: 12,
    failures: 0,
    answers_unequal: 0,
    busy_clients: 0,
    rest_json_over_grpc_llm_token_2k: 2,
    rest_binary_over_grpc_llm_token_2k: 1,
    sse_over_grpc_stream: 1.2,
    independent_grpc_raw_ratio: 0.9,
  });
  expect(figures.explained_off_max).toBeCloseTo(0.01);
});

test('a run that is interrupted keeps the cells that are complete', async () => {
  const repository = temporaryDirectory();
  writeMatrixModels(repository);
  const server = await startServer({ repository });
  const interrupt = new AbortController();
  const write = (text: string): void => {
    if (text.includes('image_classification')) interrupt.abort();
  };
  try {
    const { cells, total } = await measureCells(
      { ...matrixPlan(true), sizesKb: [2], concurrencies: [1], rounds: 1, msPerRound: 10 },
      {
        target: {
          grpc: { address: `127.0.0.1:${server.grpcPort}` },
          http: { url: `http://127.0.0.1:${server.httpPort}` },
        },
        serverCpuUs: () => 0,
        cpus: undefined,
        onNote: () => undefined,
        runBegan: performance.now(),
        progress: new ProgressLine({ isTTY: true, columns: 200, write }),
        signal: interrupt.signal,
      },
    );
    expect(cells.map(({ model, arm }) => `${model} ${armName(arm)}`)).toEqual([
      'text_embedding rest_json',
      'text_embedding rest_binary',
      'text_embedding grpc_raw',
      'text_embedding grpc_typed',
    ]);
    expect(total).toBe(2 * 3 * 4);
  } finally {
    await server.stop();
  }
});

test('a run whose time is over leaves cells out and names them', async () => {
  const plan = { ...matrixPlan(true), sizesKb: [2], concurrencies: [1] };
  const notes: string[] = [];
  const { cells, total } = await measureCells(plan, {
    target: {},
    serverCpuUs: () => 0,
    cpus: undefined,
    onNote: (note) => notes.push(note),
    runBegan: performance.now() - plan.beginWithinMs.cells - 1,
    progress: new ProgressLine({ write: () => true }),
    signal: new AbortController().signal,
  });
  expect(cells).toEqual([]);
  expect(total).toBe(2 * 3 * 4);
  expect(notes).toEqual([
    'There is no open loop of text_embedding 2 KB; image_classification 2 KB; llm_token 2 KB: no closed one says which rate can be answered.',
    'The time of a quick run was over, so these cells are left out: text_embedding 2 KB with 1 at a time; image_classification 2 KB with 1 at a time; llm_token 2 KB with 1 at a time.',
  ]);
});
