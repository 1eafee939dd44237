/**
 * What the front ends and the engine say to each other: one request, one response, one engine.
 *
 * Called by `grpc/` and `rest/`. Must not know protobuf, HTTP, piscina, ONNX Runtime or threads.
 */
import type { Datatype } from '../base/datatype.js';
import type { ServeError } from '../base/errors.js';
import type { Timeline } from '../base/timeline.js';
import type { GenerateCall, GenerateHandler, GenerateRequest, GenerativeContent } from './generation-types.js';

/**
 * What an input holds in place of the tensor's own elements: UTF-8 texts or encoded pictures (`data` as BYTES elements), token
 * ids (`data` as INT64), an embedding (`data` as FP32).
 */
export type ContentKind = 'text' | 'image' | 'tokens' | 'embedding';

/** One input as received. Nothing in it has been validated but that `data` is really there. */
export interface InferInput {
  readonly name: string;
  /** As the client wrote it; may be no datatype at all. */
  readonly datatype: string;
  /** As the client wrote it; entries may be negative. An int64 that a double cannot hold exactly is given as the nearest double. */
  readonly shape: readonly number[];
  /**
   * Elements in the raw layout of the protocol: little-endian, row-major, BOOL one byte, each BYTES element after its 4-byte
   * little-endian length. Front ends turn typed contents and JSON into this. May be a view on the received message.
   */
  readonly data: Uint8Array;
  /**
   * Set where the contract or the route says what is in it; then `name` may be '' where the model has one input for that kind, and
   * `shape` is [elements] for text and image, [n] for tokens and embedding. Not set: an input of datatype BYTES for which the model
   * has no string tensor is content of the one kind that the model takes under that name.
   */
  readonly content?: ContentKind;
}

/** One output asked for. */
export interface RequestedOutput {
  readonly name: string;
  /** Triton's classification extension: the k likeliest classes as strings "value:index:label"; absent or 0 = the tensor itself. */
  readonly classification?: number;
}

/** Request parameters of the protocol; 64-bit integers that a double cannot hold are bigint. */
export type Parameters = ReadonlyMap<string, boolean | number | bigint | string>;

/** The four encodings a request can arrive in; the budget and the metrics are kept per arm. */
export type Arm = 'rest_json' | 'rest_binary' | 'grpc_raw' | 'grpc_typed';

export interface InferRequest {
  readonly modelName: string;
  /** '' = the highest ready version. */
  readonly modelVersion: string;
  /** Echoed in the response when not ''. */
  readonly id: string;
  readonly inputs: readonly InferInput[];
  /** Empty = all outputs in the model's order. */
  readonly outputs: readonly RequestedOutput[];
  readonly parameters: Parameters;
  readonly arm: Arm;
  /** When the caller stops waiting, on the clock of base/clock.ts; Infinity when not known. */
  readonly deadlineMs: number;
  /** Stamped by the front end up to `decoded`, by the engine from `queued` to `scattered`. */
  readonly timeline: Timeline;
  /** `infer` of a model that generates text gives the whole text, without the prompt, in one response; else it refuses such a model as Triton does. */
  readonly wholeText?: boolean;
  /**
   * `inferStream` of a model that generates text gives a response for each token, also where no `stream` (tensor, sampling parameter or
   * request parameter) asks for that; only `stream` = false undoes it. The prompt is in no response then, unless asked for.
   */
  readonly streams?: boolean;
  /** As in GenerateRequest; '' where the front end has none. */
  readonly clientKey?: string;
}

/** One output of a response. */
export interface InferOutput {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /** Raw layout as in {@link InferInput.data}. LENT: it lies in shared memory that is reused as soon as `onResponse` returns. */
  readonly data: Uint8Array;
}

export interface InferResponse {
  readonly modelName: string;
  /** The version that ran, also when the request asked for ''. */
  readonly modelVersion: string;
  readonly id: string;
  readonly outputs: readonly InferOutput[];
  /** Tokens that the request's texts became, padding not counted; absent where it had no text. */
  readonly inputTokens?: number;
}

/** Responses to one request of a stream, in order; the last one is `final`. Or, at any point, `onError` once. None may throw. */
export interface InferStreamHandler {
  /** Outputs are lent until this returns: encode or copy them before. */
  onResponse(response: InferResponse, final: boolean): void;
  onError(error: ServeError): void;
}

/** Exactly one of the two is called, once, unless the request was cancelled first; then neither is. Neither may throw. */
export interface InferHandler {
  /** Outputs are lent until this returns: encode or copy them before. */
  onResponse(response: InferResponse): void;
  onError(error: ServeError): void;
}

/** The caller has gone: queued work is dropped, running work finishes and its result is thrown away. Idempotent. */
export type Cancel = () => void;

export interface TensorMetadata {
  readonly name: string;
  readonly datatype: Datatype;
  /** -1 = variable; with a leading -1 when the model batches. */
  readonly shape: readonly number[];
}

export interface ModelMetadata {
  readonly name: string;
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
}

/** What a model takes in place of raw tensors, and gives as an embedding. */
export interface ModelContent {
  readonly inputs: readonly { readonly name: string; readonly kind: 'text' | 'text_pair' | 'image' }[];
  /** The output with one vector per text (FP32 [-1, n]); undefined where the model has none. */
  readonly embeddingOutput: string | undefined;
  /** Why a text model has none, for the error that a caller gets; '' where there is nothing to say. */
  readonly embeddingProblem: string;
  /** Vectors may be cut to fewer dimensions and normalized again (matryoshka embeddings). */
  readonly isMatryoshka: boolean;
  /** Set for a model that generates text; such a model answers `generate` and `inferStream`. */
  readonly generation: GenerativeContent | undefined;
}

/** A count of events and the time they took together. `ns` is a whole number of nanoseconds. */
export interface StatisticDuration {
  readonly count: number;
  readonly ns: number;
}

/** Triton's `InferResponseStatistics`: of all responses with one number, how long they took to come and to be handed over. */
export interface ResponseStatistics {
  readonly compute_infer: StatisticDuration;
  readonly compute_output: StatisticDuration;
  readonly success: StatisticDuration;
  readonly fail: StatisticDuration;
  readonly empty_response: StatisticDuration;
  readonly cancel: StatisticDuration;
}

/** Triton's `ModelStatistics`, field for field (snake_case, as both encodings print it). */
export interface ModelStatistics {
  readonly name: string;
  readonly version: string;
  /** Milliseconds since the epoch; 0 = never. */
  readonly last_inference: number;
  readonly inference_count: number;
  readonly execution_count: number;
  readonly inference_stats: {
    readonly success: StatisticDuration;
    readonly fail: StatisticDuration;
    readonly queue: StatisticDuration;
    readonly compute_input: StatisticDuration;
    readonly compute_infer: StatisticDuration;
    readonly compute_output: StatisticDuration;
    readonly cache_hit: StatisticDuration;
    readonly cache_miss: StatisticDuration;
  };
  readonly batch_stats: readonly {
    readonly batch_size: number;
    readonly compute_input: StatisticDuration;
    readonly compute_infer: StatisticDuration;
    readonly compute_output: StatisticDuration;
  }[];
  readonly memory_usage: readonly { readonly type: string; readonly id: number; readonly byte_size: number }[];
  /** Of a model that answers with several responses, by the response's number, which begins with 0; the first few. */
  readonly response_stats?: Readonly<Record<string, ResponseStatistics>>;
}

export type ModelState = 'UNKNOWN' | 'READY' | 'UNAVAILABLE' | 'LOADING' | 'UNLOADING';

/** One line of the repository index; a model of which no version was ever loaded has only a name (and a reason). */
export interface ModelIndexEntry {
  readonly name: string;
  readonly version: string;
  readonly state: ModelState | '';
  readonly reason: string;
}

/** The engine's one door. Every call is safe at any time after start; those that throw, throw ServeError. */
export interface Engine {
  /** Server name (`--id`), version and the protocol extensions that are really there. */
  readonly serverName: string;
  readonly serverVersion: string;
  readonly extensions: readonly string[];
  /** Validates, queues, batches and runs; never throws, `handler` is called (maybe before this returns). */
  infer(request: InferRequest, handler: InferHandler): Cancel;
  /**
   * As `infer`, for models that answer a request with several responses: those that generate text, by the tensors that Triton's language
   * model backends take (`text_input`, `sampling_parameters`, `stream`, ... -> `text_output`, ...). Any other model answers once. A
   * response counts as one delta for `taken`. Besides the outputs of the model's metadata there are, where `outputs` names them, `token_id`
   * (INT32) and `token_logit` (FP32, the model's own output): one element for each token of the response, none where it only ends the text.
   */
  inferStream(request: InferRequest, handler: InferStreamHandler): GenerateCall;
  /** Generates text; never throws, `handler` is called (maybe before this returns). INVALID_ARGUMENT for a model that does not. */
  generate(request: GenerateRequest, handler: GenerateHandler): GenerateCall;
  isReady(): boolean;
  /** False for an unknown or unloaded model; throws INVALID_ARGUMENT for a malformed version. */
  isModelReady(name: string, version: string): boolean;
  /**
   * Resolves when the version ('' = the highest) can be asked by the calls below, loading it first where it is to be loaded on first
   * use; rejects with ServeError (NOT_FOUND, UNAVAILABLE, INVALID_ARGUMENT, DEADLINE_EXCEEDED). `deadlineMs` as in InferRequest.
   * `signal` is aborted when the caller has gone: then it rejects at once (CANCELLED) and holds nothing of the caller's any more.
   */
  whenReady(name: string, version: string, deadlineMs: number, signal?: AbortSignal): Promise<void>;
  /** Throws NOT_FOUND or UNAVAILABLE. */
  modelMetadata(name: string, version: string): ModelMetadata;
  /** Throws as modelMetadata. */
  modelContent(name: string, version: string): ModelContent;
  /** Triton's ModelConfig as a plain object: proto field names, enums as labels, int64 as numbers. Throws as modelMetadata. */
  modelConfig(name: string, version: string): Record<string, unknown>;
  /** Both may be ''; '' for name = all models. Throws as modelMetadata. */
  modelStatistics(name: string, version: string): ModelStatistics[];
  repositoryIndex(readyOnly: boolean): ModelIndexEntry[];
  /** Called whenever isReady() or some isModelReady() may have changed. */
  onReadinessChange(listener: () => void): void;
}

/**
 * Bytes of requests being worked on, over all connections: a front end reserves before it keeps a body and releases when the
 * reply is out. The bound that keeps a burst of large requests from becoming the process's memory.
 */
export interface ByteBudget {
  /** False when `bytes` more would pass the bound; nothing is reserved then. */
  reserve(bytes: number): boolean;
  release(bytes: number): void;
}
