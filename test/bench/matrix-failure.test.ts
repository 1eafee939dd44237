/** A matrix whose server ends in the middle has what was measured until then, and says at which cell it was. */
import { expect, test } from 'vitest';
import { matrixPlan } from '../../bench/matrix-cells.js';
import { measureCells } from '../../bench/matrix-measure.js';
import { writeMatrixModels } from '../../bench/matrix-models.js';
import { cpuTime } from '../../bench/process-cpu.js';
import { ProgressLine } from '../../src/bench/progress-line.js';
import { temporaryDirectory } from '../support/engine.js';
import { startServer } from '../support/server.js';

test('a run whose server ends keeps the cells that are complete and names the one that failed', async () => {
  const repository = temporaryDirectory();
  writeMatrixModels(repository);
  const server = await startServer({ repository });
  let stopped: Promise<unknown> | undefined;
  const write = (text: string): void => {
    if (text.includes('image_classification')) stopped ??= server.stop();
  };
  const notes: string[] = [];
  const { cells, total, failure } = await measureCells(
    // Rounds that last: what is left takes far longer than the server's end.
    { ...matrixPlan(true), sizesKb: [2], concurrencies: [1], rounds: 1, msPerRound: 60 },
    {
      target: {
        grpc: { address: `127.0.0.1:${server.grpcPort}` },
        http: { url: `http://127.0.0.1:${server.httpPort}` },
      },
      serverCpuUs: () => 0,
      cpus: undefined,
      onNote: (note) => notes.push(note),
      runBegan: performance.now(),
      progress: new ProgressLine({ isTTY: true, columns: 200, write }),
      signal: new AbortController().signal,
    },
  );
  await stopped;
  expect(new Set(cells.map(({ model }) => model))).toContain('text_embedding');
  expect(cells.length).toBeLessThan(total);
  expect(failure).toMatch(/^(image_classification|llm_token) 2 KB.*: ./);
  // What follows from its end is not told one by one.
  expect(notes.join()).not.toContain('There is no open loop');
});

test('the CPU time of a process that has ended is a matter of the process', () => {
  // No process has so high a number.
  expect(() => cpuTime(2 ** 30)).toThrow('process 1073741824 has ended');
});
