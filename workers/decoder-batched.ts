/**
 * A decoder whose sequences run together: keys and values in rows of one store, new ones through the tap.
 *
 * Called by workers/decoder.ts, which makes one per layout to be tried. Owns the store, and the session once it is accepted. From step to
 * step with the same rows it writes numbers into tensors that are there and makes none; only results are new, which ONNX Runtime makes.
 */
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { ServeError } from '#src/base/errors';
import type { KvLayout } from '#src/runtime/generation-messages';
import { DecoderFeeds } from './decoder-feeds.js';
import type { DecoderPorts, KvPort } from './decoder-ports.js';
import { elementsOf } from './decoder-tensors.js';
import type { Decoder } from './decoder-types.js';
import { capacityFor } from './kv-layout.js';
import { type KvCopy, type KvRow, KvStore } from './kv-store.js';
import type { Tap } from './onnx-tap.js';

export interface BatchedOptions {
  readonly session: InferenceSession;
  readonly ports: DecoderPorts;
  readonly kv: readonly KvPort[];
  readonly tap: Tap;
  readonly layout: Exclude<KvLayout, 'alone'>;
  readonly maxSequences: number;
  readonly maxTokens: number;
  readonly kvCacheBytes: number;
}

export class BatchedDecoder implements Decoder {
  readonly layout: Exclude<KvLayout, 'alone'>;
  readonly kvBytesPerToken: number;
  readonly canCut = true;
  notes: readonly string[] = [];
  vocabularySize = 0;
  readonly #options: BatchedOptions;
  readonly #store: KvStore;
  readonly #fetches: readonly string[];
  readonly #fetchesWithoutLogits: readonly string[];
  readonly #feeds: DecoderFeeds;

  constructor(options: BatchedOptions) {
    this.#options = options;
    const { kv, layout, tap, ports } = options;
    this.layout = layout;
    this.#store = new KvStore(kv, {
      align: layout === 'left' ? 'end' : 'start',
      maxRows: options.maxSequences,
      // Behind all room comes the new token, and a graph may have a table for no more than its context.
      maxTokens: layout === 'right' ? options.maxTokens : options.maxTokens - 1,
      maxBytes: options.kvCacheBytes,
    });
    this.kvBytesPerToken = this.#store.bytesPerToken;
    this.#fetchesWithoutLogits = tap.groups.map(({ output }) => output);
    this.#fetches = [tap.logits, ...this.#fetchesWithoutLogits];
    this.#feeds = new DecoderFeeds({ ports, kv, tap, layout, store: this.#store, maxTokens: options.maxTokens });
  }

  get usedBytes(): number {
    return this.#store.usedBytes;
  }

  get heldBytes(): number {
    return this.#store.heldBytes;
  }

  fits(lengths: readonly number[], besideBytes: number): boolean {
    const { maxSequences, maxTokens, kvCacheBytes } = this.#options;
    if (lengths.length > maxSequences) return false;
    let longest = 0;
    for (const length of lengths) longest = Math.max(longest, length);
    const tokens = lengths.length * capacityFor(longest, maxTokens);
    return tokens * this.kvBytesPerToken + besideBytes <= kvCacheBytes;
  }

  keepBeside(besideBytes: number): void {
    this.#store.bound(this.#options.kvCacheBytes - besideBytes);
  }

  reserve(rows: number, tokens: number): void {
    this.#store.reserve(tokens, rows);
  }

  add(): KvRow {
    return this.#store.add();
  }

  restore(saved: KvCopy, length: number): KvRow {
    const row = this.#store.add();
    this.#store.paste(row, saved, length);
    return row;
  }

  save(row: KvRow, length: number): KvCopy {
    return this.#store.copy(row, length);
  }

  remove(row: KvRow): void {
    this.#store.remove(row);
    this.#feeds.forgetStale();
  }

  async prefill(row: KvRow, tokens: Int32Array, wantsLogits: boolean): Promise<Float32Array | undefined> {
    const count = tokens.length;
    this.#assertRoom(row, count);
    this.#store.reserve(row.length + count);
    const results = await this.#run(this.#feeds.prefill(row, tokens), wantsLogits);
    this.#append(results, row.index, 1, count);
    this.#store.advance(row, count);
    return wantsLogits ? (results[this.#options.tap.logits]!.data as Float32Array) : undefined;
  }

  async decode(rows: readonly KvRow[], tokens: Int32Array): Promise<Float32Array> {
    const count = rows.length;
    let longest = 0;
    for (const row of rows) {
      this.#assertRoom(row, 1);
      if (row.length > longest) longest = row.length;
    }
    this.#store.reserve(longest + 1);
    const inOrder = this.#gather(rows);
    const results = await this.#run(this.#feeds.step(rows, tokens), true);
    this.#append(results, 0, count, 1);
    for (let i = 0; i < count; i++) this.#store.advance(rows[i]!, 1);
    const logits = results[this.#options.tap.logits]!.data as Float32Array;
    if (!inOrder) this.#order(logits, rows);
    return logits;
  }

  async release(): Promise<void> {
    await this.#options.session.release();
  }

  async #run(feeds: Record<string, Tensor>, wantsLogits: boolean): Promise<Record<string, Tensor>> {
    const fetches = wantsLogits ? this.#fetches : this.#fetchesWithoutLogits;
    return (await this.#options.session.run(feeds, fetches)) as Record<string, Tensor>;
  }

  /** Puts the new keys and values into the store. Nothing here can fail half way. */
  #append(results: Record<string, Tensor>, from: number, count: number, tokens: number): void {
    for (const { output, tensors } of this.#options.tap.groups) {
      this.#store.append(tensors, elementsOf(results[output]!), from, count, tokens);
    }
  }

  /** Brings `rows` to the first places, in any order; whether they are in the order of the store now. */
  #gather(rows: readonly KvRow[]): boolean {
    const count = rows.length;
    let inOrder = true;
    let outside = false;
    for (let i = 0; i < count; i++) {
      const { index } = rows[i]!;
      if (index !== i) inOrder = false;
      if (index >= count) outside = true;
    }
    if (!outside) return inOrder;
    const wanted = new Set(rows);
    let free = 0;
    for (const row of rows) {
      if (row.index < count) continue;
      while (wanted.has(this.#store.rows[free]!)) free++;
      this.#store.swap(row, this.#store.rows[free]!);
    }
    return rows.every(({ index }, i) => index === i);
  }

  /** Brings logits from the order of the store to that of `rows`, where they lie: few are elsewhere, those behind rows that have left. */
  #order(logits: Float32Array, rows: readonly KvRow[]): void {
    const size = logits.length / rows.length;
    const from = Int32Array.from(rows, ({ index }) => index);
    for (let start = 0; start < from.length; start++) {
      if (from[start] === start) continue;
      const first = logits.slice(start * size, (start + 1) * size);
      let at = start;
      for (let next = from[at]!; next !== start; next = from[at]!) {
        logits.copyWithin(at * size, next * size, (next + 1) * size);
        from[at] = at;
        at = next;
      }
      logits.set(first, at * size);
      from[at] = at;
    }
  }

  #assertRoom(row: KvRow, tokens: number): void {
    const { maxTokens } = this.#options;
    if (row.length + tokens <= maxTokens) return;
    throw new ServeError(
      'INVALID_ARGUMENT',
      `sequence of ${row.length + tokens} tokens exceeds the model's context of ${maxTokens}`,
    );
  }
}
