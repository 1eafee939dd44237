/**
 * `npm run bench`: the article's matrix. `npm run bench -- <name>`: one bench. Each prints its figures, the last line for programs.
 * Ctrl-C ends what was started, with status 130; the matrix writes what it has measured until then, a second one ends that, too.
 *
 * Each bench is one file with one question; README.md beside this says how they measure and what came out.
 */
import { Command, Option } from 'commander';
import { UsageError } from '../src/bench/bench-error.js';
import { INTERRUPTED } from '../src/bench/command.js';
import { onStopSignals } from '../src/stop-signals.js';
import { batching } from './batching.js';
import { addClaimsCommand } from './claims/command.js';
import { experiments } from './experiments/bench.js';
import { floor } from './floor.js';
import { matrix } from './matrix.js';
import { overhead } from './overhead.js';
import { preprocess } from './preprocess.js';
import { rest } from './rest.js';
import { restJson } from './rest-json.js';
import { type Bench, BenchError, type BenchOptions, printResult, say } from './result.js';
import { start } from './start.js';
import { stream } from './stream.js';
import { streamChurn } from './stream-churn.js';
import { streamPeers } from './stream-peers.js';
import { streamProtocols } from './stream-protocols.js';
import { text } from './text.js';
import { tokenQueue } from './token-queue.js';

type GivenOptions = Omit<BenchOptions, 'signal'>;

const BENCHES: readonly Bench[] = [
  matrix,
  floor,
  rest,
  restJson,
  overhead,
  batching,
  start,
  text,
  preprocess,
  stream,
  streamPeers,
  streamProtocols,
  streamChurn,
  tokenQueue,
  experiments,
];

// Before ONNX Runtime is loaded anywhere below.
process.env.ORT_DISABLE_TELEMETRY = '1';

const program = new Command('npm run bench --')
  .description('Measures this server against what it could cost at least.')
  .addOption(
    new Option('--quick', 'a look, noisier: the matrix in less than three minutes, others in less than one').default(
      false,
    ),
  )
  .addOption(new Option('--out <directory>', 'where the matrix writes its files (default: bench-results)'));
for (const bench of BENCHES) {
  program
    .command(bench.name, { isDefault: bench === matrix })
    .description(bench.question)
    .action(async () => {
      const interrupt = new AbortController();
      const end = (): never => process.exit(INTERRUPTED);
      const graceful = bench.endsEarly ? () => interrupt.abort() : end;
      const stopListening = onStopSignals({ graceful, forced: end });
      say(`${bench.name}: ${bench.question}`);
      const figures = await bench.run({ ...program.opts<GivenOptions>(), signal: interrupt.signal });
      // No figures for programs, and what was told to stop may still be at it.
      if (interrupt.signal.aborted) end();
      stopListening();
      printResult(bench.name, figures);
    });
}
addClaimsCommand(program);
try {
  await program.enablePositionalOptions(false).parseAsync();
} catch (error) {
  if (!(error instanceof BenchError)) throw error;
  process.stderr.write(`bench: ${error.message}\n`);
  process.exit(error instanceof UsageError ? 2 : 1);
}
