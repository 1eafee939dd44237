/**
 * What OpenAI's embeddings JSON consists of: the parsed request, the reply to print, and the caps.
 *
 * Called by `rest/` and by the JSON worker, which use the same parser (`embeddings-json-parse.ts`) and printer
 * (`embeddings-json-print.ts`). Everything here crosses threads as plain data.
 */

/** Counts and lengths beyond these are refused before anything is kept for them. */
export const EMBEDDINGS_LIMITS = {
  /** OpenAI's bound on the texts or token arrays of one request. */
  inputs: 2048,
  /** Tokens of all arrays together: two characters of JSON become eight bytes, so the body's own bound is none. */
  tokens: 4_194_304,
  modelBytes: 256,
  encodingFormatBytes: 256,
} as const;

export type EmbeddingEncoding = 'float' | 'base64';

/** A request that is right by its form; whether its model exists, and takes what is in it, is the engine's to say. */
export interface EmbeddingsRequest {
  readonly model: string;
  readonly kind: 'text' | 'tokens';
  /**
   * All inputs, one behind the other, in the protocol's raw layout: a text as UTF-8 after its 4-byte little-endian length, an array of
   * tokens as INT64. It is memory of its own and may be moved.
   */
  readonly data: Uint8Array<ArrayBuffer>;
  /** Where each input ends in `data`, 1 to 2048 of them; none is empty. */
  readonly ends: readonly number[];
  readonly encodingFormat: EmbeddingEncoding;
  /** Width that the client wants; undefined = the model's. */
  readonly dimensions: number | undefined;
  /** Whether a text of too many tokens is cut; undefined = as the server does without being told. */
  readonly truncate: boolean | undefined;
}

/** A member of the request with a wrong value. */
export interface MemberRefusal {
  /** The member's name, as OpenAI's errors give it in `param`. */
  readonly param: string;
  readonly message: string;
}

export type ParsedEmbeddings =
  | { readonly ok: true; readonly request: EmbeddingsRequest }
  | { readonly ok: false; readonly refusal: MemberRefusal };

export interface EmbeddingsReply {
  readonly model: string;
  /** Row after row; moved to the worker that prints it. */
  readonly vectors: Float32Array<ArrayBuffer>;
  /** Rows. */
  readonly count: number;
  readonly encodingFormat: EmbeddingEncoding;
  readonly promptTokens: number;
}
