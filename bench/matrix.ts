/**
 * gRPC or REST? The article's matrix: five sizes, three models, every arm, closed and open loops, and the ways to stream tokens.
 *
 * What `npm run bench` does when no other bench is named. The server runs in its own process with its real defaults, on cores of its own
 * where there are enough. Ends in a table, a verdict and files: `results.json`, `report.md`, plots; so does a run that is
 * interrupted or loses its server, with what it has.
 */
import { cpSync } from 'node:fs';
import { join, relative } from 'node:path';
import { environmentOf } from '../src/bench/environment.js';
import { ProgressLine } from '../src/bench/progress-line.js';
import { makeOutputDirectory, writeReportFiles } from '../src/bench/report-files.js';
import { resultsTable } from '../src/bench/report-table.js';
import type { BenchResults, StreamResult } from '../src/bench/results.js';
import { runStreams, type StreamOptions, streamProgress } from '../src/bench/streams.js';
import { unlessStopped } from '../src/bench/unless-stopped.js';
import { verdict } from '../src/bench/verdict.js';
import { verdictText } from '../src/bench/verdict-text.js';
import { canPin, cpuHalves, pinnedTo } from './affinity.js';
import { EXPERIMENT_NAMES, runExperiments } from './experiments/run.js';
import { leftOutNote } from './left-out.js';
import { matrixPlan } from './matrix-cells.js';
import { matrixFigures } from './matrix-figures.js';
import { checkIndependently, type IndependentChecks } from './matrix-independent.js';
import { measureCells } from './matrix-measure.js';
import { writeMatrixModels } from './matrix-models.js';
import { startTensorwire, workDirectory } from './peer.js';
import { cpuTime } from './process-cpu.js';
import { type Bench, BenchError, type BenchOptions, type Figures, say } from './result.js';

const STREAM_MODEL = 'stories';
/** Of what the server printed, for whoever wants to know why it has died. */
const LAST_LINES = 5;

export const matrix: Bench = {
  name: 'matrix',
  question:
    "gRPC or REST: the article's payloads and models by every arm, a verdict, files with all figures (17 minutes)",
  endsEarly: true,
  run,
};

async function run({ quick, out = 'bench-results', signal }: BenchOptions): Promise<Figures> {
  // Before half an hour of work that could not be kept.
  makeOutputDirectory(out);
  const began = performance.now();
  const { measured, total, failure } = await measureMatrix(quick, signal);
  if (signal.aborted && measured.cells.length === 0) {
    say('interrupted before anything was measured');
    return {};
  }
  if (failure !== undefined && measured.cells.length === 0) throw new BenchError(failure);
  const notes = [...measured.notes];
  const experiments = await runExperiments({
    quick,
    // They have servers of their own, but the figures are to be from one run.
    ...(failure !== undefined && { names: [] }),
    beginUntilMs: began + matrixPlan(quick).beginWithinMs.experiments,
    onNote: (note) => notes.push(note),
    signal,
  });
  const { cells, streams } = measured;
  const done = `${cells.length} of ${total} cells measured, ${streams.length} ways of streaming, ${experiments.length} of ${EXPERIMENT_NAMES.length} experiments`;
  const cutShort = signal.aborted ? `interrupted, ${done}` : failure === undefined ? undefined : `${done}; ${failure}`;
  const results: BenchResults = {
    ...measured,
    experiments: [...measured.experiments, ...experiments],
    seconds: (performance.now() - began) / 1000,
    ...(cutShort !== undefined && { cutShort }),
    notes,
  };
  const width = process.stdout.columns || 120;
  say(resultsTable(results, { width }));
  say(`\n${verdictText(verdict(results), { width })}\n`);
  const [report] = writeReportFiles(out, results);
  say(`report: ${relative(process.cwd(), report!) || report}`);
  if (failure !== undefined && !signal.aborted) throw new BenchError(`ended early: ${cutShort}`);
  if (cutShort !== undefined) process.stderr.write(`bench: ended early: ${cutShort}\n`);
  return matrixFigures(results);
}

interface MeasuredMatrix {
  readonly measured: BenchResults;
  /** Cells that were asked for. */
  readonly total: number;
  /** Why it ended before all of them, and what the server printed last. */
  readonly failure?: string;
}

/** Starts the server, measures everything, stops it. */
async function measureMatrix(quick: boolean, signal: AbortSignal): Promise<MeasuredMatrix> {
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
  let stopped: Promise<void> | undefined;
  try {
    const notes: string[] = [
      'The server compresses no reply over gRPC, since grpc-js takes compressed requests but sends none: +gzip is the request alone there, and request and answer over REST.',
      'The models do not batch, so that no arm is helped by how its requests arrive together.',
    ];
    const { name, version } = (await (await fetch(`${http}/v2`)).json()) as { name: string; version: string };
    const target = { grpc: { address: grpc }, http: { url: http } };
    const { cells, total, ...end } = await measureCells(plan, {
      target,
      serverCpuUs,
      cpus: canPin() ? load : undefined,
      onNote: (note) => notes.push(note),
      runBegan: began,
      progress,
      signal,
    });
    let { failure } = end;
    const isOver = (): boolean => signal.aborted || failure !== undefined;
    const isTime = (part: 'streams' | 'independent'): boolean =>
      !isOver() && performance.now() - began < plan.beginWithinMs[part];
    // What a run lacks that ended early is told once, for all of it.
    const leaveOut = (part: string): void => {
      if (!isOver()) notes.push(leftOutNote('parts', [part]));
    };
    let streams: readonly StreamResult[] = [];
    if (isTime('streams')) {
      const streamOptions: StreamOptions = {
        grpc,
        http,
        model: STREAM_MODEL,
        rounds: plan.streamRounds,
        serverCpuUs,
        onProgress: (share, way) => progress.show(streamProgress(share, way)),
        onNote: (note) => notes.push(note),
        signal,
        onCutShort: ({ done, total: rounds, reason }) => {
          notes.push(
            `The token streams ended after ${done} of ${rounds} rounds: ${signal.aborted ? 'interrupted' : reason}.`,
          );
          failure = reason;
        },
      };
      try {
        streams = await pinnedTo(load, () => runStreams(streamOptions));
      } catch (error) {
        if (!signal.aborted && !(error instanceof BenchError)) throw error;
        failure = (error as Error).message;
      }
    } else leaveOut('the token streams');
    let independent: IndependentChecks = { experiments: [], notes: [] };
    if (isTime('independent')) {
      progress.say('h2load measures one cell per protocol');
      const checks = checkIndependently(target, pid, plan.independent);
      independent = await unlessInterrupted(signal, unlessStopped(signal, checks), independent);
    } else leaveOut('the comparison with h2load');
    progress.end();
    const measured: BenchResults = {
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
    if (failure === undefined) return { measured, total };
    // Behind its end nothing of what it printed is missing.
    stopped = stop().catch((error: Error) => void process.stderr.write(`bench: ${error.message}\n`));
    await stopped;
    return { measured, total, failure: `${failure}${lastWords(own.stderr)}` };
  } finally {
    progress.end();
    await (stopped ?? stop());
  }
}

/** Behind a sentence on a server that has failed. */
function lastWords(stderr: string): string {
  const lines = stderr.trimEnd().split('\n').slice(-LAST_LINES);
  return lines.join('') === '' ? '; the server printed nothing' : `; the server printed last: ${lines.join(' | ')}`;
}

/** What comes of `work`, or `otherwise` where it failed because it was told to stop. */
async function unlessInterrupted<T>(signal: AbortSignal, work: Promise<T>, otherwise: T): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!signal.aborted) throw error;
    return otherwise;
  }
}
