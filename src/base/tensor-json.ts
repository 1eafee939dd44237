/**
 * What the JSON form of infer requests and responses consists of: the parsed request, the response to print, and the caps.
 *
 * Called by `rest/` and by the JSON worker; both use the same parser (`tensor-json-parse.ts`) and printer
 * (`tensor-json-print.ts`), so a small body on the main thread and a large one in a worker mean the same. Everything here
 * crosses threads as plain data: no classes, no functions.
 */
import { DATATYPES, type Datatype } from './datatype.js';
import type { EmbeddingsReply, ParsedEmbeddings } from './embeddings-json.js';
import { type ErrorCode, invalid, printable } from './errors.js';

/** Counts and lengths beyond these are refused before anything is allocated for them. */
export const JSON_LIMITS = {
  depth: 100,
  inputs: 256,
  outputs: 256,
  parameters: 128,
  dims: 16,
  nameBytes: 256,
  idBytes: 4096,
  parameterBytes: 65_536,
} as const;

/** An object of free form, as JSON.parse makes it: its members are its own, `__proto__` among them. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** Scalar members of a `parameters` object; integers that a double cannot hold are bigint. */
export type JsonParameters = Map<string, boolean | number | bigint | string>;

export interface JsonInput {
  readonly name: string;
  readonly datatype: string;
  /** Whole numbers >= 0; above 2^53 the nearest double. */
  readonly shape: readonly number[];
  readonly parameters: JsonParameters;
  /** `data` in the raw layout (see `InferInput.data`), as many elements as `shape` says; undefined when there was none. */
  readonly data: Uint8Array<ArrayBuffer> | undefined;
}

export interface JsonRequestedOutput {
  readonly name: string;
  readonly parameters: JsonParameters;
}

/** An infer request's JSON, checked as JSON and for the caps; names, datatypes without data and shapes are the engine's to judge. */
export interface JsonInferRequest {
  readonly id: string;
  readonly parameters: JsonParameters;
  readonly inputs: readonly JsonInput[];
  readonly outputs: readonly JsonRequestedOutput[];
}

export interface JsonOutput {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /** Raw layout; undefined: the head says only `binary_data_size`, and the caller appends the bytes itself. */
  readonly data: Uint8Array | undefined;
  /** Bytes that the caller appends; meaningless with `data`. */
  readonly binaryDataSize: number;
}

export interface JsonInferResponse {
  readonly id: string;
  readonly modelName: string;
  readonly modelVersion: string;
  readonly outputs: readonly JsonOutput[];
}

/** Elements that `shape` asks for; Infinity when beyond a double. */
export function elementCount(shape: readonly number[]): number {
  if (shape.includes(0)) return 0;
  let count = 1;
  for (const dim of shape) count *= dim;
  return count;
}

/** Throws INVALID_ARGUMENT with Triton's text unless `datatype` is one that JSON can carry. */
export function assertJsonDatatype(datatype: string, name: string): asserts datatype is Datatype {
  if (datatype === 'FP16' || datatype === 'BF16') {
    const input = printable(name);
    throw invalid(
      `receiving ${datatype} data via JSON is not supported. Please use the binary data format for input ${input}`,
    );
  }
  if (!Object.hasOwn(DATATYPES, datatype)) {
    const known = Object.keys(DATATYPES).join(', ');
    throw invalid(`invalid datatype '${printable(datatype)}' of input '${printable(name)}', expected one of ${known}`);
  }
}

/** What the JSON pool sends to its worker. */
export type JsonTask =
  | { readonly kind: 'ping' }
  | { readonly kind: 'parse'; readonly body: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'print'; readonly response: JsonInferResponse }
  | { readonly kind: 'parse-object'; readonly body: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'parse-embeddings'; readonly body: Uint8Array<ArrayBuffer> }
  | { readonly kind: 'print-embeddings'; readonly reply: EmbeddingsReply };

/** What the worker answers; a refusal is data, because a thrown error would arrive without its code. */
export type JsonReply =
  | { readonly ok: true; readonly kind: 'pong' }
  | { readonly ok: true; readonly kind: 'parsed'; readonly request: JsonInferRequest }
  | { readonly ok: true; readonly kind: 'parsed-object'; readonly object: JsonObject }
  | { readonly ok: true; readonly kind: 'parsed-embeddings'; readonly parsed: ParsedEmbeddings }
  | { readonly ok: true; readonly kind: 'printed'; readonly text: Uint8Array<ArrayBuffer> }
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string };
