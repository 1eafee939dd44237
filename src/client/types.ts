/**
 * What a user of the client sees: one interface over gRPC and REST, tensors as typed arrays, and the budget of every answer.
 *
 * Implemented by `grpc-client.ts` and `rest-client.ts`, made by `connect` in `client.ts`. Must not know a transport.
 */
import type { Datatype } from '../base/datatype.js';
import type { Budget } from './budget.js';

/**
 * Elements of a tensor, row-major. BOOL and UINT8 are a Uint8Array, FP16 and BF16 their bits in a Uint16Array, 64-bit integers a
 * BigInt64Array or BigUint64Array, BYTES one string or byte array for each element (strings travel as UTF-8).
 */
export type TensorData =
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array
  | readonly (string | Uint8Array)[];

/** One input. `datatype` may be left out where the array says it: Float32Array is FP32, an array of strings BYTES, and so on. */
export interface InputTensor {
  readonly name: string;
  readonly datatype?: Datatype;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

/** What an output of each datatype comes as. */
export interface OutputArrays {
  readonly BOOL: Uint8Array;
  readonly UINT8: Uint8Array;
  readonly UINT16: Uint16Array;
  readonly UINT32: Uint32Array;
  readonly UINT64: BigUint64Array;
  readonly INT8: Int8Array;
  readonly INT16: Int16Array;
  readonly INT32: Int32Array;
  readonly INT64: BigInt64Array;
  readonly FP16: Uint16Array;
  readonly BF16: Uint16Array;
  readonly FP32: Float32Array;
  readonly FP64: Float64Array;
  readonly BYTES: readonly Uint8Array[];
}

/**
 * One output; its datatype tells the type of its array. `data` is a view on the received message where its alignment allows, else a copy;
 * BYTES elements are byte arrays.
 */
export type OutputTensor<Type extends Datatype = Datatype> = {
  [Each in Type]: {
    readonly name: string;
    readonly datatype: Each;
    readonly shape: readonly number[];
    readonly data: OutputArrays[Each];
  };
}[Type];

export type ParameterValue = boolean | number | bigint | string;

export interface InferRequest {
  readonly model: string;
  /** Left out = the server's choice. */
  readonly version?: string;
  readonly id?: string;
  readonly inputs: readonly InputTensor[];
  /** Outputs wanted; left out = all. `classification`: the k likeliest classes as BYTES "value:index:label" (Triton's extension). */
  readonly outputs?: readonly (string | { readonly name: string; readonly classification?: number })[];
  readonly parameters?: Readonly<Record<string, ParameterValue>>;
}

export interface InferAnswer {
  readonly model: string;
  readonly version: string;
  readonly id: string;
  readonly outputs: readonly OutputTensor[];
  readonly parameters: Readonly<Record<string, ParameterValue>>;
  /**
   * The output of that name, and of that datatype where one is given, so that its array has a type. Throws a local ClientError: NOT_FOUND
   * when there is none, naming those there are, INVALID_ARGUMENT when its datatype is another one.
   */
  output(name: string): OutputTensor;
  output<Type extends Datatype>(name: string, datatype: Type): OutputTensor<Type>;
  /** Where this answer's milliseconds went, on both sides. */
  readonly budget: Budget;
}

export interface GenerateRequest {
  readonly model: string;
  readonly version?: string;
  /** The prompt. */
  readonly text: string;
  /** Sampling by the names of the server: `max_tokens`, `temperature`, `top_p`, `seed`, `stop`, ... */
  readonly parameters?: Readonly<Record<string, ParameterValue>>;
}

/** A piece of a generated text, in order. */
export interface GeneratedPiece {
  readonly text: string;
}

/** Pieces as they come; `budget` resolves when the last one has come, with the server's phases where it told them. */
export interface GeneratedStream extends AsyncIterable<GeneratedPiece> {
  readonly budget: Promise<Budget>;
}

export interface CallOptions {
  /** Deadline of the whole call, retries included, in milliseconds; over gRPC the server hears it. Default: the client's. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Further headers (REST) or metadata (gRPC), such as `authorization`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Compress the request (and over REST ask for a compressed answer). Default: the client's. */
  readonly compression?: 'none' | 'gzip';
}

export interface TensorMetadata {
  readonly name: string;
  readonly datatype: Datatype;
  /** -1 = any. */
  readonly shape: readonly number[];
}

export interface ModelMetadata {
  readonly name: string;
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
}

export interface ServerMetadata {
  readonly name: string;
  readonly version: string;
  readonly extensions: readonly string[];
}

/** Any server of the Open Inference Protocol, over either protocol. Calls may run side by side; all reject with ClientError. */
export interface InferenceClient {
  readonly protocol: 'grpc' | 'rest';
  isLive(options?: CallOptions): Promise<boolean>;
  isReady(options?: CallOptions): Promise<boolean>;
  isModelReady(model: string, version?: string, options?: CallOptions): Promise<boolean>;
  serverMetadata(options?: CallOptions): Promise<ServerMetadata>;
  modelMetadata(model: string, version?: string, options?: CallOptions): Promise<ModelMetadata>;
  infer(request: InferRequest, options?: CallOptions): Promise<InferAnswer>;
  /** Answers of a model that gives several to one request (Triton's decoupled models): ModelStreamInfer; gRPC alone has it. */
  inferStream(request: InferRequest, options?: CallOptions): AsyncIterable<InferAnswer>;
  /** The whole text. */
  generate(
    request: GenerateRequest,
    options?: CallOptions,
  ): Promise<{ readonly text: string; readonly budget: Budget }>;
  /** The text as it comes. Ending the iteration early cancels the generation. */
  generateStream(request: GenerateRequest, options?: CallOptions): GeneratedStream;
  /** Lets calls under way finish, then closes all connections. Idempotent. */
  close(): Promise<void>;
}

export interface TlsOptions {
  /** PEM; left out = the system's authorities. */
  readonly ca?: Uint8Array | string;
  /** PEM, for a server that asks for client certificates (mTLS). Both or none. */
  readonly cert?: Uint8Array | string;
  readonly key?: Uint8Array | string;
  /** Name to check the server's certificate against, where it isn't the address's host. */
  readonly serverName?: string;
}

export interface RetryOptions {
  /** Tries in all, the first one included; 1 = never again. Default 3. */
  readonly attempts?: number;
  /** Milliseconds before the second try; doubles, with jitter, up to `maxBackoffMs`. A server's pushback counts instead. Defaults 50 and 2000. */
  readonly initialBackoffMs?: number;
  readonly maxBackoffMs?: number;
}

export interface ClientOptions {
  readonly protocol: 'grpc' | 'rest';
  /** `host:port` each; more than one = calls go round robin, past those that can't be reached. */
  readonly addresses: readonly string[];
  /** How tensors travel. REST: `binary` (default, the binary tensor extension) or `json`. gRPC: `raw` (default) or `typed`. */
  readonly encoding?: 'binary' | 'json' | 'raw' | 'typed';
  /** Connections per address. gRPC: separate ones, each multiplexed (default 1). REST: the most at one time (default 64). */
  readonly connections?: number;
  readonly tls?: boolean | TlsOptions;
  /** Default for all calls, in milliseconds. Default 60,000; 0 = none. */
  readonly timeoutMs?: number;
  readonly compression?: 'none' | 'gzip';
  readonly retry?: RetryOptions;
  /**
   * Milliseconds of silence before an HTTP/2 PING, with calls under way (gRPC, default 330,000: many servers forbid more than one in five
   * minutes), or before TCP's keepalive (REST, default 30,000). 0 = none.
   */
  readonly keepaliveMs?: number;
  /** Ask for the model's metadata once and check each request against it before it is sent. Default true. */
  readonly checkRequests?: boolean;
  /** Largest message received, in bytes. Default 256 MiB. */
  readonly maxReceiveBytes?: number;
  /** Headers or metadata on every call. */
  readonly headers?: Readonly<Record<string, string>>;
}
