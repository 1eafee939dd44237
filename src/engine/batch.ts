/**
 * One batch: the requests that run together, the shared memory they run in, and the two copies.
 *
 *   gather (copy 1)    e1.data e2.data ... ──▶ | input 0: e1 rows, e2 rows, ... | input 1: ... | outputs |   lease
 *   scatter (copy 2)   | output 0: e1 rows, e2 rows, ... | ──▶ each request's handler encodes its part while the lease is held
 *
 * Called by the scheduler. Owns its entries while they run.
 */

import { copyBytes } from '../base/copy-bytes.js';
import { DATATYPES } from '../base/datatype.js';
import { ServeError } from '../base/errors.js';
import type { RunReply } from '../runtime/messages.js';
import type { Lease, SlabPool } from '../runtime/slab-pool.js';
import { skipBytesElements } from '../runtime/tensor.js';
import { type BatchPlan, planBatch } from './batch-plan.js';
import type { Entry } from './entry.js';
import type { Model } from './model.js';
import { copyPadded, cutAxes, type Padding, paddedDims, paddingOf, padElement, tokenAxes } from './padding.js';
import { clientDims, elementCount } from './tensor-spec.js';
import type { InferOutput } from './types.js';

export interface Batch {
  readonly id: number;
  readonly model: Model;
  readonly entries: readonly Entry[];
  readonly rows: number;
  readonly plan: BatchPlan;
  readonly lease: Lease;
  readonly worker: number;
  /** A warm-up: not counted. */
  readonly aside: boolean;
}

/** What the worker made of a batch: times, and the outputs it kept itself by the session's output index. */
export interface BatchResult {
  readonly computeStart: number;
  readonly computeEnd: number;
  readonly owned: ReadonlyMap<number, RunReply['outputs'][number]>;
}

const NONE_OWNED: BatchResult['owned'] = new Map();

/** The worker's answer to a batch that did not fail. */
export function resultOf(answer: number[] | RunReply): BatchResult {
  if (Array.isArray(answer)) return { computeStart: answer[1]!, computeEnd: answer[2]!, owned: NONE_OWNED };
  const { computeStart, computeEnd, outputs } = answer;
  return { computeStart, computeEnd, owned: new Map(outputs.map((output) => [output.index, output])) };
}

/** Plans kept per model; past this many shapes they are forgotten and worked out again. */
const MAX_PLANS = 512;

/** The plan for running `entries` together; they are of one group. */
export function planFor(model: Model, entries: readonly Entry[]): BatchPlan {
  const first = entries[0]!;
  let rows = 0;
  let longest = 0;
  for (const entry of entries) {
    rows += entry.rows;
    if (entry.tokens > longest) longest = entry.tokens;
  }
  const wanted = entries.length === 1 ? first.outputs : union(entries);
  const request = {
    session: model.session,
    inputs: model.inputs,
    outputs: model.outputs,
    batching: model.batching,
    rows,
    longest,
    dims: first.dims,
    bytesLengths: [] as number[],
    wanted,
    unpredictable: model.outputsUnpredictable,
  };
  if (longest !== first.tokens) {
    request.dims = first.dims.map((own, position) =>
      own && model.padding[position] !== undefined ? paddedDims(own, longest) : own,
    );
  }
  if (model.inputs.some(({ datatype }) => datatype === 'BYTES')) {
    request.bytesLengths = model.inputs.map((_, position) =>
      entries.reduce((sum, { data }) => sum + (data[position]?.byteLength ?? 0), 0),
    );
    return planBatch(request);
  }
  const key = `${rows}|${longest}|${first.groupKey}|${wanted.length === model.outputs.length && inOrder(wanted) ? '' : wanted.join(',')}`;
  let plan = model.plans.get(key);
  if (!plan) {
    plan = planBatch(request);
    if (model.plans.size >= MAX_PLANS) model.plans.clear();
    model.plans.set(key, plan);
  }
  return plan;
}

/**
 * As many of the first `entries` as fit into the pool together; one alone where not even that fits. Part of a window of texts may be more
 * padding than the whole; that is borne where memory is so short.
 */
export function fitted(
  model: Model,
  entries: readonly Entry[],
  slabs: SlabPool,
): { entries: readonly Entry[]; plan: BatchPlan } {
  const plan = planFor(model, entries);
  if (entries.length === 1 || slabs.fits(plan.totalBytes)) return { entries, plan };
  return fitted(model, entries.slice(0, entries.length >> 1), slabs);
}

/** Writes the rows of all entries next to each other: copy 1. */
export function gather(model: Model, plan: BatchPlan, entries: readonly Entry[], lease: Lease): void {
  const padding = plan.longest > 0 ? paddingOf(model, entries, plan.longest) : undefined;
  for (let position = 0; position < plan.inputOffsets.length; position++) {
    let at = plan.inputOffsets[position]!;
    if (at < 0) continue;
    const value = padding && model.padding[position];
    if (value === undefined) {
      for (const { data } of entries) at = copyBytes(lease.bytes, data[position]!, at);
      continue;
    }
    const pad = padElement(model.inputs[position]!.datatype, value);
    for (const entry of entries) at = copyPadded(lease.bytes, entry.data[position]!, at, entry, padding!, pad);
  }
}

/**
 * The outputs of all entries, in the entries' order. Each is a view on the lease (or on what the worker sent): lent.
 * Throws INTERNAL when the model gave an output whose rows are not the batch's.
 */
export function scatter({ model, entries, rows, plan, lease }: Batch, result: BatchResult): InferOutput[][] {
  const parts = entries.map((): InferOutput[] => []);
  const byPosition = new Map<number, InferOutput[]>();
  const padding = plan.longest > 0 ? paddingOf(model, entries, plan.longest) : undefined;
  for (const { position, offset, byteLength, dims } of plan.outputs) {
    const spec = model.outputs[position]!;
    const owned = result.owned.get(spec.index);
    const bytes = offset >= 0 ? lease.bytes.subarray(offset, offset + byteLength) : new Uint8Array(owned!.buffer);
    const actual = offset >= 0 ? dims : owned!.dims;
    // Asked for without padding too, since it learns from each batch.
    const axes = plan.longest > 0 && model.batching && tokenAxes(model, position, actual.slice(1), plan.longest);
    const cut = padding && axes && axes.length > 0 ? { padding, axes } : undefined;
    byPosition.set(position, split(model, position, entries, rows, bytes, actual, cut));
  }
  for (const [i, entry] of entries.entries()) {
    for (const position of entry.outputs) parts[i]!.push(byPosition.get(position)![i]!);
  }
  return parts;
}

/** One output cut into the parts of the entries; with `cut` it has axes of tokens, of which each entry gets its own. */
function split(
  model: Model,
  position: number,
  entries: readonly Entry[],
  rows: number,
  bytes: Uint8Array,
  dims: readonly number[],
  cut: { readonly padding: Padding; readonly axes: readonly number[] } | undefined,
): InferOutput[] {
  const spec = model.outputs[position]!;
  const { name, datatype } = spec;
  if (!model.batching) return [{ name, datatype, shape: clientDims(spec, dims), data: bytes }];
  if (dims[0] !== rows) {
    throw new ServeError(
      'INTERNAL',
      `output '${name}' of model '${model.name}' has shape [${dims.join(',')}] for a batch of ${rows}: its first dimension must be the batch`,
    );
  }
  const own = clientDims(spec, dims.slice(1));
  const elementsPerRow = elementCount(own);
  const rowBytes = elementsPerRow * DATATYPES[datatype].byteSize;
  if (entries.length === 1) return [{ name, datatype, shape: [rows, ...own], data: bytes }];
  let at = 0;
  return entries.map((entry) => {
    const end =
      datatype === 'BYTES' ? skipBytesElements(bytes, at, elementsPerRow * entry.rows) : at + rowBytes * entry.rows;
    const data = bytes.subarray(at, end);
    at = end;
    if (!cut || entry.tokens === cut.padding.longest) return { name, datatype, shape: [entry.rows, ...own], data };
    const part = cutAxes(data, entry, cut.padding, { own: dims.slice(1), axes: cut.axes, datatype });
    return { name, datatype, shape: [entry.rows, ...clientDims(spec, part.own)], data: part.data };
  });
}

function union(entries: readonly Entry[]): readonly number[] {
  const first = entries[0]!.outputs;
  // Almost always all requests share one list: that of all outputs.
  if (entries.every(({ outputs }) => outputs === first)) return first;
  return [...new Set(entries.flatMap(({ outputs }) => outputs))].sort((a, b) => a - b);
}

function inOrder(positions: readonly number[]): boolean {
  return positions.every((position, i) => position === i);
}
