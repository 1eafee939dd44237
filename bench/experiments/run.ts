/**
 * Runs the experiments behind the claims, one after the other, on servers that they share.
 *
 * Called by the matrix, whose results hold what comes out, and by `npm run bench -- experiments`. Owns the order and the servers.
 */
import type { ExperimentResult } from '../../src/bench/results.js';
import { unlessStopped } from '../../src/bench/unless-stopped.js';
import { leftOutNote } from '../left-out.js';
import { BenchError, say } from '../result.js';
import { balancing } from './balancing.js';
import { channelPerRequest } from './channel-per-request.js';
import { channelPool } from './channel-pool.js';
import { classificationResponse } from './classification-response.js';
import { connectionOverhead } from './connection-overhead.js';
import { embeddingBytes } from './embedding-bytes.js';
import type { Experiment } from './experiment.js';
import { gzip } from './gzip.js';
import { headOfLine } from './head-of-line.js';
import { hpack } from './hpack.js';
import { openLab } from './lab.js';
import { parseSerialize } from './parse-serialize.js';
import { tokenGzip, tokenParse } from './tokens.js';

const EXPERIMENTS: Readonly<Record<string, Experiment>> = {
  classification_response: classificationResponse,
  parse_serialize: parseSerialize,
  embedding_bytes: embeddingBytes,
  hpack,
  token_gzip: tokenGzip,
  token_parse: tokenParse,
  gzip,
  connection_overhead: connectionOverhead,
  channel_per_request: channelPerRequest,
  channel_pool: channelPool,
  head_of_line: headOfLine,
  balancing,
};

export const EXPERIMENT_NAMES: readonly string[] = Object.keys(EXPERIMENTS);

export interface RunOptions {
  readonly quick: boolean;
  /** Left out = all. */
  readonly names?: readonly string[];
  /** Progress; standard output when not given. */
  readonly say?: (line: string) => void;
  /** On `performance.now()`: what would begin later is left out. */
  readonly beginUntilMs?: number;
  /** Hears, where given, which were left out and which failed, in place of an error. */
  readonly onNote?: (note: string) => void;
  /** Ends it with the experiments so far. */
  readonly signal?: AbortSignal;
}

/**
 * Throws BenchError for a name that is none, and, without `onNote`, when a server or a client fails: a figure from errors would be none.
 */
export async function runExperiments({
  quick,
  names = EXPERIMENT_NAMES,
  say: tell = say,
  beginUntilMs = Number.POSITIVE_INFINITY,
  onNote,
  signal,
}: RunOptions): Promise<ExperimentResult[]> {
  const unknown = names.filter((name) => !Object.hasOwn(EXPERIMENTS, name));
  if (unknown.length > 0) {
    throw new BenchError(`no experiment '${unknown[0]}', expected one of ${EXPERIMENT_NAMES.join(', ')}`);
  }
  const lab = openLab();
  const results: ExperimentResult[] = [];
  const leftOut: string[] = [];
  try {
    for (const [i, name] of names.entries()) {
      if (signal?.aborted) break;
      if (performance.now() > beginUntilMs) {
        leftOut.push(name);
        continue;
      }
      tell(`experiment ${i + 1}/${names.length}: ${name}`);
      const began = performance.now();
      try {
        const work = EXPERIMENTS[name]!({ quick, lab, say: (line) => tell(`  ${line}`) });
        const result = await unlessStopped(signal, work);
        for (const [figure, value] of Object.entries(result.figures)) {
          if (!Number.isFinite(value)) throw new BenchError(`${name}: figure '${figure}' is ${value}`);
        }
        results.push(result);
      } catch (error) {
        if (signal?.aborted) break;
        if (!(error instanceof BenchError) || onNote === undefined) throw error;
        onNote(`The experiment ${name} failed: ${error.message}`);
      }
      tell(`  ${((performance.now() - began) / 1000).toFixed(1)} s`);
    }
    if (leftOut.length > 0) onNote?.(leftOutNote('experiments', leftOut));
  } finally {
    await lab.close();
  }
  return results;
}
