/**
 * gRPC or REST? The article's matrix: five sizes, three models, every arm, closed and open loops, and the ways to stream tokens.
 *
 * What `npm run bench` does when no other bench is named. The server runs in its own process with its real defaults, on cores of its own
 * where there are enough. Ends in a table, a verdict and files: `results.json`, `report.md`, plots.
 */
import { cpSync } from 'node:fs';
import { join, relative } from 'node:path';
import { environmentOf } from '../src/bench/environment.js';
import { ProgressLine } from '../src/bench/progress-line.js';
import { makeOutputDirectory, writeReportFiles } from '../src/bench/report-files.js';
import { resultsTable } from '../src/bench/report-table.js';
import type { BenchResults, StreamResult } from '../src/bench/results.js';
import { runStreams, streamProgress } from '../src/bench/streams.js';
import { verdict } from '../src/bench/verdict.js';
import { verdictText } from '../src/bench/verdict-text.js';
import { canPin, cpuHalves, pinnedTo } from './affinity.js';
import { runExperiments } from './experiments/run.js';
import { leftOutNote } from './left-out.js';
import { matrixPlan } from './matrix-cells.js';
import { matrixFigures } from './matrix-figures.js';
import { checkIndependently, type IndependentChecks } from './matrix-independent.js';
import { measureCells } from './matrix-measure.js';
import { writeMatrixModels } from './matrix-models.js';
import { startTensorwire, workDirectory } from './peer.js';
import { cpuTime } from './process-cpu.js';
import { type Bench, type BenchOptions, type Figures, say } from './result.js';

const STREAM_MODEL = 'stories';

export const matrix: Bench = {
  name: 'matrix',
  question:
    "gRPC or REST: the article's payloads and models by every arm, a verdict, files with all figures (17 minutes)",
  run,
};

async function run({ quick, out = 'bench-results' }: BenchOptions): Promise<Figures> {
  // Before half an hour of work that could not be kept.
  makeOutputDirectory(out);
  const began = performance.now();
  const measured = await measureMatrix(quick);
  const notes = [...measured.notes];
  const experiments = await runExperiments({
    quick,
    beginUntilMs: began + matrixPlan(quick).beginWithinMs.experiments,
    onNote: (note) => notes.push(note),
  });
  const results = {
    ...measured,
    experiments: [...measured.experiments, ...experiments],
    seconds: (performance.now() - began) / 1000,
    notes,
  };
  const width = process.stdout.columns ?? 120;
  say(resultsTable(results, { width }));
  say(`\n${verdictText(verdict(results), { width })}\n`);
  const [report] = writeReportFiles(out, results);
  say(`report: ${relative(process.cwd(), report!) || report}`);
  return matrixFigures(results);
}

/** Starts the server, measures everything, stops it. */
async function measureMatrix(quick: boolean): Promise<BenchResults> {
  const plan = matrixPlan(quick);
  const startedAt = new Date();
  const began = performance.now();
  const repository = workDirectory();
  writeMatrixModels(repository);
  cpSync(join(import.meta.dirname, '../models', STREAM_MODEL), join(repository, STREAM_MODEL), { recursive: true });
  const { server, load } = cpuHalves();
  const { server: own, pid, stop } = await pinnedTo(server, () => startTensorwire(repository));
  const grpc = `127.0.0.1:${own.grpcPort}`;
  const http = `http://127.0.0.1:${own.httpPort}`;
  const serverCpuUs = () => cpuTime(pid).totalUs;
  const progress = new ProgressLine(process.stderr);
  try {
    const notes: string[] = [
      'The server compresses no reply over gRPC, since grpc-js takes compressed requests but sends none: +gzip is the request alone there, and request and answer over REST.',
      'The models do not batch, so that no arm is helped by how its requests arrive together.',
    ];
    const { name, version } = (await (await fetch(`${http}/v2`)).json()) as { name: string; version: string };
    const target = { grpc: { address: grpc }, http: { url: http } };
    const cells = await measureCells(plan, {
      target,
      serverCpuUs,
      cpus: canPin() ? load : undefined,
      onNote: (note) => notes.push(note),
      runBegan: began,
      progress,
    });
    const isTime = (part: 'streams' | 'independent'): boolean => performance.now() - began < plan.beginWithinMs[part];
    let streams: readonly StreamResult[] = [];
    if (isTime('streams')) {
      streams = await pinnedTo(load, () =>
        runStreams({
          grpc,
          http,
          model: STREAM_MODEL,
          rounds: plan.streamRounds,
          serverCpuUs,
          onProgress: (share, way) => progress.show(streamProgress(share, way)),
          onNote: (note) => notes.push(note),
        }),
      );
    } else notes.push(leftOutNote('parts', ['the token streams']));
    let independent: IndependentChecks = {
      experiments: [],
      notes: [leftOutNote('parts', ['the comparison with h2load'])],
    };
    if (isTime('independent')) {
      progress.say('h2load measures one cell per protocol');
      independent = await checkIndependently(target, pid, plan.independent);
    }
    progress.end();
    return {
      schema: 1,
      startedAt: startedAt.toISOString(),
      seconds: (performance.now() - began) / 1000,
      command: `npm run bench${quick ? ' -- --quick' : ''}`,
      quick,
      rounds: plan.rounds,
      environment: environmentOf({ server: { name, version }, pinned: canPin(), clientProcesses: 1 }),
      cells,
      streams,
      experiments: independent.experiments,
      notes: [...notes, ...independent.notes],
    };
  } finally {
    progress.end();
    await stop();
  }
}
