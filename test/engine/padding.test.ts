/** Texts of different lengths through the two copies of a batch, with a model that gives back what it gets. */
import { describe, expect, test } from 'vitest';
import type { Datatype } from '../../src/base/datatype.js';
import { Timeline } from '../../src/base/timeline.js';
import { type Batch, fitted, gather, planFor, scatter } from '../../src/engine/batch.js';
import type { Entry } from '../../src/engine/entry.js';
import type { Model } from '../../src/engine/model.js';
import type { TensorSpec } from '../../src/engine/tensor-spec.js';
import type { InferOutput } from '../../src/engine/types.js';
import { SlabPool } from '../../src/runtime/slab-pool.js';
import { rawStrings } from '../support/engine.js';

const spec = (name: string, datatype: Datatype, onnxDims: (number | string)[], index: number): TensorSpec => ({
  name,
  datatype,
  dims: onnxDims.map((dim) => (typeof dim === 'number' ? dim : -1)),
  reshape: undefined,
  onnxDims,
  index,
  optional: false,
});

interface Options {
  outputs: TensorSpec[];
  paddingSide?: 'right' | 'left';
}

/** Takes token ids, padded with 7, and a mask, and has the given outputs. */
function textModel({ outputs, paddingSide = 'right' }: Options): Model {
  const inputs = [spec('input_ids', 'INT64', ['tokens'], 0), spec('attention_mask', 'INT32', ['tokens'], 1)];
  return {
    name: 'm',
    inputs,
    outputs,
    batching: true,
    session: 0,
    padding: [7, 0],
    processor: { text: { paddingSide } },
    plans: new Map(),
    outputsUnpredictable: false,
  } as unknown as Model;
}

/** Texts of one request as token ids, 0 = padded within the request. */
function entryOf(model: Model, rows: number[][]): Entry {
  const tokens = rows[0]!.length;
  const ids = BigInt64Array.from(rows.flat(), (id) => (id === 0 ? 7n : BigInt(id)));
  const mask = Int32Array.from(rows.flat(), (id) => (id === 0 ? 0 : 1));
  const bytes = (array: ArrayBufferView) => {
    // As views on a message are: anywhere.
    const copy = new Uint8Array(array.byteLength + 3);
    copy.set(new Uint8Array(array.buffer, array.byteOffset, array.byteLength), 3);
    return copy.subarray(3);
  };
  return {
    rows: rows.length,
    data: [bytes(ids), bytes(mask)],
    dims: [[tokens], [tokens]],
    outputs: model.outputs.map((_, position) => position),
    rowTokens: rows.map((row) => row.filter((id) => id !== 0).length),
    tokens,
    groupKey: 'text;text;',
    request: { timeline: new Timeline(0) },
  } as unknown as Entry;
}

/** Both copies around `compute`, which gets the batch's token ids and its length and gives each output's dimensions and bytes. */
function run(
  model: Model,
  entries: Entry[],
  compute: (ids: BigInt64Array, mask: Int32Array, longest: number) => { dims: number[]; bytes: Uint8Array }[],
): { ids: number[]; mask: number[]; outputs: InferOutput[][] } {
  const slabs = new SlabPool({ maxBytes: 1 << 20, onCreate: () => undefined, onDrop: () => undefined });
  const plan = planFor(model, entries);
  const lease = slabs.acquire(plan.totalBytes)!;
  lease.bytes.fill(0xdd);
  gather(model, plan, entries, lease);
  const cells = plan.rows * plan.longest;
  const ids = new BigInt64Array(lease.bytes.buffer, plan.inputOffsets[0]!, cells);
  const mask = new Int32Array(lease.bytes.buffer, plan.inputOffsets[1]!, cells);
  const seen = { ids: [...ids].map(Number), mask: [...mask] };
  const owned = new Map<number, { index: number; dims: number[]; buffer: ArrayBuffer }>();
  for (const [position, { dims, bytes }] of compute(ids, mask, plan.longest).entries()) {
    const { offset } = plan.outputs[position]!;
    if (offset < 0) owned.set(position, { index: position, dims, buffer: Uint8Array.from(bytes).buffer });
    else {
      expect(plan.outputs[position]!.dims).toEqual(dims);
      lease.bytes.set(bytes, offset);
    }
  }
  const batch: Batch = { id: 0, model, entries, rows: plan.rows, plan, lease, worker: 0, aside: false };
  return { ...seen, outputs: scatter(batch, { computeStart: 0, computeEnd: 0, owned }) };
}

const bytesOf = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength).slice();
const floats = ({ data }: InferOutput) => [...new Float32Array(Uint8Array.from(data).buffer)];
/** Two values for each token: its id, and the same negative. */
const vectors = (ids: BigInt64Array) => bytesOf(Float32Array.from([...ids].flatMap((id) => [Number(id), -Number(id)])));

const PER_TOKEN = spec('hidden', 'FP32', ['tokens', 2], 0);

describe.each(['right', 'left'] as const)('with padding on the %s', (paddingSide) => {
  const model = textModel({ outputs: [PER_TOKEN], paddingSide });
  const place = (row: number[], length: number, fill: number) => {
    const gap = new Array<number>(length - row.length).fill(fill);
    return paddingSide === 'right' ? [...row, ...gap] : [...gap, ...row];
  };
  // The second request has several rows, padded to its own longest.
  const texts = [
    [[11, 12]],
    [place([21, 22, 23], 3, 0), place([24], 3, 0), place([25, 26], 3, 0)],
    [[31, 32, 33, 34, 35]],
    [[41]],
  ];
  const entries = () => texts.map((rows) => entryOf(model, rows));

  test('every row is as long as the longest, and what is added is padding', () => {
    const { ids, mask } = run(model, entries(), (ids) => [{ dims: [6, 5, 2], bytes: vectors(ids) }]);
    const rows = [[11, 12], [21, 22, 23], [24], [25, 26], [31, 32, 33, 34, 35], [41]];
    expect(ids).toEqual(rows.flatMap((row) => place(row, 5, 7)));
    expect(mask).toEqual(
      rows.flatMap((row) =>
        place(
          row.map(() => 1),
          5,
          0,
        ),
      ),
    );
  });

  test('each request gets its own tokens back, as long as alone', () => {
    const { outputs } = run(model, entries(), (ids) => [{ dims: [6, 5, 2], bytes: vectors(ids) }]);
    for (const [i, rows] of texts.entries()) {
      const alone = run(model, [entryOf(model, rows)], (ids, _, longest) => [
        { dims: [rows.length, longest, 2], bytes: vectors(ids) },
      ]).outputs[0]![0]!;
      expect(outputs[i]![0]!.shape).toEqual([rows.length, rows[0]!.length, 2]);
      expect(outputs[i]![0]!.shape).toEqual(alone.shape);
      expect(floats(outputs[i]![0]!)).toEqual(floats(alone));
    }
  });

  test('strings per token are cut as well', () => {
    const strings = textModel({ outputs: [spec('tags', 'BYTES', ['tokens'], 0)], paddingSide });
    const { outputs } = run(
      strings,
      texts.map((rows) => entryOf(strings, rows)),
      (ids) => [{ dims: [6, 5], bytes: rawStrings(...[...ids].map((id) => 'x'.repeat(Number(id) % 10))) }],
    );
    const cell = (id: number) => 'x'.repeat((id === 0 ? 7 : id) % 10);
    for (const [i, rows] of texts.entries()) {
      expect(outputs[i]![0]!.shape).toEqual([rows.length, rows[0]!.length]);
      expect(Buffer.from(outputs[i]![0]!.data)).toEqual(rawStrings(...rows.flat().map(cell)));
    }
  });

  test('an output is cut wherever it has an axis of tokens', () => {
    const attentions = spec('attentions', 'INT64', [2, 'tokens', 'tokens'], 0);
    const channelsFirst = spec('channels', 'INT64', [2, 'tokens'], 1);
    const pairs = textModel({ outputs: [attentions, channelsFirst], paddingSide });
    /** Of each row: every id beside every id, twice, and the ids twice. */
    const compute = (ids: BigInt64Array, longest: number) => {
      const rows = Array.from({ length: ids.length / longest }, (_, i) => ids.slice(i * longest, (i + 1) * longest));
      const beside = rows.flatMap((row) =>
        [1n, 2n].flatMap((head) => [...row].flatMap((a) => [...row].map((b) => 10000n * head + 100n * a + b))),
      );
      const twice = rows.flatMap((row) => [...row, ...row]);
      return [
        { dims: [rows.length, 2, longest, longest], bytes: bytesOf(BigInt64Array.from(beside)) },
        { dims: [rows.length, 2, longest], bytes: bytesOf(BigInt64Array.from(twice)) },
      ];
    };
    const given = (rows: number[][][]) =>
      run(
        pairs,
        rows.map((row) => entryOf(pairs, row)),
        (ids, _, longest) => compute(ids, longest),
      ).outputs.map((outputs) => outputs.map(({ shape, data }) => [shape, Buffer.from(data).toString('hex')]));
    expect(given(texts)).toEqual(texts.flatMap((rows) => given([rows])));
  });
});

test('the output of one row is a view, no copy', () => {
  const model = textModel({ outputs: [PER_TOKEN] });
  const entries = [entryOf(model, [[1, 2]]), entryOf(model, [[3, 4, 5]])];
  const [short, long] = run(model, entries, (ids) => [{ dims: [2, 3, 2], bytes: vectors(ids) }]).outputs;
  expect(short![0]!.data.buffer).toBe(long![0]!.data.buffer);
});

test('outputs that are not per token stay as they are', () => {
  const model = textModel({ outputs: [spec('logits', 'FP32', [3], 0)] });
  const entries = [entryOf(model, [[1, 2]]), entryOf(model, [[3, 4, 5]])];
  const bytes = bytesOf(Float32Array.from([1, 2, 3, 4, 5, 6]));
  const { outputs } = run(model, entries, () => [{ dims: [2, 3], bytes }]);
  expect(outputs.map(([output]) => [output!.shape, floats(output!)])).toEqual([
    [
      [1, 3],
      [1, 2, 3],
    ],
    [
      [1, 3],
      [4, 5, 6],
    ],
  ]);
});

test('an axis with a symbol of its own is cut where it is as long as the batch', () => {
  const model = textModel({ outputs: [spec('hidden', 'FP32', ['other', 2], 0)] });
  const entries = [entryOf(model, [[1, 2]]), entryOf(model, [[3, 4, 5]])];
  const { outputs } = run(model, entries, (ids) => [{ dims: [2, 3, 2], bytes: vectors(ids) }]);
  expect(outputs.map(([output]) => output!.shape)).toEqual([
    [1, 2, 2],
    [1, 3, 2],
  ]);
});

test('one that was seen with another length is never cut', () => {
  const model = textModel({ outputs: [spec('classes', 'FP32', ['other'], 0)] });
  const compute = (rows: number) => () => [{ dims: [rows, 3], bytes: bytesOf(new Float32Array(3 * rows)) }];
  run(model, [entryOf(model, [[1, 2, 3, 4]])], compute(1));
  const entries = [entryOf(model, [[1, 2]]), entryOf(model, [[3, 4, 5]])];
  expect(run(model, entries, compute(2)).outputs.map(([output]) => output!.shape)).toEqual([
    [1, 3],
    [1, 3],
  ]);
});

test('where memory is short the first half runs, padded to its own longest', () => {
  const model = textModel({ outputs: [spec('hidden', 'FP32', ['tokens', 1024], 0)] });
  const slabs = new SlabPool({ maxBytes: 1 << 16, onCreate: () => undefined, onDrop: () => undefined });
  const entries = [6, 5, 6, 7, 7].map((length) => entryOf(model, [new Array<number>(length).fill(1)]));
  const { entries: first, plan } = fitted(model, entries, slabs);
  expect(first).toEqual(entries.slice(0, 2));
  expect([plan.rows, plan.longest]).toEqual([2, 6]);
});

test('a plan is kept for each length', () => {
  const model = textModel({ outputs: [PER_TOKEN] });
  const plan = (...lengths: number[]) =>
    planFor(
      model,
      lengths.map((length) => entryOf(model, [new Array<number>(length).fill(1)])),
    );
  expect(plan(2, 3)).toBe(plan(3, 1));
  expect(plan(2, 3).longest).toBe(3);
  expect(plan(2, 4)).not.toBe(plan(2, 3));
});
