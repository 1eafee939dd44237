/**
 * A decoder whose sequences run together: keys and values in rows of one store, new ones through the tap.
 *
 * Called by workers/decoder.ts, which makes one per layout to be tried. Owns the store, and the session once it is accepted. From step to
 * step with the same rows it writes numbers into tensors that are there and makes none; only results are new, which ONNX Runtime makes.
 *
 * Where row b has n tokens, the store has room for C, and S tokens come (in a step S = 1):
 *
 *            mask [rows, ...]                  positions     new tokens in `present`
 *   right    n + S ones, zeros up to C         n ..          n ..
 *   holes    n ones, zeros up to C, S ones     n ..          C ..
 *   left     zeros up to C - n, n + S ones     n ..          C ..
 */
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import * as ort from 'onnxruntime-node';
import { ServeError } from '#src/base/errors';
import type { KvLayout } from '#src/runtime/generation-messages';
import type { DecoderPorts, KvPort } from './decoder-ports.js';
import { elementsOf, fill, type Integers, integers, stateTensor, zeros } from './decoder-tensors.js';
import type { Decoder } from './decoder-types.js';
import { capacityFor, rowsFor } from './kv-layout.js';
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

type Feeds = Record<string, Tensor>;

/** What the steps of the same rows share. */
interface Step {
  readonly version: number;
  readonly count: number;
  readonly feeds: Feeds;
  readonly ids: Integers;
  readonly mask: Integers | undefined;
  readonly positions: Integers | undefined;
  /** Empty where new tokens come at the same place for all rows always. */
  readonly indexes: readonly { readonly heads: number; readonly integers: Integers }[];
  /** Tokens that row i's mask shows; -1 where it has to be written anew. */
  readonly shown: Int32Array;
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
  /** First runs of a sequence have no past at all. */
  readonly #emptyPast: readonly Tensor[];
  readonly #constants: Feeds;
  #step: Step | undefined;
  /** Logits in the order that the caller has its rows in, where that is not the store's. */
  #ordered = new Float32Array(0);

  constructor(options: BatchedOptions) {
    this.#options = options;
    const { kv, layout, tap, ports } = options;
    this.layout = layout;
    const { maxSequences: maxRows, maxTokens } = options;
    this.#store = new KvStore(kv, { align: layout === 'left' ? 'end' : 'start', maxRows, maxTokens });
    this.kvBytesPerToken = this.#store.bytesPerToken;
    this.#fetchesWithoutLogits = tap.groups.map(({ output }) => output);
    this.#fetches = [tap.logits, ...this.#fetchesWithoutLogits];
    this.#emptyPast = kv.map((port) => zeros(port.type, port.firstDims));
    this.#constants = {};
    if (ports.numLogitsToKeep) {
      const { tensor, words } = integers(ports.numLogitsToKeep.type, []);
      words[0] = 1;
      this.#constants[ports.numLogitsToKeep.name] = tensor;
    }
  }

  get usedBytes(): number {
    return this.#store.usedBytes;
  }

  get heldBytes(): number {
    return this.#store.heldBytes;
  }

  fits(length: number, lengths: readonly number[]): boolean {
    const { maxSequences, maxTokens, kvCacheBytes } = this.#options;
    const count = lengths.length + 1;
    if (count > maxSequences) return false;
    let longest = length;
    for (const other of lengths) longest = Math.max(longest, other);
    const tokens = capacityFor(longest, maxTokens);
    return rowsFor(count, maxSequences) * tokens * this.kvBytesPerToken <= kvCacheBytes;
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
    // A step's tensors are views on the store, which may be gone.
    if (this.#step && this.#step.version !== this.#store.version) this.#step = undefined;
  }

  async prefill(row: KvRow, tokens: Int32Array, wantsLogits: boolean): Promise<Float32Array | undefined> {
    const count = tokens.length;
    this.#assertRoom(row, count);
    this.#store.reserve(row.length + count);
    const results = await this.#run(this.#prefillFeeds(row, tokens), wantsLogits);
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
    const step = this.#stepFor(count);
    for (let i = 0; i < count; i++) this.#write(step, rows[i]!, tokens[i]!);
    let results: Record<string, Tensor>;
    try {
      results = await this.#run(step.feeds, true);
    } catch (error) {
      this.#step = undefined;
      throw error;
    }
    this.#append(results, 0, count, 1);
    for (let i = 0; i < count; i++) this.#store.advance(rows[i]!, 1);
    const logits = results[this.#options.tap.logits]!.data as Float32Array;
    return inOrder ? logits : this.#inOrder(logits, rows);
  }

  async release(): Promise<void> {
    await this.#options.session.release();
  }

  /** The feeds of one run of a row's next tokens, against what it has. */
  #prefillFeeds(row: KvRow, tokens: Int32Array): Feeds {
    const { ports, kv, tap, layout } = this.#options;
    const count = tokens.length;
    const { length } = row;
    const past = length === 0 ? 0 : this.#store.capacity;
    const feeds: Feeds = { ...this.#constants };
    const ids = integers(ports.inputIds.type, [1, count]);
    for (let i = 0; i < count; i++) ids.words[i * ids.stride] = tokens[i]!;
    feeds[ports.inputIds.name] = ids.tensor;
    if (ports.attentionMask) {
      const total = past > 0 && layout === 'right' ? past : past + count;
      const mask = integers(ports.attentionMask.type, [1, total]);
      const { words, stride } = mask;
      const first = layout === 'left' && past > 0 ? past - length : 0;
      for (let i = 0; i < length; i++) words[(first + i) * stride] = 1;
      const next = layout === 'right' || past === 0 ? length : past;
      for (let i = 0; i < count; i++) words[(next + i) * stride] = 1;
      feeds[ports.attentionMask.name] = mask.tensor;
    }
    if (ports.positionIds) {
      const positions = integers(ports.positionIds.type, [1, count]);
      for (let i = 0; i < count; i++) positions.words[i * positions.stride] = length + i;
      feeds[ports.positionIds.name] = positions.tensor;
    }
    if (ports.useCacheBranch) feeds[ports.useCacheBranch] = cacheBranch(past > 0);
    const at = layout === 'right' || past === 0 ? length : past;
    for (const [heads, name] of tap.indexes) {
      const index = integers('int64', [1, heads, count, 1]);
      for (let i = 0; i < heads * count; i++) index.words[i * 2] = at + (i % count);
      feeds[name] = index.tensor;
    }
    for (const [t, port] of kv.entries()) {
      feeds[port.past] =
        past === 0
          ? this.#emptyPast[t]!
          : stateTensor(port.type, this.#store.view(t, row.index, 1), [1, port.heads, past, port.size]);
    }
    return feeds;
  }

  /** The tensors of a step with `count` rows: those of the step before where they fit. */
  #stepFor(count: number): Step {
    const { version, capacity } = this.#store;
    if (this.#step?.version === version && this.#step.count === count) return this.#step;
    const { ports, kv, tap, layout } = this.#options;
    const feeds: Feeds = { ...this.#constants };
    const make = (port: { readonly name: string; readonly type: 'int64' | 'int32' }, dims: readonly number[]) => {
      const made = integers(port.type, dims);
      feeds[port.name] = made.tensor;
      return made;
    };
    const ids = make(ports.inputIds, [count, 1]);
    const total = layout === 'right' ? capacity : capacity + 1;
    const mask = ports.attentionMask && make(ports.attentionMask, [count, total]);
    const positions = ports.positionIds && make(ports.positionIds, [count, 1]);
    if (ports.useCacheBranch) feeds[ports.useCacheBranch] = cacheBranch(true);
    const indexes: { heads: number; integers: Integers }[] = [];
    for (const [heads, name] of tap.indexes) {
      const index = make({ name, type: 'int64' }, [count, heads, 1, 1]);
      if (layout === 'right') indexes.push({ heads, integers: index });
      else fill(index, capacity);
    }
    for (const [t, { past, type, heads, size }] of kv.entries()) {
      feeds[past] = stateTensor(type, this.#store.view(t, 0, count), [count, heads, capacity, size]);
    }
    this.#step = { version, count, feeds, ids, mask, positions, indexes, shown: new Int32Array(count).fill(-1) };
    return this.#step;
  }

  /** Writes a row's token, mask, position and place into the feeds of a step. */
  #write(step: Step, { index, length }: KvRow, token: number): void {
    const { ids, mask, positions, indexes, shown } = step;
    ids.words[index * ids.stride] = token;
    if (positions) positions.words[index * positions.stride] = length;
    for (let k = 0; k < indexes.length; k++) {
      const { heads, integers: target } = indexes[k]!;
      for (let h = index * heads; h < (index + 1) * heads; h++) target.words[h * 2] = length;
    }
    if (mask) this.#writeMask(mask, index, shown[index]!, length);
    shown[index] = length;
  }

  /** Shows `length` tokens and the new one to row `index`, whose mask shows `shown` now, which are as many or fewer. */
  #writeMask({ words, stride }: Integers, index: number, shown: number, length: number): void {
    const { capacity } = this.#store;
    const { layout } = this.#options;
    const total = layout === 'right' ? capacity : capacity + 1;
    const start = index * total;
    if (shown < 0 || shown > length) {
      words.fill(0, start * stride, (start + total) * stride);
      shown = 0;
      if (layout !== 'right') words[(start + capacity) * stride] = 1;
    }
    const [from, to] =
      layout === 'left' ? [capacity - length, capacity - shown] : [shown, layout === 'right' ? length + 1 : length];
    for (let i = from; i < to; i++) words[(start + i) * stride] = 1;
  }

  async #run(feeds: Feeds, wantsLogits: boolean): Promise<Record<string, Tensor>> {
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

  #inOrder(logits: Float32Array, rows: readonly KvRow[]): Float32Array {
    const size = logits.length / rows.length;
    if (this.#ordered.length !== logits.length) this.#ordered = new Float32Array(logits.length);
    for (const [i, { index }] of rows.entries()) {
      this.#ordered.set(logits.subarray(index * size, (index + 1) * size), i * size);
    }
    return this.#ordered;
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

function cacheBranch(use: boolean): Tensor {
  return new ort.Tensor('bool', Uint8Array.of(use ? 1 : 0), [1]);
}
