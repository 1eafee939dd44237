/**
 * A tiny decoder like Llama with random but seeded weights, as optimum (plain operators, Concat) or ONNX Runtime GenAI's builder
 * (GroupQueryAttention) would export it.
 *
 * Called by tests and benches of text generation. Names and shapes are those of the exporters; what varies between them are options.
 */
import type { Datatype } from '../../src/base/datatype.js';
import { buildModel, weights } from './onnx.js';
import type { OnnxAttribute, OnnxNode, OnnxTensor, OnnxValue } from './onnx-encode.js';

export interface DecoderOptions {
  /** GroupQueryAttention with its own rotation and no position ids, or plain operators. */
  readonly attention: 'gqa' | 'plain';
  /**
   * Plain only: an input, or counted from the length of the past and turned into angles, or looked up in a table; or none but the distance
   * of tokens, which their scores lose.
   */
  readonly positions?: 'input' | 'counted' | 'counted-table' | 'distances';
  /** Plain only: what hides later tokens is a table for the context's tokens and no more. */
  readonly causalTable?: boolean;
  /** GroupQueryAttention only: runs with more tokens than so many take other rotations. */
  readonly shortRotation?: number;
  /** Every run has one token, or fails. */
  readonly oneToken?: boolean;
  /** The shape of keys and values does not say the size of a head. */
  readonly openSize?: boolean;
  /** Sizes for dimensions that are otherwise open, by name: `batch_size`, `sequence_length`, ... */
  readonly fixed?: Readonly<Record<string, number>>;
  /** Numbers of the layers, as names have them. */
  readonly layers?: readonly number[];
  /** Keys and values per layer, in heads; each must divide `heads`. */
  readonly kvHeads?: readonly number[];
  readonly heads?: number;
  /** Of a head; a multiple of 16 for GroupQueryAttention. */
  readonly size?: number;
  readonly feedForward?: number;
  readonly vocabulary?: number;
  readonly contextLength?: number;
  readonly kvType?: 'FP32' | 'FP16';
  readonly logitsType?: 'FP32' | 'FP16';
  readonly idsType?: 'INT64' | 'INT32';
  /** Tokens that a token sees, itself among them. */
  readonly window?: number;
  /** GroupQueryAttention with a window wants a past of at least that many tokens, of which later ones replace the first. */
  readonly ring?: boolean;
  /** An input that says for how many tokens logits are wanted. */
  readonly numLogitsToKeep?: boolean;
  /** An input that says whether there is a past, as decoders merged of two have it. */
  readonly useCacheBranch?: boolean;
  /** Hidden states and weights of the head are 8-bit integers, those of all tokens of a run rounded together. */
  readonly roundedHead?: boolean | 'in branches';
  /** Inputs that nobody knows. */
  readonly unknownInputs?: readonly string[];
  /** One more state of fixed size, as convolutions have: [batch, hidden, 3]; the last inputs of the first layer are added to the present one. */
  readonly convolution?: boolean;
  /** Weights go to this file; `decoderModel` returns what to write to it. */
  readonly externalFile?: string;
  readonly seed?: number;
}

export interface DecoderModel {
  readonly model: Buffer;
  /** Contents of `externalFile`. */
  readonly external: Buffer;
}

/** Collects a graph node by node. */
class Graph {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: OnnxTensor[] = [];
  readonly inputs: OnnxValue[] = [];
  readonly outputs: OnnxValue[] = [];
  readonly #fixed: Readonly<Record<string, number>>;
  #names = 0;

  constructor(fixed: Readonly<Record<string, number>> = {}) {
    this.#fixed = fixed;
  }

  input(name: string, datatype: Datatype, shape: OnnxValue['shape']): string {
    this.inputs.push({ name, datatype, shape: shape.map((dim) => this.#fixed[dim] ?? dim) });
    return name;
  }

  output(name: string, datatype: Datatype, shape: OnnxValue['shape'], from: string): void {
    this.outputs.push({ name, datatype, shape });
    this.nodes.push({ op: 'Identity', inputs: [from], outputs: [name] });
  }

  op(op: string, inputs: readonly string[], attributes: Record<string, OnnxAttribute> = {}, domain?: string): string {
    return this.ops(op, inputs, 1, attributes, domain)[0]!;
  }

  ops(
    op: string,
    inputs: readonly string[],
    count: number,
    attributes: Record<string, OnnxAttribute> = {},
    domain?: string,
  ): string[] {
    const outputs = Array.from({ length: count }, () => `v${this.#names++}`);
    this.nodes.push({ op, inputs, outputs, attributes, ...(domain ? { domain } : {}) });
    return outputs;
  }

  ints(...values: number[]): string {
    return this.constant({ datatype: 'INT64', shape: [values.length], data: values });
  }

  scalar(value: number, datatype: Datatype = 'INT64'): string {
    return this.constant({ datatype, shape: [], data: [value] });
  }

  constant(tensor: Omit<OnnxTensor, 'name'>): string {
    const name = `c${this.#names++}`;
    this.initializers.push({ name, ...tensor });
    return name;
  }

  cast(value: string, to: 'FP32' | 'FP16' | 'INT32' | 'INT64' | 'BOOL'): string {
    return this.op('Cast', [value], { to: { FP32: 1, FP16: 10, INT32: 6, INT64: 7, BOOL: 9 }[to] });
  }
}

/** The model, and the contents of its external file (empty without). */
export function decoderModel(options: DecoderOptions): DecoderModel {
  const {
    attention,
    positions = 'input',
    layers = [0, 1],
    heads = 4,
    size = 16,
    feedForward = 64,
    vocabulary = 96,
    contextLength = 256,
    kvType = 'FP32',
    logitsType = 'FP32',
    idsType = 'INT64',
    window = 1_000_000,
    seed = 7,
  } = options;
  const kvHeads = options.kvHeads ?? layers.map(() => 2);
  const hidden = heads * size;
  const g = new Graph(options.fixed);
  let seeds = seed * 1000;
  const weight = (rows: number, columns: number): string => {
    const tensor = weights(`w${seeds}`, [rows, columns], seeds++);
    g.initializers.push(tensor);
    return tensor.name;
  };
  const norm = (x: string): string =>
    g.op('LayerNormalization', [
      x,
      g.constant({ datatype: 'FP32', shape: [hidden], data: new Float32Array(hidden).fill(1) }),
    ]);

  const ids = g.input('input_ids', idsType, ['batch_size', 'sequence_length']);
  const mask = g.input('attention_mask', idsType, ['batch_size', 'total_sequence_length']);
  const positionIds =
    attention === 'plain' && positions === 'input'
      ? g.input('position_ids', idsType, ['batch_size', 'sequence_length'])
      : undefined;
  const keep = options.numLogitsToKeep ? g.input('num_logits_to_keep', 'INT64', []) : undefined;
  if (options.useCacheBranch) g.input('use_cache_branch', 'BOOL', [1]);
  for (const name of options.unknownInputs ?? []) g.input(name, 'FP32', ['batch_size', 8]);

  const embedding = weights('embedding', [vocabulary, hidden], seed);
  g.initializers.push({ ...embedding, data: (embedding.data as Float32Array).map((x) => x * 10) });
  let x = g.op('Gather', ['embedding', ids]);
  if (options.oneToken) x = g.op('Reshape', [x, g.ints(0, 1, hidden)]);
  const { shortRotation } = options;
  const [cosines, sines] =
    shortRotation === undefined
      ? rotations(g, contextLength, size)
      : chosenRotations(g, { mask, shortRotation, contextLength, size });
  const shared =
    attention === 'gqa'
      ? gqaInputs(g, mask)
      : plainInputs(g, {
          mask,
          ids,
          positionIds,
          cosines,
          sines,
          angles: positions === 'counted',
          distances: positions === 'distances',
          table: options.causalTable ? contextLength : 0,
          size,
          window,
          layer: layers[0]!,
        });

  if (options.convolution) {
    const past = g.input('past_conv.0', 'FP32', ['batch_size', hidden, 3]);
    const joined = g.op('Concat', [past, g.op('Transpose', [x], { perm: [0, 2, 1] })], { axis: 2 });
    g.output(
      'present_conv.0',
      'FP32',
      ['batch_size', hidden, 3],
      g.op('Slice', [joined, g.ints(-3), g.ints(1_000_000), g.ints(2)]),
    );
    // What came three tokens before.
    const older = g.op('Slice', [joined, g.ints(0), g.ints(-3), g.ints(2)]);
    x = g.op('Add', [x, g.op('Transpose', [older], { perm: [0, 2, 1] })]);
  }
  const local: Record<string, number> = options.window === undefined ? {} : { local_window_size: window };
  if (options.ring) local.sliding_window_cache = 1;
  for (const [l, layer] of layers.entries()) {
    const kv = kvHeads[l]!;
    const last = options.openSize ? 'kv_cache_dim' : size;
    const shape = ['batch_size', kv, 'past_sequence_length', last];
    const pastKey = g.input(`past_key_values.${layer}.key`, kvType, shape);
    const pastValue = g.input(`past_key_values.${layer}.value`, kvType, shape);
    const normed = norm(x);
    const query = g.op('MatMul', [normed, weight(hidden, hidden)]);
    const key = g.op('MatMul', [normed, weight(hidden, kv * size)]);
    const value = g.op('MatMul', [normed, weight(hidden, kv * size)]);
    const parts = { query, key, value, pastKey, pastValue, heads, kv, size, kvType };
    const [attended, presentKey, presentValue] =
      'total' in shared
        ? gqaAttention(g, { ...parts, ...shared, cosines, sines, local })
        : plainAttention(g, { ...parts, ...shared });
    const presentShape = ['batch_size', kv, 'total_sequence_length', last];
    g.output(`present.${layer}.key`, kvType, presentShape, presentKey!);
    g.output(`present.${layer}.value`, kvType, presentShape, presentValue!);
    x = g.op('Add', [x, g.op('MatMul', [attended!, weight(hidden, hidden)])]);
    const inner = norm(x);
    const gate = g.op('MatMul', [inner, weight(hidden, feedForward)]);
    const up = g.op('MatMul', [inner, weight(hidden, feedForward)]);
    const gated = g.op('Mul', [g.op('Mul', [gate, g.op('Sigmoid', [gate])]), up]);
    x = g.op('Add', [x, g.op('MatMul', [gated, weight(feedForward, hidden)])]);
  }
  let last = norm(x);
  if (keep) {
    const from = g.op('Unsqueeze', [g.op('Neg', [keep]), g.ints(0)]);
    last = g.op('Slice', [last, from, g.ints(1_000_000), g.ints(1)]);
  }
  const headWeight = weight(hidden, vocabulary);
  const before = g.nodes.length;
  let logits = options.roundedHead ? roundedProduct(g, last, headWeight) : g.op('MatMul', [last, headWeight]);
  if (options.roundedHead === 'in branches') logits = inBranches(g, before, logits);
  const typed = logitsType === 'FP16' ? g.cast(logits, 'FP16') : logits;
  g.output('logits', logitsType, ['batch_size', 'sequence_length', vocabulary], typed);
  return encode(g, options.externalFile);
}

function encode(g: Graph, externalFile: string | undefined): DecoderModel {
  const external: Buffer[] = [];
  let offset = 0;
  const initializers = g.initializers.map((tensor) => {
    if (externalFile === undefined || !(tensor.data instanceof Float32Array)) return tensor;
    const bytes = Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
    external.push(bytes);
    const place = { location: externalFile, offset, length: bytes.length };
    offset += bytes.length;
    return { ...tensor, data: undefined, external: place };
  });
  const { inputs, outputs, nodes } = g;
  return {
    model: buildModel({ name: 'decoder', inputs, outputs, nodes, initializers: initializers as OnnxTensor[] }),
    external: Buffer.concat(external),
  };
}

/** As dynamic quantisation makes a product; the weights are rounded here, not by the graph. */
function roundedProduct(g: Graph, x: string, weight: string): string {
  const at = g.initializers.findIndex(({ name }) => name === weight);
  const [{ data, shape }] = g.initializers.splice(at, 1) as [OnnxTensor];
  const largest = (data as Float32Array).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const integers = Int8Array.from(data as Float32Array, (value) => Math.round((value / largest) * 127));
  const [rounded, scale, zero] = g.ops('DynamicQuantizeLinear', [x], 3);
  const product = g.op('MatMulInteger', [rounded!, g.constant({ datatype: 'INT8', shape, data: integers }), zero!]);
  const scales = g.op('Mul', [scale!, g.scalar(largest / 127, 'FP32')]);
  return g.op('Mul', [g.cast(product, 'FP32'), scales]);
}

/** Puts the nodes from number `from` on, which make `result`, into both branches of an If, as merged decoders have theirs. */
function inBranches(g: Graph, from: number, result: string): string {
  const nodes = g.nodes.splice(from);
  const made = new Set(nodes.flatMap(({ outputs }) => outputs));
  const branch = (name: string) => {
    const own = (value: string) => (made.has(value) ? `${name}_${value}` : value);
    return {
      graph: {
        name,
        inputs: [],
        outputs: [{ name: own(result), datatype: 'FP32' as const, shape: ['batch', 'tokens', 'words'] }],
        nodes: nodes.map((node) => ({ ...node, inputs: node.inputs.map(own), outputs: node.outputs.map(own) })),
      },
    };
  };
  return g.op('If', [g.cast(g.scalar(1), 'BOOL')], { then_branch: branch('then'), else_branch: branch('else') });
}

/** Cosines and sines of every position, [contextLength + 1, size / 2]; angles are a `scale`th. */
function rotations(g: Graph, contextLength: number, size: number, scale = 1): [string, string] {
  const half = size / 2;
  const table = (f: (angle: number) => number): string => {
    const data = Float32Array.from({ length: (contextLength + 1) * half }, (_, i) =>
      f((Math.floor(i / half) * 10_000 ** (-(i % half) / half)) / scale),
    );
    return g.constant({ datatype: 'FP32', shape: [contextLength + 1, half], data });
  };
  return [table(Math.cos), table(Math.sin)];
}

/** As the builder has it for LongRoPE: a mask of more than `shortRotation` tokens makes the angles a quarter, for all sequences. */
function chosenRotations(
  g: Graph,
  o: { readonly mask: string; readonly shortRotation: number; readonly contextLength: number; readonly size: number },
): [string, string] {
  const total = g.op('Gather', [g.op('Shape', [o.mask]), g.scalar(1)]);
  const limit = { datatype: 'INT64', shape: [], data: [o.shortRotation], name: '' } as const;
  const isLong = g.op('Greater', [total, g.op('Constant', [], { value: { tensor: limit } })]);
  const branch = (name: string, tables: readonly string[]) => {
    const outputs = tables.map((_, i) => ({
      name: `${name}${i}`,
      datatype: 'FP32' as const,
      shape: ['n', o.size / 2],
    }));
    const nodes = tables.map((table, i) => ({ op: 'Identity', inputs: [table], outputs: [outputs[i]!.name] }));
    return { graph: { name, inputs: [], outputs, nodes } };
  };
  return g.ops('If', [isLong], 2, {
    then_branch: branch('long', rotations(g, o.contextLength, o.size, 4)),
    else_branch: branch('short', rotations(g, o.contextLength, o.size)),
  }) as [string, string];
}

/** As the builder makes them of the mask: the last valid index of each row, and the longest length. */
function gqaInputs(g: Graph, mask: string): { seqlens: string; total: string } {
  const sums = g.op('ReduceSum', [g.cast(mask, 'INT64'), g.ints(1)], { keepdims: 0 });
  return {
    seqlens: g.cast(g.op('Sub', [sums, g.scalar(1)]), 'INT32'),
    total: g.cast(g.op('Gather', [g.op('Shape', [mask]), g.scalar(1)]), 'INT32'),
  };
}

interface Attention {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly pastKey: string;
  readonly pastValue: string;
  readonly heads: number;
  readonly kv: number;
  readonly size: number;
  readonly kvType: 'FP32' | 'FP16';
}

function gqaAttention(
  g: Graph,
  a: Attention & {
    readonly seqlens: string;
    readonly total: string;
    readonly cosines: string;
    readonly sines: string;
    readonly local: Readonly<Record<string, number>>;
  },
): string[] {
  const half = (value: string): string => (a.kvType === 'FP16' ? g.cast(value, 'FP16') : value);
  const [attended, key, value] = g.ops(
    'GroupQueryAttention',
    [
      half(a.query),
      half(a.key),
      half(a.value),
      a.pastKey,
      a.pastValue,
      a.seqlens,
      a.total,
      half(a.cosines),
      half(a.sines),
    ],
    3,
    { num_heads: a.heads, kv_num_heads: a.kv, do_rotary: 1, ...a.local },
    'com.microsoft',
  );
  return [a.kvType === 'FP16' ? g.cast(attended!, 'FP32') : attended!, key!, value!];
}

/** Cosines and sines of the new tokens, and what keeps a token from seeing others, [batch, 1, 1, tokens, all tokens]. */
function plainInputs(
  g: Graph,
  o: {
    readonly mask: string;
    readonly ids: string;
    readonly positionIds: string | undefined;
    readonly cosines: string;
    readonly sines: string;
    /** Angles are computed, not looked up. */
    readonly angles: boolean;
    /** Tokens are told apart by their distance alone. */
    readonly distances: boolean;
    /** Tokens that a table of what is hidden has room for; 0 = no table. */
    readonly table: number;
    readonly size: number;
    readonly window: number;
    readonly layer: number;
  },
): { cos: string; sin: string; bias: string } {
  const [zero, one] = [g.scalar(0), g.scalar(1)];
  const past = g.op('Gather', [g.op('Shape', [`past_key_values.${o.layer}.key`]), g.scalar(2)]);
  const all = g.op('Add', [past, g.op('Gather', [g.op('Shape', [o.ids]), one])]);
  const queries = g.op('Unsqueeze', [g.op('Range', [past, all, one]), g.ints(1)]);
  const keys = g.op('Range', [zero, all, one]);
  const causal = o.table === 0 ? g.op('LessOrEqual', [keys, queries]) : triangle(g, o.table, past, all);
  const near = g.op('Greater', [keys, g.op('Sub', [queries, g.scalar(o.window)])]);
  const shown = g.op('Unsqueeze', [g.cast(o.mask, 'BOOL'), g.ints(1, 2, 3)]);
  const seen = g.op('And', [g.op('And', [causal, near]), shown]);
  const hidden = g.op('Where', [seen, g.scalar(0, 'FP32'), g.scalar(-3e38, 'FP32')]);
  if (o.distances) {
    const lost = g.op('Mul', [g.cast(g.op('Sub', [keys, queries]), 'FP32'), g.scalar(0.3, 'FP32')]);
    return { cos: g.scalar(1, 'FP32'), sin: g.scalar(0, 'FP32'), bias: g.op('Add', [hidden, lost]) };
  }
  const bias = hidden;
  const positions = o.positionIds ?? g.op('Unsqueeze', [g.op('Range', [past, all, one]), g.ints(0)]);
  if (o.angles) {
    const frequencies = Float32Array.from({ length: o.size / 2 }, (_, i) => 10_000 ** ((-2 * i) / o.size));
    const steps = g.constant({ datatype: 'FP32', shape: [o.size / 2], data: frequencies });
    const angles = g.op('Mul', [g.op('Unsqueeze', [g.cast(positions, 'FP32'), g.ints(1, 3)]), steps]);
    return { cos: g.op('Cos', [angles]), sin: g.op('Sin', [angles]), bias };
  }
  const rotation = (table: string): string => g.op('Unsqueeze', [g.op('Gather', [table, positions]), g.ints(1)]);
  return { cos: rotation(o.cosines), sin: rotation(o.sines), bias };
}

/** Rows `past` to `all` and columns up to `all` of a table that says which token sees which. */
function triangle(g: Graph, tokens: number, past: string, all: string): string {
  const data = Uint8Array.from({ length: tokens * tokens }, (_, i) => Number(i % tokens <= Math.floor(i / tokens)));
  const table = g.constant({ datatype: 'BOOL', shape: [tokens, tokens], data });
  const [from, to] = [past, all].map((value) => g.op('Unsqueeze', [value, g.ints(0)])) as [string, string];
  return g.op('Slice', [g.op('Slice', [table, from, to, g.ints(0)]), g.ints(0), to, g.ints(1)]);
}

function plainAttention(
  g: Graph,
  a: Attention & { readonly cos: string; readonly sin: string; readonly bias: string },
): string[] {
  const split = (value: string, heads: number): string =>
    g.op('Transpose', [g.op('Reshape', [value, g.ints(0, 0, heads, a.size)])], { perm: [0, 2, 1, 3] });
  const rotate = (value: string): string => {
    const [first, second] = g.ops('Split', [value], 2, { axis: -1 });
    const left = g.op('Sub', [g.op('Mul', [first!, a.cos]), g.op('Mul', [second!, a.sin])]);
    const right = g.op('Add', [g.op('Mul', [second!, a.cos]), g.op('Mul', [first!, a.sin])]);
    return g.op('Concat', [left, right], { axis: -1 });
  };
  const join = (past: string, value: string): string =>
    g.op('Concat', [past, a.kvType === 'FP16' ? g.cast(value, 'FP16') : value], { axis: 2 });
  const full = (value: string): string => (a.kvType === 'FP16' ? g.cast(value, 'FP32') : value);
  const presentKey = join(a.pastKey, rotate(split(a.key, a.kv)));
  const presentValue = join(a.pastValue, split(a.value, a.kv));
  const grouped = g.op('Reshape', [rotate(split(a.query, a.heads)), g.ints(0, a.kv, a.heads / a.kv, -1, a.size)]);
  const keys = g.op('Transpose', [g.op('Unsqueeze', [full(presentKey), g.ints(2)])], { perm: [0, 1, 2, 4, 3] });
  const scores = g.op('Mul', [g.op('MatMul', [grouped, keys]), g.scalar(1 / Math.sqrt(a.size), 'FP32')]);
  const chances = g.op('Softmax', [g.op('Add', [scores, a.bias])], { axis: -1 });
  const attended = g.op('MatMul', [chances, g.op('Unsqueeze', [full(presentValue), g.ints(2)])]);
  const merged = g.op('Transpose', [g.op('Reshape', [attended, g.ints(0, a.heads, -1, a.size)])], {
    perm: [0, 2, 1, 3],
  });
  return [g.op('Reshape', [merged, g.ints(0, 0, a.heads * a.size)]), presentKey, presentValue];
}
