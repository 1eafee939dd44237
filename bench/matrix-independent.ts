/**
 * One cell per protocol measured by h2load as well, which shares no code with our client: would another client see the same server?
 *
 * Used by `matrix.ts`. The cell is one whose time is the server's, since a Node client costs more than h2load and should.
 */
import { startLoad } from '../src/bench/load.js';
import type { LoadTarget } from '../src/bench/load-types.js';
import type { Encoding, ExperimentResult } from '../src/bench/results.js';
import { LOAD_CPU } from './affinity.js';
import { independentCheck } from './independent.js';
import { payloadFor } from './matrix-models.js';
import { workDirectory } from './peer.js';
import { BenchError } from './result.js';

const CELL = { model: 'text_embedding', kb: 1000, concurrency: 8 } as const;
/** Further apart, and one of them measures something else. */
const AGREE_WITHIN = 0.15;

export interface IndependentChecks {
  readonly experiments: readonly ExperimentResult[];
  /** Where the two disagree, or none could be had. */
  readonly notes: readonly string[];
}

/** `pid` is the serving process. */
export async function checkIndependently(
  target: LoadTarget,
  pid: number,
  { rounds, msPerRound }: { readonly rounds: number; readonly msPerRound: number },
): Promise<IndependentChecks> {
  const experiments: ExperimentResult[] = [];
  const notes: string[] = [];
  const directory = workDirectory();
  const runner = await startLoad(target, { processes: 1, cpus: [LOAD_CPU] });
  try {
    for (const encoding of ['grpc_raw', 'rest_binary'] as const) {
      const payload = payloadFor(CELL.model, CELL.kb);
      const { concurrency } = CELL;
      const arm = { encoding, gzip: false };
      const check = { runner, target, pid, payload, arm, concurrency, rounds, msPerRound, directory };
      const { ours, h2load, ratio } = await independentCheck(check);
      experiments.push({
        name: `independent_${encoding}`,
        figures: { ours, h2load, ratio },
        method: methodOf(encoding),
      });
      if (Math.abs(1 - ratio) > AGREE_WITHIN) {
        notes.push(
          `h2load sees ${h2load.toFixed(0)} requests a second by ${encoding} where the bench's client sees ${ours.toFixed(0)}: more than 15 % apart.`,
        );
      }
    }
  } catch (error) {
    if (!(error instanceof BenchError)) throw error;
    notes.push(`No independent load generator has checked this run: ${error.message}`);
  } finally {
    await runner.close();
  }
  return { experiments, notes };
}

function methodOf(encoding: Encoding): string {
  const { model, kb, concurrency } = CELL;
  return `Requests a second of ${model}, ${kb} KB, ${concurrency} at a time, by ${encoding}: this bench's client and h2load by turns, with the same bytes.`;
}
