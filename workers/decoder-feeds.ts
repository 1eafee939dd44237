/**
 * The tensors that go into a run: those of a step are made once for the same rows and written in place from then on.
 *
 * Called by workers/decoder-batched.ts. Reads rows and views of the store, and writes to neither.
 *
 * Where row b has n tokens, the store has room for C, and S tokens come (in a step S = 1):
 *
 *            mask [rows, ...]                  positions     new tokens in `present`
 *   right    n + S ones, zeros up to C         n ..          n ..
 *   holes    n ones, zeros up to C, S ones     n ..          C ..
 *   left     zeros up to C - n, n + S ones     n ..          C ..
 *
 * Where C + S would be more than the context, a prefill has a copy of its n tokens for its past, C = n.
 */
import type { Tensor } from 'onnxruntime-node';
import * as ort from 'onnxruntime-node';
import type { KvLayout } from '#src/runtime/generation-messages';
import type { DecoderPorts, IntegerPort, KvPort } from './decoder-ports.js';
import { fill, type Integers, integers, stateTensor, zeros } from './decoder-tensors.js';
import type { KvRow, KvStore } from './kv-store.js';
import type { Tap } from './onnx-tap.js';

export interface FeedsOptions {
  readonly ports: DecoderPorts;
  readonly kv: readonly KvPort[];
  readonly tap: Tap;
  readonly layout: Exclude<KvLayout, 'alone'>;
  readonly store: KvStore;
  /** No run of a graph that joins past and new itself has more of them. */
  readonly maxTokens: number;
}

export type Feeds = Record<string, Tensor>;

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

export class DecoderFeeds {
  readonly #options: FeedsOptions;
  readonly #store: KvStore;
  /** First runs of a sequence have no past at all. */
  readonly #emptyPast: readonly Tensor[];
  readonly #constants: Feeds = {};
  #step: Step | undefined;

  constructor(options: FeedsOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#emptyPast = options.kv.map((port) => zeros(port.type, port.firstDims));
    const keep = options.ports.numLogitsToKeep;
    if (keep) {
      const { tensor, words } = integers(keep.type, []);
      words[0] = 1;
      this.#constants[keep.name] = tensor;
    }
  }

  /** The next token of each row; `rows` are the first ones of the store, in any order. Valid until the next call. */
  step(rows: readonly KvRow[], tokens: Int32Array): Feeds {
    const step = this.#stepFor(rows.length);
    for (let i = 0; i < rows.length; i++) this.#write(step, rows[i]!, tokens[i]!);
    return step.feeds;
  }

  /** Drops tensors that are views on memory which the store has left. */
  forgetStale(): void {
    if (this.#step?.version !== this.#store.version) this.#step = undefined;
  }

  /** The feeds of one run of a row's next tokens, against what it has. */
  prefill(row: KvRow, tokens: Int32Array): Feeds {
    const { ports, kv, tap, layout, maxTokens } = this.#options;
    const count = tokens.length;
    const { length } = row;
    // Without the room between, for which a copy is made.
    const isDense = layout !== 'right' && length > 0 && this.#store.capacity + count > maxTokens;
    const past = isDense ? length : length === 0 ? 0 : this.#store.capacity;
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
    const copy = isDense ? this.#store.partsOf(this.#store.copy(row, length)) : undefined;
    for (const [t, port] of kv.entries()) {
      feeds[port.past] =
        past === 0
          ? this.#emptyPast[t]!
          : stateTensor(port.type, copy?.[t] ?? this.#store.view(t, row.index, 1), [1, port.heads, past, port.size]);
    }
    return feeds;
  }

  /** The tensors of a step with `count` rows: those of the step before where they fit. */
  #stepFor(count: number): Step {
    const { version, capacity } = this.#store;
    if (this.#step?.version === version && this.#step.count === count) return this.#step;
    const { ports, kv, tap, layout } = this.#options;
    const feeds: Feeds = { ...this.#constants };
    const make = (port: IntegerPort, dims: readonly number[]) => {
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
}

function cacheBranch(use: boolean): Tensor {
  return new ort.Tensor('bool', Uint8Array.of(use ? 1 : 0), [1]);
}
