/**
 * Measures one generated text by every way there is to get it token by token: gRPC stream, server-sent events, one request per token.
 *
 * Called by `npm run bench` and tests. Owns the process that reads (`stream-process.ts`), so that the client's CPU is its own. The ways
 * take turns, round by round; the first round warms up and is dropped. Must not know who started the server.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { BenchError, SilenceError } from './bench-error.js';
import { compiledFile } from './compiled-file.js';
import type { StreamResult } from './results.js';
import type { CutShort, Progress } from './run-cells.js';
import { bootstrap, mean, median, percentile } from './statistics.js';
import type { StreamSample, StreamTask } from './stream-process.js';

export interface StreamOptions {
  /** `host:port`; without it the ways over gRPC are left out. Plaintext. */
  readonly grpc?: string;
  /** `http://host:port`; without it the ways over REST are left out. */
  readonly http?: string;
  /** A model that generates text. */
  readonly model: string;
  readonly version?: string;
  readonly prompt?: string;
  readonly tokens?: number;
  readonly rounds: number;
  /** Texts one after another in one turn of a way. Default 3; one with a request per token counts as all. */
  readonly runs?: number;
  /** Default `inference.v1`, which this server has; `triton` has ModelStreamInfer alone and no request per token over gRPC. */
  readonly contract?: 'inference.v1' | 'triton';
  /** Default all that the two addresses allow. */
  readonly ways?: readonly StreamResult['way'][];
  /** CPU time of the server so far in microseconds. */
  readonly serverCpuUs?: () => number;
  /** Where given, a way that fails in the warm-up is left out with a sentence, in place of an error. */
  readonly onNote?: (note: string) => void;
  /** The longest wait for a message; default half a minute. */
  readonly silenceMs?: number;
  /** Ends the reading. */
  readonly signal?: AbortSignal;
  /** Where given, hears it when the reading ends before all rounds are done; those that every way has are the results then. */
  readonly onCutShort?: (cut: CutShort) => void;
  /** Called before every turn with the share that is done. */
  readonly onProgress?: (share: number, way: StreamResult['way']) => void;
}

/** For the progress line, from what `onProgress` hears. */
export function streamProgress(share: number, way: StreamResult['way']): Progress {
  const done = Math.round(share * 100);
  return { done, total: 100, unit: '% of the token streams', what: way, secondsLeft: undefined };
}

const GRPC_WAYS: readonly StreamResult['way'][] = ['grpc_stream', 'request_per_token_grpc'];
const ALL_WAYS: readonly StreamResult['way'][] = [
  'grpc_stream',
  'sse',
  'sse_openai',
  'request_per_token_grpc',
  'request_per_token_rest',
];

/** One turn of one way. */
interface Turn {
  readonly sample: StreamSample;
  readonly serverUs: number | null;
}

/** Results in the order of the ways. Throws BenchError with the server's words when a way fails, or with `onNote` when all do. */
export async function runStreams(options: StreamOptions): Promise<StreamResult[]> {
  const { rounds, tokens = 100, runs = 3 } = options;
  let ways = waysOf(options);
  const turns = new Map<StreamResult['way'], Turn[]>(ways.map((way) => [way, []]));
  const reader = startReader();
  options.signal?.addEventListener('abort', reader.end);
  try {
    for (let round = -1; round < rounds; round++) {
      for (const [index, way] of (round % 2 === 0 ? ways : [...ways].reverse()).entries()) {
        options.onProgress?.(((round + 1) * ways.length + index) / ((rounds + 1) * ways.length), way);
        const before = options.serverCpuUs?.();
        const sample = await reader.read(taskOf(options, way, tokens, way.startsWith('request_per_token') ? 1 : runs));
        if (sample.problem !== undefined) {
          const problem = `${way} of model ${options.model}: ${sample.problem}`;
          if (sample.isSilence) throw new SilenceError(problem);
          if (round >= 0 || options.onNote === undefined || ways.length === 1) throw new BenchError(problem);
          options.onNote(`${problem}; it is left out`);
          ways = ways.filter((other) => other !== way);
          continue;
        }
        const serverUs = before === undefined ? null : options.serverCpuUs!() - before;
        if (round >= 0) turns.get(way)!.push({ sample, serverUs });
      }
    }
  } catch (error) {
    const done = Math.min(...ways.map((way) => turns.get(way)!.length));
    if (!(error instanceof BenchError) || done === 0 || options.onCutShort === undefined) throw error;
    options.onCutShort({ reason: error.message, done, total: rounds });
  } finally {
    options.signal?.removeEventListener('abort', reader.end);
    reader.end();
  }
  const text = turns.get(ways[0]!)![0]!.sample.runs[0]!.text;
  return ways.map((way) => resultOf(way, tokens, turns.get(way)!, text));
}

function waysOf({ grpc, http, contract, ways = ALL_WAYS, rounds }: StreamOptions): StreamResult['way'][] {
  const possible = ways.filter((way) => {
    if (way === 'request_per_token_grpc' && contract === 'triton') return false;
    return (GRPC_WAYS.includes(way) ? grpc : http) !== undefined;
  });
  if (possible.length === 0 || rounds < 1)
    throw new BenchError('no way of streaming to measure: an address is missing');
  return possible;
}

function taskOf(options: StreamOptions, way: StreamResult['way'], tokens: number, runs: number): StreamTask {
  const {
    grpc,
    http,
    model,
    version = '',
    prompt = 'Once upon a time',
    contract = 'inference.v1',
    silenceMs = 30_000,
  } = options;
  const origin = GRPC_WAYS.includes(way) ? `http://${grpc}` : http!.replace(/\/$/, '');
  return { way, origin, contract, generation: { model, version, text: prompt, tokens }, runs, silenceMs };
}

/** Medians over the texts of a turn, intervals over turns. */
function resultOf(way: StreamResult['way'], tokens: number, turns: readonly Turn[], text: string): StreamResult {
  const runs = turns.flatMap(({ sample }) => sample.runs);
  const gaps = runs.flatMap(({ atMs }) => atMs.slice(1).map((at, index) => at - atMs[index]!));
  const perText = (value: (turn: Turn) => number) => median(turns.map((turn) => value(turn) / turn.sample.runs.length));
  const overTurns = (value: (run: StreamSample['runs'][number]) => number) =>
    bootstrap(
      turns.map(({ sample }) => median(sample.runs.map(value))),
      median,
    );
  return {
    way,
    tokens,
    totalMs: overTurns(({ endMs }) => endMs),
    firstTokenMs: overTurns(({ atMs, endMs }) => atMs[0] ?? endMs),
    gapP50Ms: percentile(gaps, 50),
    gapP99Ms: percentile(gaps, 99),
    sentBytes: perText(({ sample }) => sample.sentBytes),
    receivedBytes: perText(({ sample }) => sample.receivedBytes),
    clientCpuUs: perText(({ sample }) => sample.cpuUs),
    serverCpuUs: turns[0]!.serverUs === null ? null : perText(({ serverUs }) => serverUs!),
    clientDecodeMs: mean(runs.map(({ decodeMs }) => decodeMs)),
    textEqual: runs.every((run) => run.text === text),
  };
}

function startReader(): { read(task: StreamTask): Promise<StreamSample>; end(): void } {
  const child = fork(compiledFile(import.meta.url, 'stream-process'), { serialization: 'advanced', execArgv: [] });
  const died = once(child, 'exit').then(([code]) => {
    throw new BenchError(`the process that reads streams ended with ${code}`);
  });
  died.catch(() => undefined);
  const heard = () => Promise.race([once(child, 'message').then(([message]) => message as unknown), died]);
  const ready = heard();
  ready.catch(() => undefined);
  return {
    async read(task) {
      await ready;
      if (!child.connected) await died;
      const answer = heard();
      child.send(task);
      return (await answer) as StreamSample;
    },
    end: () => void (child.connected && child.disconnect()),
  };
}
