/**
 * The command `tensorwire bench`: measures REST against gRPC on any server of the Open Inference Protocol and ends in a verdict.
 *
 * Called by `main.ts` with what stands behind `bench`. Tables and the verdict go to stdout, progress to stderr. What can't be measured is
 * left out with a note; only when nothing is left it is an error. A signal that ends it, or a server that goes away, leaves what was
 * measured so far.
 */
import type { ModelMetadata, ServerMetadata } from '../client/types.js';
import { BenchError, SilenceError, UsageError } from './bench-error.js';
import { payloadName } from './cell-result.js';
import { type CommandOptions, HelpAnswer, parseCommandOptions } from './command-options.js';
import { environmentOf } from './environment.js';
import { startLoad } from './load.js';
import type { LoadRunner, Payload } from './load-types.js';
import { describeServer } from './metadata.js';
import { type Guess, payloadFromJson, payloadGuesses } from './payload.js';
import { ProgressLine } from './progress-line.js';
import { makeOutputDirectory, writeReportFiles } from './report-files.js';
import { resultsTable } from './report-table.js';
import { type ArmSpec, armName, type BenchResults, type CellResult, type StreamResult } from './results.js';
import { type CutShort, runCells } from './run-cells.js';
import { runStreams, streamProgress } from './streams.js';
import { unlessStopped } from './unless-stopped.js';
import { verdict } from './verdict.js';
import { verdictText } from './verdict-text.js';

/** What shells tell of a command that Ctrl-C has ended. */
export const INTERRUPTED = 130;
/** As of shells, too. */
const USAGE = 2;

/**
 * Resolves with the exit status: 0, or after one line on stderr saying what is wrong 1, 2 when it is what was typed, and 130 when `signal`
 * has ended it.
 */
export async function benchCommand(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const progress = new ProgressLine(process.stderr);
  let results: BenchResults | undefined;
  try {
    const options = parseCommandOptions(argv);
    results = await measure(options, progress, signal);
    progress.end();
    report({ ...results, command: commandText(argv) }, options);
    if (results.cutShort === undefined) return 0;
    process.stderr.write(`tensorwire bench: ended early: ${results.cutShort}\n`);
    return signal.aborted ? INTERRUPTED : 1;
  } catch (error) {
    progress.end();
    if (signal.aborted && results === undefined) {
      process.stderr.write('tensorwire bench: interrupted before anything was measured\n');
      return INTERRUPTED;
    }
    if (error instanceof HelpAnswer) {
      process.stdout.write(error.text);
      return 0;
    }
    if (!(error instanceof BenchError)) throw error;
    const advice = error instanceof SilenceError ? '; --timeout waits longer' : '';
    process.stderr.write(`tensorwire bench: ${error.message}${advice}\n`);
    return error instanceof UsageError ? USAGE : 1;
  }
}

/** What to type to run it again; names and passwords of URLs are left out, as reports are shown around. */
function commandText(argv: readonly string[]): string {
  const words = argv.map((word) => word.replace(/\/\/[^/@]*@/, '//'));
  return [
    'tensorwire bench',
    ...words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : JSON.stringify(word))),
  ].join(' ');
}

function report(results: BenchResults, { out, json }: CommandOptions): void {
  const decided = verdict(results);
  if (json) process.stdout.write(`${JSON.stringify({ ...results, verdict: decided })}\n`);
  else {
    const width = process.stdout.columns || 120;
    process.stdout.write(`${resultsTable(results, { width })}\n\n${verdictText(decided, { width })}\n`);
  }
  if (out === undefined) return;
  const [first] = writeReportFiles(out, results);
  process.stderr.write(`wrote ${first} and what it shows\n`);
}

async function measure(options: CommandOptions, progress: ProgressLine, signal: AbortSignal): Promise<BenchResults> {
  const { target, model, version, input, prompt, rounds, processes, quick, out, timeoutMs } = options;
  if (out !== undefined) makeOutputDirectory(out);
  const startedAt = new Date();
  const began = performance.now();
  const described = input === undefined ? { name: model, version } : undefined;
  const { server, model: metadata } = await unlessStopped(signal, describeServer(target, described, timeoutMs));
  const notes: string[] = [];
  let cutShort: string | undefined;
  const onCutShort = ({ reason, done, total }: CutShort): void => {
    const part = `${done} of ${total} ${prompt === undefined ? 'cells' : 'rounds of the token streams'}`;
    cutShort = signal.aborted ? `interrupted, ${part} measured` : `${part} measured, then ${reason}`;
  };
  const surroundings = { options, server, notes, progress, signal, onCutShort };
  const measured =
    prompt === undefined
      ? { cells: await measureCells(guessesOf(options, metadata), surroundings), streams: [] }
      : { cells: [], streams: await measureStreams(prompt, surroundings) };
  return {
    schema: 1,
    startedAt: startedAt.toISOString(),
    seconds: (performance.now() - began) / 1000,
    quick,
    rounds,
    ...(cutShort !== undefined && { cutShort }),
    environment: environmentOf({
      server: { name: server.name, version: server.version },
      pinned: false,
      clientProcesses: processes,
    }),
    ...measured,
    experiments: [],
    notes,
  };
}

interface Surroundings {
  readonly options: CommandOptions;
  readonly server: ServerMetadata;
  readonly notes: string[];
  readonly progress: ProgressLine;
  readonly signal: AbortSignal;
  readonly onCutShort: (cut: CutShort) => void;
}

async function measureCells(
  guesses: readonly Guess[],
  { options, server, notes, progress, signal, onCutShort }: Surroundings,
): Promise<CellResult[]> {
  const { target, processes, loads, rounds, msPerRound, timeoutMs } = options;
  const runner = await startLoad(target, { processes, silenceMs: timeoutMs });
  // Whoever waits for a client process hears that it has ended.
  const end = (): void => void runner.close();
  signal.addEventListener('abort', end);
  try {
    const possible = await possibleCells(runner, guesses, options, server, notes);
    const cells = possible.flatMap(({ payload, arms }) =>
      loads.flatMap((load) => arms.map((arm) => ({ payload, arm, load }))),
    );
    return await runCells(runner, cells, {
      rounds,
      warmUpRounds: 1,
      msPerRound,
      onProgress: (state) => progress.show(state),
      onNote: (note) => notes.push(note),
      onCutShort,
    });
  } finally {
    signal.removeEventListener('abort', end);
    await runner.close();
  }
}

async function measureStreams(
  prompt: string,
  { options, server, notes, progress, signal, onCutShort }: Surroundings,
): Promise<StreamResult[]> {
  const { target, model, version, rounds, timeoutMs } = options;
  return runStreams({
    ...(target.grpc && { grpc: target.grpc.address }),
    ...(target.http && { http: target.http.url }),
    model,
    ...(version !== undefined && { version }),
    prompt,
    rounds,
    silenceMs: timeoutMs,
    signal,
    onCutShort,
    // This server has both; Triton's is what others have.
    contract: server.name === 'tensorwire' ? 'inference.v1' : 'triton',
    onNote: (note) => notes.push(note),
    onProgress: (share, way) => progress.show(streamProgress(share, way)),
  });
}

function guessesOf(options: CommandOptions, metadata: ModelMetadata | undefined): Guess[] {
  const { model, version, input, sizesKb, shapes } = options;
  if (input !== undefined) return [{ payloads: [payloadFromJson(input, model, version)], words: undefined }];
  return payloadGuesses(metadata!, { sizesKb, shapes, ...(version !== undefined && { version }) });
}

/** Of the protocol's tensors behind the JSON, as servers name it. */
const BINARY_EXTENSION = 'binary_tensor_data';

interface PossibleCells {
  readonly payload: Payload;
  readonly arms: readonly ArmSpec[];
}

interface Probed {
  readonly possible: readonly PossibleCells[];
  readonly refused: readonly { readonly payload: Payload; readonly reason: string }[];
  /** By arm. */
  readonly reasons: ReadonlyMap<string, string>;
}

/** One call of each payload by every arm. */
async function probeAll(runner: LoadRunner, payloads: readonly Payload[], arms: readonly ArmSpec[]): Promise<Probed> {
  const reasons = new Map<string, string>();
  const possible: PossibleCells[] = [];
  const refused: { payload: Payload; reason: string }[] = [];
  for (const payload of payloads) {
    const own: ArmSpec[] = [];
    let reason = '';
    for (const arm of arms) {
      const problem = await problemOf(runner, payload, arm);
      if (problem === undefined) own.push(arm);
      else {
        reason ||= problem;
        reasons.set(armName(arm), problem);
      }
    }
    if (own.length > 0) possible.push({ payload, arms: own });
    else refused.push({ payload, reason });
  }
  return { possible, refused, reasons };
}

/**
 * The first guess of which something is answered. An arm that none of its payloads can be asked by is left out, and a payload that no arm
 * can ask: each is one note. Throws BenchError when nothing is left of any guess, with the server's reasons and what to do about it.
 */
async function possibleCells(
  runner: LoadRunner,
  guesses: readonly Guess[],
  { input, arms }: CommandOptions,
  { extensions }: ServerMetadata,
  notes: string[],
): Promise<readonly PossibleCells[]> {
  const refusals = new Set<string>();
  for (const { payloads, words } of guesses) {
    const probed = await probeAll(runner, payloads, arms);
    if (probed.possible.length > 0) {
      if (words !== undefined) notes.push(`Requests are ${words}, as others were refused: ${[...refusals].join('; ')}`);
      tellLeftOut(probed, arms, extensions, notes);
      return probed.possible;
    }
    refusals.add(probed.refused[0]!.reason);
  }
  const advice = input === undefined ? adviceFor([...refusals]) : '';
  const [payload] = guesses[0]!.payloads;
  throw new BenchError(`${payloadName(payload!)} is refused: ${[...refusals].join('; ')}${advice}`);
}

function adviceFor(refusals: readonly string[]): string {
  // The protocol's word for models that answer with a stream, which Triton's text has.
  if (refusals.some((refusal) => refusal.includes('decoupled')))
    return '; is it a model that generates text? Then give --prompt';
  return '; give a request that the model takes with --input, or its shapes with --shape';
}

function tellLeftOut(
  { possible, refused, reasons }: Probed,
  arms: readonly ArmSpec[],
  extensions: readonly string[],
  notes: string[],
): void {
  for (const reason of new Set(refused.map((one) => one.reason))) {
    const names = refused.filter((one) => one.reason === reason).map(({ payload }) => payloadName(payload));
    notes.push(`Left out, as refused: ${names.join(', ')}: ${reason}`);
  }
  for (const arm of arms) {
    const name = armName(arm);
    const without = possible.filter((cell) => !cell.arms.includes(arm)).map(({ payload }) => payloadName(payload));
    if (without.length === 0) continue;
    const where = without.length === possible.length ? '' : ` for ${without.join(', ')}`;
    // Servers without the extension say nothing that helps: the bytes behind the JSON are no JSON to them.
    const unlisted = arm.encoding === 'rest_binary' && !extensions.includes(BINARY_EXTENSION);
    const hint = unlisted ? ` (the server doesn't list the extension ${BINARY_EXTENSION})` : '';
    notes.push(`${name} is left out${where}: ${reasons.get(name)}${hint}`);
  }
}

async function problemOf(runner: LoadRunner, payload: Payload, arm: ArmSpec): Promise<string | undefined> {
  try {
    await runner.probe(payload, arm);
    return undefined;
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    if (error instanceof SilenceError)
      throw new SilenceError(`${payloadName(payload)}, ${armName(arm)}: ${error.message}`);
    return error.message;
  }
}
