/**
 * What main and an inference worker say to each other over their MessagePort. Types only, plus the layout of a run message.
 *
 * Called by `runtime/worker-pool.ts` and `workers/inference-worker.ts`. Control messages are objects; the hot one, `run`, and its
 * usual answer are flat arrays of numbers, the cheapest thing the structured clone knows (about 3 us a message).
 *
 * Run message, main -> worker:
 *
 *   [batch, session, slab,
 *    inputCount,  (index, offset, byteLength, rank, dim...)*      index into the session's inputs
 *    outputCount, (index, offset, byteLength, rank, dim...)*]     index into the session's outputs
 *
 *   Offsets are bytes into the slab and multiples of 64. An output with offset -1 is not preallocated (its shape or its size is
 *   not known before the run): the worker answers with a buffer of its own. For BYTES, byteLength counts length prefixes too.
 *
 * Run answer, worker -> main: [batch, computeStart, computeEnd] when every output lies in the slab, else a {@link RunReply}.
 */
import type { ErrorCode } from '../base/errors.js';

/** One input or output as ONNX Runtime declares it; a string dimension is symbolic ('' when it has no name). */
export interface SessionTensor {
  readonly name: string;
  /** ONNX Runtime's tensor type name such as `float32`; `sequence` or the like for what is no tensor. */
  readonly ortType: string;
  readonly dims: readonly (number | string)[];
}

export interface SessionMetadata {
  readonly inputs: readonly SessionTensor[];
  readonly outputs: readonly SessionTensor[];
  /** Integer divisions on data of the request, by which ONNX Runtime can die of SIGFPE (see workers/onnx-scan.ts). */
  readonly integerDivision: boolean;
  /** What loading cost: time, and by how much the process grew while ONNX Runtime made the session. */
  readonly loadMs: number;
  readonly grownBytes: number;
}

/** How a session is to be made; plain data so that it crosses threads. */
export interface SessionOptions {
  /** ONNX Runtime names in order of preference: `cpu`, `cuda`, `webgpu`, ... */
  readonly executionProviders: readonly string[];
  /** Device of a GPU provider. */
  readonly deviceId: number;
  readonly intraOpNumThreads: number;
  readonly interOpNumThreads: number;
  readonly executionMode: 'sequential' | 'parallel';
  readonly graphOptimizationLevel: 'disabled' | 'basic' | 'extended' | 'all';
  readonly enableCpuMemArena: boolean;
  readonly enableMemPattern: boolean;
  /** ONNX Runtime session config entries, dotted keys, string values. */
  readonly configEntries: Readonly<Record<string, string>>;
}

/**
 * How token embeddings become one embedding per row, as sentence-transformers' modules say. A session with it has one output more,
 * after the file's own: `sentence_embedding`, FP32 [rows, n x modes].
 */
export interface PoolingSpec {
  /** Results of several are put one behind the other. */
  readonly modes: readonly ('cls' | 'mean' | 'max' | 'mean_sqrt_len' | 'weightedmean' | 'lasttoken')[];
  /** Divide each embedding by its Euclidean length. */
  readonly normalize: boolean;
}

export interface LoadRequest {
  readonly session: number;
  /** Path of the model file; the worker opens it, so that external data beside it is found. */
  readonly path: string;
  /** Directory that external data may not leave. */
  readonly directory: string;
  readonly options: SessionOptions;
  /** Check the graph before ONNX Runtime sees it; false for a file that the server made itself. */
  readonly scan: boolean;
  /** Not made where the file has an output `sentence_embedding` itself. */
  readonly pooling?: PoolingSpec;
}

/** Save `source` optimized and with external, pre-packed weights, so that several sessions can map them (see weight-cache.ts). */
export interface CompileRequest {
  readonly source: string;
  /** Directory that external data may not leave. */
  readonly directory: string;
  readonly target: string;
  readonly options: SessionOptions;
}

/** Look through a model file before it is loaded. */
export interface ScanRequest {
  readonly path: string;
  /** Directory that external data may not leave. */
  readonly directory: string;
}

export interface ModelScan {
  /** Files below the directory that hold weights of the model, as the file names them. */
  readonly externalData: readonly string[];
  /** Names of the graph's inputs and outputs; undefined for a file too large to be read in one piece. */
  readonly inputs: readonly string[] | undefined;
  readonly outputs: readonly string[] | undefined;
}

export type ControlMessage =
  | { readonly type: 'slab'; readonly slab: number; readonly buffer: SharedArrayBuffer }
  | { readonly type: 'drop-slab'; readonly slab: number }
  | { readonly type: 'load'; readonly call: number; readonly load: LoadRequest }
  | { readonly type: 'scan'; readonly call: number; readonly scan: ScanRequest }
  | { readonly type: 'compile'; readonly call: number; readonly compile: CompileRequest }
  | { readonly type: 'unload'; readonly call: number; readonly session: number }
  /** Answered by the end of the worker's task. */
  | { readonly type: 'close' };

export type ToWorker = number[] | ControlMessage;

/** A failure as data: an error thrown across a thread would lose its class and code. */
export interface Failure {
  readonly code: ErrorCode;
  readonly message: string;
}

/** An output the worker had to keep itself; `buffer` is transferred. */
export interface OwnedOutput {
  readonly index: number;
  readonly dims: readonly number[];
  readonly buffer: ArrayBuffer;
}

/** The long form of a run's answer: a failure, or outputs that were not preallocated. */
export interface RunReply {
  readonly type: 'ran';
  readonly batch: number;
  readonly computeStart: number;
  readonly computeEnd: number;
  readonly outputs: readonly OwnedOutput[];
  readonly failure?: Failure;
  /** The failure is that a preallocated output had another shape than was expected; run again without preallocating. */
  readonly shapeSurprise?: boolean;
}

export type CallReply =
  | { readonly type: 'done'; readonly call: number; readonly ok: true; readonly value?: unknown }
  | { readonly type: 'done'; readonly call: number; readonly ok: false; readonly failure: Failure };

export type FromWorker = number[] | RunReply | CallReply;
