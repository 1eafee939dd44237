/**
 * What main and a preprocess worker say to each other. Types only: plain data that crosses threads.
 *
 * Called by `runtime/preprocess-pool.ts`, `workers/preprocess-worker.ts` and, for the specs, by the engine, which reads them from a
 * model's own files. A spec says how text becomes token tensors or a picture becomes a pixel tensor; the words are Hugging Face's.
 */
import type { Failure } from './messages.js';

/** What a token tensor holds; the names that exports give their inputs. */
export type TokenRole = 'input_ids' | 'attention_mask' | 'token_type_ids' | 'position_ids';

/** How text becomes token tensors. */
export interface TextSpec {
  /**
   * Contents of tokenizer.json: as text, or as bytes in shared memory, so that tens of megabytes are neither decoded by the main thread nor
   * copied for each worker.
   */
  readonly tokenizerJson: string | Uint8Array<SharedArrayBuffer>;
  /** Contents of tokenizer_config.json; '{}' where there is none. */
  readonly tokenizerConfigJson: string;
  /** Most tokens of one row, special tokens included; longer text is truncated. */
  readonly maxTokens: number;
  /** Length of the inputs where it is fixed: every row is padded to it. Not less than `maxTokens`. */
  readonly fixedTokens?: number;
  readonly paddingSide: 'right' | 'left';
  readonly padTokenId: number;
  readonly padTokenTypeId: number;
  readonly addSpecialTokens: boolean;
  /** The model's inputs to make, each INT64 or INT32 [rows, tokens]. */
  readonly tensors: readonly {
    readonly role: TokenRole;
    readonly name: string;
    readonly datatype: 'INT64' | 'INT32';
  }[];
}

/** Size to scale a picture to; pixels. */
export type ResizeSpec =
  | { readonly kind: 'exact'; readonly width: number; readonly height: number }
  /**
   * Keeps the proportions: the shorter edge gets `size`, the longer at most `longest` where that is given. Both are then cut down to
   * multiples of `multiple`, 1 where it is absent.
   */
  | { readonly kind: 'shortest_edge'; readonly size: number; readonly longest?: number; readonly multiple?: number }
  /** Keeps the proportions: by the factor of the edge that changes less; both edges are rounded to multiples of `multiple`. */
  | { readonly kind: 'least_change'; readonly width: number; readonly height: number; readonly multiple: number }
  | { readonly kind: 'longest_edge'; readonly size: number }
  /** Keeps the proportions: as large as fits into both. */
  | { readonly kind: 'fit'; readonly width: number; readonly height: number };

/** How a picture becomes a pixel tensor, in this order: convert to `channels`, resize, crop, rescale, normalize, pad. */
export interface ImageSpec {
  /** The model's input to make. */
  readonly tensor: string;
  readonly datatype: 'FP32' | 'FP16' | 'UINT8';
  /** Of one picture, as the input declares it; -1 = whatever size comes out. A flat [n] takes channels x height x width in `layout`. */
  readonly dims: readonly number[];
  readonly layout: 'CHW' | 'HWC';
  readonly channels: 1 | 3;
  readonly channelOrder: 'RGB' | 'BGR';
  readonly resize?: ResizeSpec;
  readonly resample: 'nearest' | 'box' | 'bilinear' | 'hamming' | 'bicubic' | 'lanczos';
  /** The middle part; filled up with black where the picture is smaller. */
  readonly crop?: { readonly width: number; readonly height: number };
  /** Filled up with zeros to the right and below. */
  readonly pad?: { readonly width: number; readonly height: number };
  /** Factor on pixel values 0..255; 1 = none. */
  readonly rescale: number;
  /** Per channel, in RGB order, after rescaling: (x - mean) / std. */
  readonly mean?: readonly number[];
  readonly std?: readonly number[];
  /** A picture whose header claims more (width x height) is refused before it is decoded. */
  readonly maxPixels: number;
}

/** How a prompt becomes token ids. */
export interface PromptSpec {
  /** As in TextSpec. */
  readonly tokenizerJson: Uint8Array<SharedArrayBuffer>;
  readonly tokenizerConfigJson: string;
  /** Jinja; undefined where the model takes no conversations. */
  readonly chatTemplate: string | undefined;
  /** The one for conversations with tools, where it is another. */
  readonly toolTemplate?: string;
  /** Names that the template knows beside the conversation: `bos_token`, `eos_token`, ... */
  readonly templateTokens: Readonly<Record<string, string>>;
  /** A template that works longer than this, in milliseconds, is given up. */
  readonly templateMs: number;
}

export interface ProcessorSpec {
  readonly text?: TextSpec;
  readonly image?: ImageSpec;
  readonly prompt?: PromptSpec;
}

/** One content input of a request: `count` elements in raw layout, each after its 4-byte little-endian length. */
export interface ContentElements<Memory extends Uint8Array = Uint8Array> {
  /**
   * `text_pair` holds second sentences, as many as there are in `text`. The others are for `ProcessorSpec.prompt`, one element alone in its
   * request, and give one tensor '' INT32 [tokens]: `prompt` is text, `prompt_bare` text to which no special tokens are added, `chat` the
   * JSON object of names for the chat template (`messages`, `add_generation_prompt`, `tools`, ...), whose text gets no special tokens either.
   */
  readonly kind: 'text' | 'text_pair' | 'image' | 'prompt' | 'prompt_bare' | 'chat';
  readonly count: number;
  readonly data: Memory;
}

export interface PreprocessTask {
  readonly task: number;
  readonly processor: number;
  readonly contents: readonly ContentElements<Uint8Array<ArrayBuffer>>[];
  /** False: text of more than maxTokens is an error. */
  readonly truncate: boolean;
}

export type ToPreprocessWorker =
  /** Tasks in order; they were given together. */
  | readonly PreprocessTask[]
  | {
      readonly type: 'register';
      readonly call: number;
      readonly processor: number;
      readonly spec: ProcessorSpec;
    }
  | { readonly type: 'unregister'; readonly processor: number }
  /** Answered by the end of the worker's task. */
  | { readonly type: 'close' };

/** A tensor for the model, raw layout; `dims` with the number of elements (texts, pictures) in front. */
export interface PreparedTensor {
  readonly name: string;
  readonly datatype: 'INT64' | 'INT32' | 'FP32' | 'FP16' | 'UINT8';
  readonly dims: readonly number[];
  readonly data: Uint8Array<ArrayBuffer>;
}

export interface Prepared {
  readonly tensors: readonly PreparedTensor[];
  /** Tokens of each row of text, padding not counted; empty where there was none. */
  readonly rowTokens: readonly number[];
}

export type PreprocessReply =
  | { readonly task: number; readonly ok: true; readonly prepared: Prepared }
  | { readonly task: number; readonly ok: false; readonly failure: Failure };

export type FromPreprocessWorker =
  | readonly PreprocessReply[]
  | { readonly type: 'done'; readonly call: number; readonly failure?: Failure };
