/**
 * What a decoder's graph takes and gives, by role: tokens, mask, positions, keys and values of each layer, other state.
 *
 * Called by workers/decoder.ts before there is a session. Goes by the file's own inputs and outputs and by nothing else: layers may be
 * sparse, their shapes may differ. Refuses what nobody knows how to feed.
 */
import { printable, ServeError } from '#src/base/errors';
import type { DecoderNames } from '#src/runtime/generation-messages';
import type { GraphValue } from './onnx-edit.js';
import type { ModelSkeleton } from './onnx-graph.js';

export type IntegerType = 'int64' | 'int32';
export type StateType = 'float32' | 'float16' | 'int64' | 'int32' | 'bool';

export interface IntegerPort {
  readonly name: string;
  readonly type: IntegerType;
}

/** State that a run takes as `past` and gives back, longer or changed, as `present`. */
export interface StatePort {
  readonly past: string;
  readonly present: string;
  readonly type: StateType;
  /** At the beginning, for one sequence: what has no fixed size is 0. */
  readonly firstDims: readonly number[];
}

/** Keys or values of one layer, [batch, heads, tokens, size]. */
export interface KvPort extends StatePort {
  readonly type: 'float32' | 'float16';
  readonly heads: number;
  readonly size: number;
}

export interface DecoderPorts {
  readonly inputIds: IntegerPort;
  readonly attentionMask: IntegerPort | undefined;
  readonly positionIds: IntegerPort | undefined;
  readonly useCacheBranch: string | undefined;
  readonly numLogitsToKeep: IntegerPort | undefined;
  readonly logits: string;
  readonly logitsType: 'float32' | 'float16';
  /** All state, in the order of the inputs. */
  readonly states: readonly StatePort[];
  /** The same where all of it is keys and values that can be laid out in rows; else why it can't. */
  readonly kv: readonly KvPort[] | string;
}

const ELEMENT_NAMES: Readonly<Record<number, StateType>> = {
  1: 'float32',
  6: 'int32',
  7: 'int64',
  9: 'bool',
  10: 'float16',
};

/** Those that exporters use for keys and values and that nobody can keep here. */
const OTHER_TYPES: Readonly<Record<number, string>> = { 2: 'UINT8', 3: 'INT8', 11: 'FP64', 16: 'BF16', 17: 'FP8' };

/** Throws ServeError where an input is missing or unknown. `headSize` is that of keys and values which leave it open. */
export function readPorts(
  model: ModelSkeleton,
  values: { readonly inputs: readonly GraphValue[]; readonly outputs: readonly GraphValue[] },
  names: DecoderNames,
  headSize?: number,
): DecoderPorts {
  const constants = new Set(model.graph.initializers.map(({ name }) => name));
  const inputs = new Map(
    values.inputs
      .filter(({ name }) => !constants.has(name))
      .map((value) => [value.name, isKeyOrValue(value.name, names) ? withHeadSize(value, headSize) : value]),
  );
  const outputs = new Map(values.outputs.map((value) => [value.name, value]));
  /** Taken by name, so that what is left is unknown. */
  const take = (name: string): GraphValue | undefined => {
    const value = inputs.get(name);
    inputs.delete(name);
    return value;
  };
  const integer = (name: string): IntegerPort | undefined => {
    const value = take(name);
    if (value === undefined) return undefined;
    const type = ELEMENT_NAMES[value.elementType];
    if (type !== 'int64' && type !== 'int32') throw refusal(`input '${printable(name)}' is not of type INT64 or INT32`);
    assertOpen(value, 1);
    return { name, type };
  };

  const inputIds = integer(names.inputIds);
  if (!inputIds) {
    throw refusal(`it has no input '${printable(names.inputIds)}'; its inputs are ${list([...inputs.keys()])}`);
  }
  const attentionMask = integer(names.attentionMask);
  const positionIds = integer(names.positionIds);
  const useCacheBranch = take('use_cache_branch')?.name;
  const numLogitsToKeep = integer('num_logits_to_keep');
  const states = statesOf(inputs, outputs, names);
  const isState = (name: string): boolean => states.some(({ past }) => past === name);
  for (const value of inputs.values()) {
    if (isKeyOrValue(value.name, names)) assertOpen(value, 2);
    if (!isState(value.name) && presentNames(value.name, names).some((present) => outputs.has(present))) {
      const type = OTHER_TYPES[value.elementType] ?? `number ${value.elementType}`;
      throw refusal(`its state '${printable(value.name)}' is of type ${type}: FP32 and FP16 can be kept`);
    }
  }
  const unknown = [...inputs.keys()].filter((name) => !isState(name));
  if (unknown.length > 0) {
    throw refusal(
      `nothing is known to feed to its input${unknown.length > 1 ? 's' : ''} ${list(unknown)}: only decoders of the form that optimum's ` +
        "text-generation-with-past exports have can be served (tokens, mask, positions, and state that has an output called 'present...')",
    );
  }
  if (states.length === 0) {
    throw refusal(
      `it has no inputs like '${printable(names.pastKey.replace('%d', '0'))}': export it with its cache of keys and values`,
    );
  }
  const logits = outputs.get(names.logits);
  if (!logits)
    throw refusal(`it has no output '${printable(names.logits)}'; its outputs are ${list([...outputs.keys()])}`);
  const logitsType = ELEMENT_NAMES[logits.elementType];
  if (logitsType !== 'float32' && logitsType !== 'float16') {
    throw refusal(`output '${printable(names.logits)}' is not of type FP32 or FP16`);
  }
  return {
    inputIds,
    attentionMask,
    positionIds,
    useCacheBranch,
    numLogitsToKeep,
    logits: names.logits,
    logitsType,
    states,
    kv: keysAndValues(states, inputs, names),
  };
}

/** Pairs of input and output, by the names of keys and values, or `past...` and `present...` for other state. */
function statesOf(
  inputs: ReadonlyMap<string, GraphValue>,
  outputs: ReadonlyMap<string, GraphValue>,
  names: DecoderNames,
): StatePort[] {
  const states: StatePort[] = [];
  for (const { name, elementType, dims } of inputs.values()) {
    const present = presentNames(name, names).find((candidate) => outputs.has(candidate));
    const type = ELEMENT_NAMES[elementType];
    if (present === undefined || type === undefined) continue;
    const firstDims = dims.map((dim, axis) => (typeof dim === 'number' ? dim : axis === 0 ? 1 : 0));
    states.push({ past: name, present, type, firstDims });
  }
  return states;
}

function presentNames(past: string, names: DecoderNames): string[] {
  const templates = [
    [names.pastKey, names.presentKey],
    [names.pastValue, names.presentValue],
  ] as const;
  const found = templates.flatMap(([from, to]) => {
    const layer = layerOf(past, from);
    return layer === undefined ? [] : [to.replace('%d', layer)];
  });
  if (past.startsWith('past_key_values.')) found.push(past.replace('past_key_values.', 'present.'));
  if (past.startsWith('past')) found.push(past.replace('past', 'present'));
  return found;
}

/** [batch, heads, tokens, size] with a size: newer builders leave it open, for caches of fewer bits. */
function withHeadSize(value: GraphValue, headSize: number | undefined): GraphValue {
  const { name, dims } = value;
  if (dims.length !== 4 || typeof dims[3] === 'number') return value;
  if (headSize === undefined) {
    throw refusal(`its input '${printable(name)}' leaves the size of a head open, and no configuration names it`);
  }
  return { ...value, dims: [...dims.slice(0, 3), headSize] };
}

function isKeyOrValue(name: string, names: DecoderNames): boolean {
  return layerOf(name, names.pastKey) !== undefined || layerOf(name, names.pastValue) !== undefined;
}

/** Throws for an input that was exported for one number of tokens (its axis `tokens`), or for several sequences and no other number. */
function assertOpen({ name, dims }: GraphValue, tokens: number): void {
  const [sequences] = dims;
  const fixed = (what: string, size: number) =>
    refusal(
      `its input '${printable(name)}' always has ${size} ${what}${size === 1 ? '' : 's'}: export it with sizes of batch and sequence left open`,
    );
  if (typeof dims[tokens] === 'number') throw fixed('token', dims[tokens]);
  if (typeof sequences === 'number' && sequences !== 1 && dims.length > 1) throw fixed('sequence', sequences);
}

/** The digits that stand for `%d`. */
function layerOf(name: string, template: string): string | undefined {
  const [before, after] = template.split('%d');
  if (before === undefined || after === undefined || !name.startsWith(before) || !name.endsWith(after))
    return undefined;
  const layer = name.slice(before.length, name.length - after.length);
  return /^\d+$/.test(layer) ? layer : undefined;
}

/** `states` as keys and values, or the first reason why one of them isn't. */
function keysAndValues(
  states: readonly StatePort[],
  inputs: ReadonlyMap<string, GraphValue>,
  names: DecoderNames,
): KvPort[] | string {
  const kv: KvPort[] = [];
  for (const state of states) {
    const { past, type } = state;
    const called = `its state '${printable(past)}'`;
    if (!isKeyOrValue(past, names)) {
      return `${called} is not a key or value of attention`;
    }
    const { dims } = inputs.get(past)!;
    const [batch, heads, tokens, size] = dims;
    if (type !== 'float32' && type !== 'float16') return `${called} is of type ${type}`;
    if (dims.length !== 4 || typeof heads !== 'number' || typeof size !== 'number') {
      return `${called} has not the shape [batch, heads, tokens, size] with fixed heads and size`;
    }
    if (typeof batch === 'number' || typeof tokens === 'number')
      return `${called} has a fixed size for batch or tokens`;
    kv.push({ ...state, type, heads, size });
  }
  return kv;
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 5).map((name) => `'${printable(name, 100)}'`);
  return shown.join(', ') + (names.length > shown.length ? `, ... (${names.length} in all)` : '') || 'none';
}

function refusal(reason: string): ServeError {
  return new ServeError('FAILED_PRECONDITION', `model can't generate text: ${reason}`);
}
