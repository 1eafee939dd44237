/**
 * What main and a token-stream worker say to each other. Types, and the layout of the memory that they share.
 *
 * Called by `runtime/token-stream-worker.ts`, `workers/token-stream-worker.ts` and the engine, which reads a model's own files into a
 * GenerationSpec. Control goes over a MessagePort as objects; tokens come back over a ring in shared memory (`token-ring.ts`), since there
 * is one for each running stream at each step; counts lie in shared memory too, where main reads them when it is asked for metrics.
 */
import type { CallReply, Failure, SessionOptions } from './messages.js';

/** All that a worker needs to serve one model that generates text. */
export interface GenerationSpec {
  /** Path of the ONNX file; external data lies beside it. */
  readonly path: string;
  /** Directory that external data may not leave. */
  readonly directory: string;
  readonly options: SessionOptions;
  /** Contents of tokenizer.json and tokenizer_config.json, for turning tokens into text. */
  readonly tokenizerJson: Uint8Array<SharedArrayBuffer>;
  readonly tokenizerConfigJson: string;
  /** As config.json or genai_config.json names it: `llama`, `qwen2`, ...; '' where neither does. */
  readonly modelType: string;
  /** Names of the tensors that are not called as optimum calls them; `%d` stands for the layer (genai_config.json). */
  readonly names: DecoderNames;
  /** Tokens of prompt and text together. */
  readonly contextLength: number;
  /** The smallest window of attention over the past; Infinity where every token sees all before it. */
  readonly slidingWindow: number;
  /** Numbers of a key or value of one head, as the configuration has it; graphs may leave it open. */
  readonly headSize?: number | undefined;
  /** Streams that run together; others wait. */
  readonly maxSequences: number;
  /** Most bytes for keys and values of running streams. */
  readonly kvCacheBytes: number;
  /** Most bytes for those of ended streams, whose prompts others may begin with; 0 = no prefix cache. */
  readonly prefixCacheBytes: number;
  /** Most tokens of a prompt that are worked on in one run. */
  readonly prefillChunk: number;
}

export interface DecoderNames {
  readonly inputIds: string;
  readonly attentionMask: string;
  readonly positionIds: string;
  readonly logits: string;
  readonly pastKey: string;
  readonly pastValue: string;
  readonly presentKey: string;
  readonly presentValue: string;
}

/** Optimum's and onnx-community's. */
export const DECODER_NAMES: DecoderNames = {
  inputIds: 'input_ids',
  attentionMask: 'attention_mask',
  positionIds: 'position_ids',
  logits: 'logits',
  pastKey: 'past_key_values.%d.key',
  pastValue: 'past_key_values.%d.value',
  presentKey: 'present.%d.key',
  presentValue: 'present.%d.value',
};

/**
 * How a decoder's state can be kept for several sequences at once, found out while it loads:
 * `right`: row b's tokens lie at 0.., what is behind is masked (GroupQueryAttention). `holes`: the same, and the new token comes behind the
 * whole capacity, with its own position (plain graphs with position ids). `left`: tokens end at the capacity (plain graphs that count
 * positions themselves). `alone`: not at all, one sequence at a time.
 */
export type KvLayout = 'right' | 'holes' | 'left' | 'alone';

export interface LoadedGeneration {
  readonly vocabularySize: number;
  readonly layout: KvLayout;
  /** Bytes of keys and values for one token. */
  readonly kvBytesPerToken: number;
  readonly loadMs: number;
  /** By how much the process grew meanwhile. */
  readonly grownBytes: number;
  /** What the log should say. */
  readonly notes: readonly string[];
}

/** `SamplingParameters` of the engine with every default filled in; checked. */
export interface Sampling {
  /** Never more than the context has room for behind the prompt. */
  readonly maxTokens: number;
  readonly minTokens: number;
  /** 0 = greedy. */
  readonly temperature: number;
  /** 0 = all. */
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Two 32-bit halves; drawn by main where the request has none. */
  readonly seed: readonly [number, number];
  /** -1 = none; else how many alternatives. */
  readonly logprobs: number;
  readonly stop: readonly string[];
  /** Those of the request. */
  readonly stopTokenIds: readonly number[];
  /** The model's end-of-sequence tokens; empty with ignoreEos. */
  readonly eosTokenIds: readonly number[];
  /** Never chosen. */
  readonly suppressTokenIds: readonly number[];
  readonly logitBias: readonly (readonly [id: number, bias: number])[];
  readonly skipSpecialTokens: boolean;
  readonly includeStop: boolean;
}

export interface StartStream {
  readonly type: 'start';
  /** Number of the stream, from 0; used again after its end. */
  readonly stream: number;
  /** The prompt, not empty; transferred. */
  readonly tokens: Int32Array<ArrayBuffer>;
  readonly sampling: Sampling;
  /** Deltas that may be on their way or untaken. */
  readonly window: number;
  /** Streams that wait take turns by this. */
  readonly clientKey: string;
}

export type ToTokenStreamWorker =
  | { readonly type: 'attach'; readonly ring: SharedArrayBuffer; readonly gauges: SharedArrayBuffer }
  | { readonly type: 'load'; readonly call: number; readonly spec: GenerationSpec }
  | StartStream
  /** No record of it comes after the answer, which is a record with FLAG_CANCELLED; the stream's number is free then. */
  | { readonly type: 'cancel'; readonly stream: number }
  /** So many deltas more may be sent. */
  | { readonly type: 'credit'; readonly stream: number; readonly deltas: number }
  /** The worker ends its streams with an error, releases the session and ends its task. */
  | { readonly type: 'close' };

/** The ring has records, and main was not about to look. */
export const RECORDS_THERE = 0;

export type FromTokenStreamWorker = CallReply | typeof RECORDS_THERE;

/**
 * One record of the ring: fixed fields as 32-bit words, then text (UTF-8), then JSON (`RecordDetail`), each padded to 4 bytes.
 * Written by the worker for every chosen token, and for the end of a stream that chose none.
 */
export const RECORD = {
  /** Bytes of the whole record, a multiple of 8. */
  byteLength: 0,
  stream: 1,
  flags: 2,
  tokenId: 3,
  /** Float32. */
  logit: 4,
  textBytes: 5,
  detailBytes: 6,
  /** Keeps what follows on 8 bytes. */
  unused: 7,
  /** Float64: when the token was chosen, on the clock of base/clock.ts. */
  timeMs: 8,
  /** Words before the text. */
  words: 10,
} as const;

/** A token was chosen (absent: the record only ends a stream). */
export const FLAG_TOKEN = 1;
/** The stream has ended well; the detail has `end`. */
export const FLAG_END = 2;
/** It has failed; the detail has `failure`. */
export const FLAG_FAILED = 4;
/** It was cancelled by main. */
export const FLAG_CANCELLED = 8;

/** The JSON behind a record; on most there is none. */
export interface RecordDetail {
  readonly logprob?: ChosenLogprobDetail;
  readonly end?: EndDetail;
  readonly failure?: Failure;
}

export interface LogprobDetail {
  readonly id: number;
  readonly token: string;
  readonly bytes: readonly number[];
  readonly logprob: number;
}

export interface ChosenLogprobDetail extends LogprobDetail {
  /** Characters (code points) of generated text before its own. */
  readonly offset: number;
  readonly top: readonly LogprobDetail[];
}

export interface EndDetail {
  readonly finishReason: 'stop' | 'length';
  readonly stopReason?: number | string;
  readonly completionTokens: number;
  readonly cachedTokens: number;
  /** Absent where logprobs were not asked for. */
  readonly cumulativeLogprob?: number;
  /** When the stream got its slot, and when the first run of its prompt began; on the clock of base/clock.ts. */
  readonly scheduledMs: number;
  readonly prefillMs: number;
}

/**
 * Positions in the gauges, a Float64Array written by the worker alone. Times in milliseconds, added up. Behind `stepsBySize` comes one
 * count for each number of streams that a step had, from 1 to maxSequences.
 */
export const GAUGE = {
  running: 0,
  waiting: 1,
  /** Streams whose window is used up; they are not among the running. */
  paused: 2,
  /** Bytes of keys and values that are in use, and for how many there is room now. */
  kvUsedBytes: 3,
  kvBytes: 4,
  prefixBytes: 5,
  /** Prompt tokens seen, and those of them that came from the prefix cache. */
  promptTokens: 6,
  prefixHitTokens: 7,
  prefillRuns: 8,
  prefillMs: 9,
  decodeSteps: 10,
  decodeMs: 11,
  /** Time between runs that steps took: choosing, text, records. */
  hostMs: 12,
  /** Streams that had to leave the batch because others needed the memory. */
  preemptions: 13,
  stepsBySize: 16,
} as const;
