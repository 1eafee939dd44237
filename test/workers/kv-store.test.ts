/** The memory of keys and values: what it holds, that it comes back, and that every row keeps what is its own. */
import { expect, test } from 'vitest';
import type { KvPort } from '../../workers/decoder-ports.js';
import { capacityFor, rowsFor } from '../../workers/kv-layout.js';
import { type KvArray, type KvRow, KvStore } from '../../workers/kv-store.js';

const port = (heads: number, size: number, type: KvPort['type'] = 'float32'): KvPort => ({
  past: '',
  present: '',
  type,
  firstDims: [1, heads, 0, size],
  heads,
  size,
});

/** Two tensors of different shape and type: 2 x 4 x 4 + 1 x 3 x 2 bytes for a token. */
const TENSORS = [port(2, 4), port(1, 3, 'float16')];
const BYTES = 38;

const aligned = (align: 'start' | 'end', changes = {}): KvStore =>
  new KvStore(TENSORS, { align, maxRows: 8, maxTokens: 1000, maxBytes: 2 ** 30, ...changes });

/** Numbers that tell row, token, tensor, head and place apart, and fit in 16 bits. */
const mark = (id: number, token: number, t: number, h: number, i: number): number =>
  (id * 1009 + token * 31 + t * 13 + h * 5 + i + 1) % 65_521;

/** Appends `tokens` marked tokens to a row. */
function append(store: KvStore, row: KvRow, id: number, tokens: number): void {
  store.reserve(row.length + tokens);
  for (const [t, { heads, size, type }] of TENSORS.entries()) {
    const source: KvArray =
      type === 'float16' ? new Uint16Array(heads * tokens * size) : new Float32Array(heads * tokens * size);
    let at = 0;
    for (let h = 0; h < heads; h++)
      for (let token = 0; token < tokens; token++)
        for (let i = 0; i < size; i++) source[at++] = mark(id, row.length + token, t, h, i);
    store.append([t], source, row.index, 1, tokens);
  }
  store.advance(row, tokens);
}

/** Everything of a row as its marks would have it, zeros included. */
function expectRow(store: KvStore, align: 'start' | 'end', row: KvRow, id: number): void {
  for (const [t, { heads, size }] of TENSORS.entries()) {
    const view = store.view(t, row.index, 1);
    const first = align === 'start' ? 0 : store.capacity - row.length;
    const expected = new Array<number>(view.length).fill(0);
    for (let h = 0; h < heads; h++)
      for (let token = 0; token < row.length; token++)
        for (let i = 0; i < size; i++)
          expected[(h * store.capacity + first + token) * size + i] = mark(id, token, t, h, i);
    expect([...view]).toEqual(expected);
  }
}

test('capacity and rows go in steps, never above what there can be', () => {
  expect([1, 32, 33, 65, 97, 129, 193, 257, 385, 600].map((tokens) => capacityFor(tokens, 600))).toEqual([
    32, 32, 64, 96, 128, 192, 256, 384, 512, 600,
  ]);
  expect(capacityFor(5, 20)).toBe(20);
  expect([0, 1, 2, 3, 5, 6].map((rows) => rowsFor(rows, 6))).toEqual([0, 1, 2, 4, 6, 6]);
});

test.each(['start', 'end'] as const)(
  'rows aligned at the %s keep their tokens while others come, grow, change places and leave',
  (align) => {
    const store = aligned(align);
    const rows = new Map<number, KvRow>();
    let state = 3;
    const draw = (below: number): number => (state = (state * 48_271) % 2_147_483_647) % below;
    for (let turn = 0; turn < 300; turn++) {
      const ids = [...rows.keys()];
      const action = draw(10);
      if (rows.size < 8 && (action < 3 || rows.size === 0)) rows.set(turn + 1, store.add());
      else if (action < 4 || (action < 6 && rows.size > 6)) {
        const id = ids[draw(ids.length)]!;
        store.remove(rows.get(id)!);
        rows.delete(id);
      } else if (action < 5 && rows.size > 1) store.swap(rows.get(ids[0]!)!, rows.get(ids.at(-1)!)!);
      else {
        const id = ids[draw(ids.length)]!;
        if (rows.get(id)!.length < 150) append(store, rows.get(id)!, id, 1 + draw(20));
      }
      for (const [id, row] of rows) expectRow(store, align, row, id);
      const tokens = [...rows.values()].reduce((sum, { length }) => sum + length, 0);
      expect(store.usedBytes).toBe(tokens * BYTES);
      expect([...rows.values()].map(({ index }) => index).sort()).toEqual([...rows.keys()].map((_, i) => i));
    }
    for (const row of rows.values()) store.remove(row);
    expect([store.usedBytes, store.heldBytes]).toEqual([0, 0]);
  },
);

test.each(['start', 'end'] as const)(
  'copies of rows aligned at the %s are compact, and can be put back whole or in part',
  (align) => {
    const store = aligned(align);
    const row = store.add();
    append(store, row, 1, 40);
    for (const length of [1, 17, 40]) {
      const copy = store.copy(row, length);
      expect([copy.length, copy.byteLength, copy.buffer.byteLength]).toEqual([length, length * BYTES, length * BYTES]);
      for (const part of [length, Math.ceil(length / 2)]) {
        const other = store.add();
        store.paste(other, copy, part);
        expectRow(store, align, other, 1);
        append(store, other, 1, 3);
        expectRow(store, align, other, 1);
        store.remove(other);
      }
    }
  },
);

test('memory shrinks when the longest or most of the rows have left', () => {
  const store = aligned('start');
  const rows = Array.from({ length: 8 }, () => store.add());
  append(store, rows[3]!, 1, 500);
  expect(store.heldBytes).toBe(8 * 512 * BYTES);
  store.remove(rows[3]!);
  expect(store.heldBytes).toBe(8 * 32 * BYTES);
  for (const row of [rows[0]!, rows[1]!, rows[2]!, rows[4]!, rows[5]!]) store.remove(row);
  expect(store.heldBytes).toBe(2 * 32 * BYTES);
});

test('room that is left over is given up before the bound is passed', () => {
  const store = aligned('start', { maxBytes: 4 * 64 * BYTES });
  const rows = Array.from({ length: 4 }, () => store.add());
  append(store, rows[0]!, 1, 60);
  expect(store.heldBytes).toBe(4 * 64 * BYTES);
  store.remove(rows[3]!);
  store.remove(rows[2]!);
  append(store, rows[0]!, 1, 60);
  expect(store.heldBytes).toBe(2 * 128 * BYTES);
  expectRow(store, 'start', rows[0]!, 1);
});

test('where a power of two of rows would pass the bound there are as many as are needed', () => {
  const store = aligned('start', { maxBytes: 3 * 64 * BYTES });
  const rows = Array.from({ length: 3 }, () => store.add());
  append(store, rows[0]!, 1, 60);
  expect(store.heldBytes).toBe(3 * 64 * BYTES);
  expectRow(store, 'start', rows[0]!, 1);
});

test.each(['start', 'end'] as const)('room that nobody needs is given back when the bound is lowered (%s)', (align) => {
  const store = aligned(align);
  const rows = Array.from({ length: 5 }, () => store.add());
  for (const [id, row] of rows.entries()) append(store, row, id, 50 - id);
  expect(store.heldBytes).toBe(8 * 64 * BYTES);
  store.bound(8 * 64 * BYTES);
  expect(store.heldBytes).toBe(8 * 64 * BYTES);
  store.remove(rows.pop()!);
  store.bound(5 * 64 * BYTES);
  expect(store.heldBytes).toBe(4 * 64 * BYTES);
  for (const [id, row] of rows.entries()) expectRow(store, align, row, id);
});
