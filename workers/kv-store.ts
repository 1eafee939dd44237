/**
 * Keys and values of the sequences that run together: per layer one array [rows, heads, capacity, size], of which ONNX Runtime gets views.
 *
 * Called by workers/decoder-batched.ts. Owns the memory. Rows 0.. are dense: when one leaves, the last takes its place. What lies
 * where no token is, is zero, always: a mask turns its weight into zero, and zero times the infinity that another sequence left there would
 * be no number.
 *
 *   align 'start':  token token token   0     0      'end':   0     0   token token token
 */
import type { KvPort } from './decoder-ports.js';
import { capacityFor, rowsFor } from './kv-layout.js';

export type KvArray = Float32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;

export interface KvStoreOptions {
  readonly align: 'start' | 'end';
  readonly maxRows: number;
  readonly maxTokens: number;
  /** Room that is not needed is kept only within this; `bound` changes it. */
  readonly maxBytes: number;
}

/** A sequence in the store; only the store writes to it. */
export class KvRow {
  index: number;
  length = 0;

  constructor(index: number) {
    this.index = index;
  }
}

/** Keys and values of a sequence outside of the store: per tensor [heads, length, size], one behind the other. */
export interface KvCopy {
  readonly length: number;
  readonly byteLength: number;
  readonly buffer: ArrayBuffer;
}

export class KvStore {
  readonly rows: KvRow[] = [];
  capacity = 0;
  /** Goes up when the arrays are others, or rows have changed places. */
  version = 0;
  readonly bytesPerToken: number;
  readonly #tensors: readonly KvPort[];
  readonly #options: KvStoreOptions;
  #arrays: KvArray[];
  #rowCapacity = 0;
  #maxBytes: number;

  constructor(tensors: readonly KvPort[], options: KvStoreOptions) {
    this.#tensors = tensors;
    this.#options = options;
    this.#maxBytes = options.maxBytes;
    this.#arrays = tensors.map((tensor) => newArray(tensor, 0));
    this.bytesPerToken = tensors.reduce((sum, tensor) => sum + tensor.heads * tensor.size * bytesOf(tensor), 0);
  }

  get usedBytes(): number {
    let tokens = 0;
    for (const row of this.rows) tokens += row.length;
    return tokens * this.bytesPerToken;
  }

  get heldBytes(): number {
    return this.#rowCapacity * this.capacity * this.bytesPerToken;
  }

  /** Tensor `tensor` of rows `from` up to `from + count`. */
  view(tensor: number, from: number, count: number): KvArray {
    const size = this.#rowSize(tensor);
    return this.#arrays[tensor]!.subarray(from * size, (from + count) * size);
  }

  add(): KvRow {
    const row = new KvRow(this.rows.length);
    this.#grow(this.rows.length + 1, 1);
    this.rows.push(row);
    return row;
  }

  remove(row: KvRow): void {
    const last = this.rows.pop()!;
    for (let t = 0; t < this.#arrays.length; t++) {
      if (last !== row) this.view(t, row.index, 1).set(this.view(t, last.index, 1));
      this.view(t, last.index, 1).fill(0);
    }
    if (last !== row) {
      last.index = row.index;
      this.rows[row.index] = last;
      this.version++;
    }
    row.index = -1;
    this.#shrink();
  }

  /** Exchanges the places of two rows. */
  swap(a: KvRow, b: KvRow): void {
    for (let t = 0; t < this.#arrays.length; t++) {
      const [left, right] = [this.view(t, a.index, 1), this.view(t, b.index, 1)];
      const copy = left.slice();
      left.set(right);
      right.set(copy);
    }
    [a.index, b.index] = [b.index, a.index];
    this.rows[a.index] = a;
    this.rows[b.index] = b;
    this.version++;
  }

  /** Room that is not needed is kept only within `maxBytes` from now on. */
  bound(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    if (this.heldBytes > maxBytes) this.#grow(this.rows.length, 1);
  }

  /** Makes room for `tokens` in every row, and for so many rows. */
  reserve(tokens: number, rows = this.rows.length): void {
    if (tokens > this.capacity || rows > this.#rowCapacity) this.#grow(Math.max(rows, this.rows.length), tokens);
  }

  /**
   * Appends `tokens` tokens to each of `count` rows from `from` on, for those tensors that `source` has, [tensors, count, heads, tokens,
   * size]. There is room; the lengths of the rows stay: `advance` follows when all tensors are there.
   */
  append(tensors: readonly number[], source: KvArray, from: number, count: number, tokens: number): void {
    const { heads, size } = this.#tensors[tensors[0]!]!;
    const stride = this.capacity * size;
    const block = tokens * size;
    let read = 0;
    for (const tensor of tensors) {
      const array = this.#arrays[tensor]!;
      for (let b = from; b < from + count; b++) {
        const at = this.#makeRoom(tensor, b, tokens) * size;
        let write = b * heads * stride + at;
        for (let h = 0; h < heads; h++) {
          // A loop for the few numbers of one token: a view costs more than they do.
          if (block <= 256) for (let i = 0; i < block; i++) array[write + i] = source[read + i]!;
          else array.set(source.subarray(read, read + block), write);
          read += block;
          write += stride;
        }
      }
    }
  }

  advance(row: KvRow, tokens: number): void {
    row.length += tokens;
  }

  /** A copy of the first `length` tokens of `row`. */
  copy(row: KvRow, length: number): KvCopy {
    const byteLength = length * this.bytesPerToken;
    const buffer = new ArrayBuffer(byteLength);
    this.#eachHead(row, row.length, length, buffer, (array, at, saved) =>
      saved.set(array.subarray(at, at + saved.length)),
    );
    return { length, byteLength, buffer };
  }

  /** Views on the tensors of a copy, each [heads, length, size]. */
  partsOf({ buffer, length }: KvCopy): KvArray[] {
    let offset = 0;
    return this.#tensors.map((tensor) => {
      const part = viewOf(tensor, buffer, offset, tensor.heads * length * tensor.size);
      offset += part.byteLength;
      return part;
    });
  }

  /** Puts the first `length` tokens of `copy` into an empty row. */
  paste(row: KvRow, copy: KvCopy, length: number): void {
    this.reserve(length);
    this.#eachHead(row, length, copy.length, copy.buffer, (array, at, saved, size) =>
      array.set(saved.subarray(0, length * size), at),
    );
    row.length = length;
  }

  /** Where the first token of a row of `length` lies. */
  #start(length: number): number {
    return this.#options.align === 'start' ? 0 : this.capacity - length;
  }

  /** Each head of each tensor of a row of `length` tokens: where its first token lies, and its part of `buffer`, made for `saved` tokens. */
  #eachHead(
    row: KvRow,
    length: number,
    saved: number,
    buffer: ArrayBuffer,
    visit: (array: KvArray, at: number, part: KvArray, size: number) => void,
  ): void {
    let offset = 0;
    for (const [t, tensor] of this.#tensors.entries()) {
      for (let h = 0; h < tensor.heads; h++) {
        const part = viewOf(tensor, buffer, offset, saved * tensor.size);
        offset += part.byteLength;
        const at = ((row.index * tensor.heads + h) * this.capacity + this.#start(length)) * tensor.size;
        visit(this.#arrays[t]!, at, part, tensor.size);
      }
    }
  }

  /** Where `tokens` new tokens of row `index` go; tokens that end at the capacity move forward first. */
  #makeRoom(tensor: number, index: number, tokens: number): number {
    const { length } = this.rows[index]!;
    if (this.#options.align === 'start') return length;
    const { heads, size } = this.#tensors[tensor]!;
    const array = this.#arrays[tensor]!;
    for (let h = 0; h < heads; h++) {
      const end = ((index * heads + h) * this.capacity + this.capacity) * size;
      array.copyWithin(end - (length + tokens) * size, end - length * size, end);
    }
    return this.capacity - tokens;
  }

  /** Gives memory back when a quarter of it would do, or half of the tokens. */
  #shrink(): void {
    const { maxRows, maxTokens } = this.#options;
    const rows = rowsFor(this.rows.length, maxRows);
    const capacity = rows === 0 ? 0 : capacityFor(this.#longest(), maxTokens);
    if (rows === 0 || rows * 4 <= this.#rowCapacity || capacity * 2 <= this.capacity) {
      this.#relay(rows, capacity * 2 <= this.capacity ? capacity : this.capacity);
    }
  }

  #grow(rows: number, tokens: number): void {
    const { maxRows, maxTokens } = this.#options;
    const least = capacityFor(Math.max(tokens, this.#longest()), maxTokens);
    let room = Math.max(this.#rowCapacity, rowsFor(rows, maxRows));
    let capacity = Math.max(this.capacity, least);
    const isTooMuch = () => room * capacity * this.bytesPerToken > this.#maxBytes;
    if (isTooMuch()) {
      room = rowsFor(rows, maxRows);
      capacity = least;
    }
    if (isTooMuch()) room = rows;
    if (room !== this.#rowCapacity || capacity !== this.capacity) this.#relay(room, capacity);
  }

  #longest(): number {
    let longest = 0;
    for (const row of this.rows) longest = Math.max(longest, row.length);
    return longest;
  }

  /** Lays all rows out anew, one tensor after the other, so that never more than one of them is there twice. */
  #relay(rowCapacity: number, capacity: number): void {
    const from = this.capacity;
    for (const [t, tensor] of this.#tensors.entries()) {
      const { heads, size } = tensor;
      const old = this.#arrays[t]!;
      const array = newArray(tensor, rowCapacity * heads * capacity * size);
      for (const { index, length } of this.rows) {
        for (let h = index * heads; h < (index + 1) * heads; h++) {
          const first = this.#options.align === 'start' ? 0 : from - length;
          const start = this.#options.align === 'start' ? 0 : capacity - length;
          const source = old.subarray((h * from + first) * size, (h * from + first + length) * size);
          array.set(source, (h * capacity + start) * size);
        }
      }
      this.#arrays[t] = array;
      // Freed at once: the collector does not know how much it is.
      old.buffer.transfer(0);
    }
    this.#rowCapacity = rowCapacity;
    this.capacity = capacity;
    this.version++;
  }

  #rowSize(tensor: number): number {
    const { heads, size } = this.#tensors[tensor]!;
    return heads * this.capacity * size;
  }
}

export function bytesOf({ type }: KvPort): number {
  return type === 'float16' ? 2 : 4;
}

function newArray({ type }: KvPort, length: number): KvArray {
  return type === 'float16' ? new Uint16Array(length) : new Float32Array(length);
}

function viewOf({ type }: KvPort, buffer: ArrayBuffer, offset: number, length: number): KvArray {
  return type === 'float16' ? new Uint16Array(buffer, offset, length) : new Float32Array(buffer, offset, length);
}
