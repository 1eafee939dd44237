/**
 * What the step loop needs of a decoder: rows of keys and values, prefill and decode runs, saved prefixes.
 *
 * Called by workers/token-stream.ts and workers/decoder.ts, which makes one. Types only.
 */
import type { KvLayout } from '#src/runtime/generation-messages';

/** The state of one sequence in the decoder. Opaque: only its decoder knows where it lies, which changes as others come and go. */
export interface DecoderRow {
  /** Tokens whose keys and values are there. */
  readonly length: number;
}

/** Keys and values of a sequence outside the batch, compact; immutable. */
export interface SavedRow {
  readonly length: number;
  readonly byteLength: number;
}

export interface Decoder {
  readonly vocabularySize: number;
  readonly layout: KvLayout;
  readonly kvBytesPerToken: number;
  /** What the log should say about how it is served. */
  readonly notes: readonly string[];
  /** Saved rows of ended sequences can be cut to a prefix; false for state that only knows its end. */
  readonly canCut: boolean;
  /** Bytes in use by rows, and held for them. */
  readonly usedBytes: number;
  readonly heldBytes: number;
  /** Whether rows of these lengths, and no others, stay within the bound, `besideBytes` of which saved rows have. */
  fits(lengths: readonly number[], besideBytes: number): boolean;
  /** So much of the bound saved rows have from now on: what rows hold without need is given back where it would go beyond. */
  keepBeside(besideBytes: number): void;
  /** Makes room for so many rows, of up to `tokens` each; may take as long as a run. Rows make room by themselves too, each when it needs it. */
  reserve(rows: number, tokens: number): void;
  /** An empty row. */
  add(): DecoderRow;
  /** A row with the first `length` tokens of `saved`; all of it unless `canCut`. */
  restore(saved: SavedRow, length: number): DecoderRow;
  /** A copy of the first `length` tokens of `row`. */
  save(row: DecoderRow, length: number): SavedRow;
  remove(row: DecoderRow): void;
  /**
   * Appends `tokens` (not empty) to `row` in one run. Resolves to the logits behind the last of them, [vocabulary], where `wantsLogits`; they
   * are valid until the next call and may be written to. Rejects with what ONNX Runtime threw; the row is as before then.
   */
  prefill(row: DecoderRow, tokens: Int32Array, wantsLogits: boolean): Promise<Float32Array | undefined>;
  /**
   * Appends one token to each of `rows` in one run (in one run each with layout `alone`). Resolves to the logits, [rows, vocabulary] in the
   * order of `rows`; valid and writable as above. Fast when `rows` are the same as in the step before.
   */
  decode(rows: readonly DecoderRow[], tokens: Int32Array): Promise<Float32Array>;
  /** Frees the session; no run is under way. */
  release(): Promise<void>;
}
