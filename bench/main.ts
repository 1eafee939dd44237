/**
 * `npm run bench`: the article's matrix. `npm run bench -- <name>`: one bench. Each prints its figures, the last line for programs.
 *
 * Each bench is one file with one question; README.md beside this says how they measure and what came out.
 */
import { Command, Option } from 'commander';
import { batching } from './batching.js';
import { addClaimsCommand } from './claims/command.js';
import { experiments } from './experiments/bench.js';
import { floor } from './floor.js';
import { matrix } from './matrix.js';
import { overhead } from './overhead.js';
import { preprocess } from './preprocess.js';
import { rest } from './rest.js';
import { restJson } from './rest-json.js';
import { BenchError, type BenchOptions, printResult, say } from './result.js';
import { start } from './start.js';
import { stream } from './stream.js';
import { streamChurn } from './stream-churn.js';
import { streamPeers } from './stream-peers.js';
import { streamProtocols } from './stream-protocols.js';
import { text } from './text.js';
import { tokenQueue } from './token-queue.js';

const BENCHES = [
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
      const options = program.opts<BenchOptions>();
      say(`${bench.name}: ${bench.question}`);
      printResult(bench.name, await bench.run(options));
    });
}
addClaimsCommand(program);
try {
  await program.enablePositionalOptions(false).parseAsync();
} catch (error) {
  if (!(error instanceof BenchError)) throw error;
  process.stderr.write(`bench: ${error.message}\n`);
  process.exit(1);
}
